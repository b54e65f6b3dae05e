"""Packets after a silence, and clocks by them where all packets look alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import vpnforensics as vf
from tests.truth import OFFSET_S, degrade, load, tally
from vpnforensics.align.beginnings import QUIET_NS, beginnings
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Capture, Countermeasures


def test_a_packet_begins_after_a_silence_of_its_own_group() -> None:
    group = np.array([1, 2, 1, 1, 2, 1])
    ts_ns = np.array([0, 5, 10, 10 + QUIET_NS, 6 + QUIET_NS, 11 + 2 * QUIET_NS])
    assert beginnings(group, ts_ns).tolist() == [True, True, False, False, True, True]
    shuffled = np.array([3, 0, 5, 1, 4, 2])
    assert beginnings(group[shuffled], ts_ns[shuffled]).tolist() == [False, True, True, True, True, False]


def test_clocks_of_padded_tunnels_under_jitter(tmp_path: Path) -> None:
    """All packets of one size, two clocks, 10 ms of jitter: aligned, and no wrong link."""
    snap = Capture(snaplen=96)
    padded = Countermeasures(pad_mtu=True)
    simulate(
        mixed_case(10, 40, duration_s=60.0, ingress=snap, egress=snap, countermeasures=padded), tmp_path, 3
    )
    damaged = degrade(load(tmp_path), jitter_s=0.010)
    case = vf.correlate(damaged.ingress, damaged.egress)
    assert case.alignment.status == "aligned"
    assert abs(case.alignment.offset_ns / 1e9 - OFFSET_S) < 0.005
    found = tally(damaged, case, offset_s=OFFSET_S)
    assert found.wrong == 0
    assert found.long_share > 0.1
