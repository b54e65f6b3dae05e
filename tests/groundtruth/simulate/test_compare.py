"""Comparison with a recording."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.groundtruth.simulate.compare import TRAFFIC, compare, distance
from vpnforensics.packets.read import read_capture

from .cases import small


def test_distance_of_known_samples():
    assert distance(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0
    assert distance(np.array([1.0, 2.0]), np.array([3.0])) == 1
    assert distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0])) == 0.5
    assert np.isnan(distance(np.array([]), np.array([1.0])))


def test_a_case_is_like_itself_and_less_like_another(make):
    a = read_capture(make(small()).folder / "egress.pcap")
    b = read_capture(make(small("tinc")).folder / "egress.pcap")
    same, other = compare(a, a), compare(a, b)
    assert set(same.index.get_level_values("traffic")) == set(TRAFFIC)
    assert (same["ks"].dropna() == 0).all()
    assert (same["simulated_50"].dropna() == same["recorded_50"].dropna()).all()
    # tinc's segments are longer: 1397 against 1380.
    assert other.loc[("web", "length down, bytes"), "ks"] > 0.5


def test_measures_of_a_hand_counted_flow(make):
    case = make(small())
    table = compare(*[read_capture(case.folder / "egress.pcap")] * 2)
    web = [p for p in case.egress if p.ip.p == 6 and {443, 80} & {p.transport.sport, p.transport.dport}]
    up = [p.ip.len for p in web if p.transport.dport in (443, 80)]
    assert table.loc[("web", "length up, bytes"), "simulated_n"] == len(up)
    assert table.loc[("web", "length up, bytes"), "simulated_50"] == pytest.approx(np.median(up))
    flows = {frozenset([(p.src, p.transport.sport), (p.dst, p.transport.dport)]) for p in web}
    assert table.loc[("web", "flow packets"), "simulated_n"] == len(flows)
