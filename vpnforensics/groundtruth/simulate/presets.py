"""Stock stacks, after the table of what is seen in the wild (see the documentation of each field's class)."""

from __future__ import annotations

from vpnforensics.groundtruth.simulate.spec import ClockModel, IpIdModel, Stack

LINUX = Stack("linux", ClockModel("per_connection"), IpIdModel("per_flow", "bucket"))
LINUX_PER_PAIR = Stack("linux-4.11", ClockModel("per_pair"), IpIdModel("per_flow", "bucket"))
LINUX_LEGACY = Stack(
    "linux-legacy", ClockModel("global", hz=250.0), IpIdModel("per_flow", "bucket"), window=29200
)
LINUX_NEXT = Stack("linux-next", ClockModel("per_connection"), IpIdModel("zero", "zero"))
ANDROID_LEGACY = Stack("android-legacy", ClockModel("global", hz=100.0), IpIdModel("per_flow", "bucket"))
WINDOWS = Stack(
    "windows",
    ClockModel("none"),
    IpIdModel("per_destination", "per_destination"),
    ttl=128,
    options="windows",
    window=64240,
    window_scale=8,
    gro_us=0.0,
    read_us=0.0,
    quick_acks=2,
)
WINDOWS_7 = Stack(
    "windows-7",
    ClockModel("none"),
    IpIdModel("global", "global", other_hz=4.0),
    ttl=128,
    options="windows",
    window=8192,
    window_scale=8,
    gro_us=0.0,
    read_us=0.0,
    quick_acks=2,
)
MACOS = Stack(
    "macos",
    ClockModel("per_connection"),
    IpIdModel("zero", "random"),
    options="macos",
    window=65535,
    window_scale=6,
)
MACOS_LEGACY = Stack(
    "macos-legacy",
    ClockModel("global", wander_ppm=2000.0, skew_ppm=-12000.0),
    IpIdModel("zero", "random"),
    options="macos",
    window=65535,
    window_scale=5,
)
OPENBSD = Stack("openbsd", ClockModel("per_connection", hz=2.0), IpIdModel("random", "random"), window=16384)
PRINTER = Stack("printer", ClockModel("none"), IpIdModel("byte_swapped", "byte_swapped"), options="windows")
CONSTANT_ID = Stack("constant-id", ClockModel("per_connection"), IpIdModel("constant", "constant"))

STACKS = {
    stack.name: stack
    for stack in (
        LINUX,
        LINUX_PER_PAIR,
        LINUX_LEGACY,
        LINUX_NEXT,
        ANDROID_LEGACY,
        WINDOWS,
        WINDOWS_7,
        MACOS,
        MACOS_LEGACY,
        OPENBSD,
        PRINTER,
        CONSTANT_ID,
    )
}
