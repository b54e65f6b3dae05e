"""A clock that is set in mid-capture: frames of both sides come to lie on one clock all the same."""

import struct
from dataclasses import replace

import numpy as np
import pytest

import vpnforensics as vf
from vpnforensics.align.alignment import Alignment, ClockPart, ClockStep
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Capture
from vpnforensics.report.annotated import annotated
from vpnforensics.report.straight_times import CommonClock
from vpnforensics.saved import open_case

S = 1_000_000_000
NANOSECONDS = 0xA1B23C4D


def pcap_with_clock_set(stored: bytes, size_ns: int, share: float) -> bytes:
    """A pcap whose clock was set before the frame that stands at this share of its frames."""
    (magic,) = struct.unpack_from("<I", stored)
    unit = 1 if magic == NANOSECONDS else 1000
    octets, places, at = bytearray(stored), [], 24
    while at < len(stored):
        places.append(at)
        at += 16 + struct.unpack_from("<I", stored, at + 8)[0]
    for at in places[int(len(places) * share) :]:
        seconds, rest = struct.unpack_from("<II", stored, at)
        seconds, rest = divmod(seconds * S + rest * unit + size_ns, S)
        struct.pack_into("<II", octets, at, seconds, rest // unit)
    return bytes(octets)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    spec = mixed_case(
        tunnels=4, flows=20, duration_s=60.0, scale=0.2, egress=Capture(offset_s=17.25, drift_ppm=20.0)
    )
    simulate(spec, folder, 3)
    return folder


@pytest.mark.parametrize(
    ("role", "size_ns"),
    [("egress", -3 * S), ("egress", 3600 * S), ("ingress", -3 * S), ("ingress", 2 * S)],
)
def test_ingress_and_egress_are_aligned_on_both_sides_of_a_step(simulated, tmp_path, role, size_ns):
    paths = {side: tmp_path / f"{side}.pcap" for side in ("ingress", "egress")}
    for side, path in paths.items():
        stored = (simulated / path.name).read_bytes()
        path.write_bytes(pcap_with_clock_set(stored, size_ns, 0.4) if side == role else stored)
    case = vf.correlate(paths["ingress"], paths["egress"])
    assert [(step.role, round(step.size_ns / S)) for step in case.alignment.steps] == [(role, size_ns // S)]
    saved = tmp_path / "case.json"
    saved.write_text(case.to_json())
    both = tmp_path / "both.pcapng"
    both.write_bytes(b"".join(annotated(open_case(saved))))

    made = vf.read_capture(both)
    assert (np.diff(made.ts_ns) >= 0).all()  # the set clock does not show
    frames = vf.read_capture(paths["ingress"]), vf.read_capture(paths["egress"])
    assert len(made) == sum(map(len, frames))
    first = made.iface == made.iface[np.argmin(made.frame)]
    of_ingress = first if int(first.sum()) == len(frames[0]) else ~first
    pairs = case.pairings.dropna(subset=["ingress_frame"])
    at = {}
    for name, mine, table in zip(("ingress", "egress"), (of_ingress, ~of_ingress), frames, strict=True):
        row = np.searchsorted(table.frame, pairs[f"{name}_frame"].to_numpy(np.int64))
        at[name] = made.ts_ns[mine][row]
    passed = np.where(pairs["up"], 1, -1) * (at["egress"] - at["ingress"])
    assert len(pairs) > 500
    assert np.abs(passed - pairs["delay_ns"].to_numpy(np.int64)).max() < 100


def set_clock(role, size_ns):
    """An egress clock 10 s ahead; one of the clocks is set 5 s after the beginning."""
    alignment = Alignment("aligned", 10 * S, (10 * S, 10 * S), reference_ns=10 * S)
    change = size_ns if role == "egress" else -size_ns
    begins = (10 * S, 15 * S + (size_ns if role == "egress" else 0))
    parts = tuple(
        ClockPart(begin, begin + 5 * S, 10 * S + k * change, (0, 0), 5) for k, begin in enumerate(begins)
    )
    at_ns = begins[1] if role == "egress" else 5 * S + size_ns
    return replace(alignment, parts=parts, steps=(ClockStep(role, -1, size_ns, -1, at_ns=at_ns),))


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize("size_ns", [-3 * S, -200_000_000, 200_000_000, 3600 * S])
@pytest.mark.parametrize("role", ["ingress", "egress"])
def test_every_frame_by_its_place_in_the_file(role, size_ns, batch):
    """Frames that no packet of the case is, just before the step and just after it, are put right, too."""
    true_ns = np.sort(np.r_[np.arange(0, 10 * S, 70_000_000), 5 * S - 9_000_000, 5 * S - 1])
    after = true_ns >= 5 * S - 1  # the very first one behind the step is none of the case's
    for side in ("ingress", "egress"):
        captured = true_ns + (10 * S if side == "egress" else 0) + after * (size_ns if side == role else 0)
        clock = CommonClock(set_clock(role, size_ns), side)
        pieces = [clock.of(captured[k : k + batch]) for k in range(0, len(captured), batch)]
        made = np.concatenate(pieces)
        assert made.tolist() == true_ns.tolist()
