from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vpnforensics import samples
from vpnforensics.features.capture_clock import capture_steps, on_one_clock
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PacketTable

CAPTURES = ["wireguard/egress.pcap", "openvpn-tcp/ingress.pcap", "sll2/capture.pcap"]


def set_by(packets: PacketTable, size_s: float, row: int) -> PacketTable:
    leap_ns = round(size_s * 1e9) * (np.arange(len(packets)) >= row)
    return replace(packets, ts_ns=packets.ts_ns + leap_ns)


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("size_s", [-3600.0, -1.5, 2.0, 86_400.0])
def test_all_senders_that_leap_at_once_are_the_captures_clock(name: str, size_s: float) -> None:
    packets = read_capture(samples.FOLDER / name)
    row = round(0.55 * len(packets))
    stepped = set_by(packets, size_s, row)
    (step,) = capture_steps(stepped)
    assert step.row == row
    assert step.at_ns == stepped.ts_ns[row]
    assert abs(step.size_ns - size_s * 1e9) < 20_000_000
    straight = on_one_clock(stepped, [step]).ts_ns
    assert np.abs(np.diff(straight) - np.diff(packets.ts_ns)).max() < 20_000_000


@pytest.mark.parametrize("folder", sorted(p.name for p in samples.FOLDER.iterdir() if p.is_dir()))
def test_no_clock_of_a_sample_was_set(folder: str) -> None:
    for path in sorted((samples.FOLDER / folder).glob("*.pcap*")):
        assert capture_steps(read_capture(path)) == ()


def test_one_sender_that_leaps_is_not_the_capture() -> None:
    packets = read_capture(samples.FOLDER / "wireguard" / "egress.pcap")
    sent = packets.src == packets.src[np.flatnonzero(packets.has_ts == 1)[0]]
    sent &= packets.sport == packets.sport[np.flatnonzero(sent & (packets.has_ts == 1))[0]]
    later = sent & (np.arange(len(packets)) > len(packets) // 2)
    rebooted = replace(packets, tsval=np.where(later, packets.tsval + np.uint32(5000), packets.tsval))
    assert capture_steps(rebooted) == ()


def test_a_step_without_timestamps_is_silent() -> None:
    packets = read_capture(samples.FOLDER / "wireguard" / "ingress.pcap")
    assert capture_steps(set_by(packets, -5.0, len(packets) // 2)) == ()
