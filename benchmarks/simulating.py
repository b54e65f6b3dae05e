"""Rate and memory of the simulator: a case and one of four times the clients, by one process and by several.

Memory is what only swap could hold, of the process that was started and of the largest that it started,
looked at fifty times a second. A packet counts at each tap.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from figures import figure, heading
from scale import anonymous_bytes, packets_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tunnels", type=int, default=50)
    parser.add_argument("--copies", type=int, default=4, help="of the clients, in the larger case")
    parser.add_argument("--flows", type=int, default=250)
    parser.add_argument("--scale", type=float, default=0.14)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, len(os.sched_getaffinity(0))])
    parser.add_argument("--keep", type=Path, help="where the last case stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = options.keep or Path(scratch) / "case"
        for tunnels in (options.tunnels, options.tunnels * options.copies):
            for jobs in options.jobs:
                heading(f"{tunnels:,} tunnels, --jobs {jobs}")
                show(out, simulate(tunnels, jobs, options.flows, options.scale))


def simulate(tunnels: int, jobs: int, flows: int, scale: float) -> list[str]:
    """The command, but for where."""
    words = ["--tunnels", tunnels, "--flows", flows, "--scale", scale, "--duration", 300, "--jobs", jobs]
    words += ["--offset", 12.5, "--drift", 20, "--snaplen", 96, "-q"]
    return [sys.executable, "-m", "vpnforensics", "simulate", *map(str, words)]


def show(out: Path, command: list[str]) -> None:
    """Run it, and say what it took."""
    begin_s = time.monotonic()
    process = subprocess.Popen([*command, "-o", str(out)])
    own, largest, disk = 0, 0, 0
    for looked in count():
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        own = max(own, anonymous_bytes(process.pid)[0])
        for child in children(process.pid):
            largest = max(largest, anonymous_bytes(child)[0])
        if looked % 50 == 0:
            disk = max(disk, stored_bytes(out))
        time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    elapsed_s = time.monotonic() - begin_s
    packets = packets_of(out / "ingress.pcap") + packets_of(out / "egress.pcap")
    written = stored_bytes(out)
    figure("packets", f"{packets:,}")
    figure(
        "seconds, by the clock and of processors", f"{elapsed_s:,.0f}, {usage.ru_utime + usage.ru_stime:,.0f}"
    )
    figure("packets a second by the clock", f"{packets / elapsed_s:,.0f}")
    figure("memory of the process, of its largest child", f"{own / 2**20:,.0f}, {largest / 2**20:,.0f} MiB")
    figure("disk, at most / when done", f"{disk / packets:.0f} / {written / packets:.0f} bytes a packet")


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    with suppress(OSError):
        told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(word) for word in told.split()]
    return []


def stored_bytes(folder: Path) -> int:
    """What the files below a folder take on the disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it comes and goes
                total += Path(parent, name).stat().st_blocks * 512
    return total


if __name__ == "__main__":
    main()
