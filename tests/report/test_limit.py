"""Twins: counted as a slow loop over all pairs of flows counts them."""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from vpnforensics.engines.case import EgressRows
from vpnforensics.report import limit
from vpnforensics.report.limit import TWIN_SD, twins

STEP_NS = 1_000


def law(sd_ns):
    """A normal delay law of each direction, tabulated as the engine does."""
    at = (np.arange(4_000) - 2_000) * STEP_NS
    density = {
        side: np.exp(-0.5 * (at / sd) ** 2) / sd for side, sd in zip(("down", "up"), sd_ns, strict=True)
    }
    return {"low_ns": int(at[0]), "step_ns": STEP_NS, **density}


def case_of(flows):
    """Flows as lists of (ns, bytes, up)."""
    start = np.r_[0, np.cumsum([len(flow) for flow in flows])]
    ns, size, up = (np.array(column) for column in zip(*(p for flow in flows for p in flow), strict=True))
    rows = EgressRows(start, np.arange(len(ns), dtype=np.int32), ns, size.astype(np.int32), up.astype(bool))
    return SimpleNamespace(egress=rows, flows=flows)


def decision_of(tunnel, sd_ns):
    none = np.zeros(0, np.int32)
    return SimpleNamespace(
        delay_law=law(sd_ns),
        tunnel=np.array(tunnel),
        llr=np.zeros(0),
        scores=SimpleNamespace(flow=none, tunnel=none),
    )


def counted_slowly(flows, tunnel, sd_ns):
    found = set()
    for a, b in combinations(range(len(flows)), 2):
        if tunnel[a] == tunnel[b] or tunnel[a] < 0 or tunnel[b] < 0:
            continue
        first, second = (sorted(flow, key=lambda p: (p[2], p[1], p[0])) for flow in (flows[a], flows[b]))
        if [p[1:] for p in first] != [p[1:] for p in second]:
            continue
        apart = sum(((p[0] - q[0]) / sd_ns[int(p[2])]) ** 2 for p, q in zip(first, second, strict=True))
        if apart < TWIN_SD**2:
            found |= {a, b}
    return len(found)


@pytest.mark.parametrize("at_once", [1, 40, limit._PACKETS_AT_ONCE])
@pytest.mark.parametrize("seed", range(6))
def test_as_many_as_all_pairs_show(seed, at_once, monkeypatch):
    monkeypatch.setattr(limit, "_PACKETS_AT_ONCE", at_once)
    rng = np.random.default_rng(seed)
    sd_ns = (100_000.0, 300_000.0)
    flows, tunnel = [], []
    for _ in range(60):
        begin = int(rng.integers(0, 20_000_000))
        answered = int(rng.choice([120, 121]))
        flows.append([(begin, 60, True), (begin + int(rng.integers(1, 900_000)), answered, False)])
        tunnel.append(int(rng.integers(-1, 3)))
    expected = counted_slowly(flows, tunnel, sd_ns)
    assert expected > 5
    assert twins(case_of(flows), decision_of(tunnel, sd_ns)) == expected


def test_the_same_tunnel_other_sizes_or_a_moment_later_are_none():
    lookup = [(0, 60, True), (1_000_000, 120, False)]
    near = [(ns + 50_000, size, up) for ns, size, up in lookup]
    later = [(ns + 900_000, size, up) for ns, size, up in lookup]
    longer = [(ns + 50_000, size + 1, up) for ns, size, up in lookup]
    sd_ns = (100_000.0, 100_000.0)
    assert twins(case_of([lookup, near]), decision_of([0, 1], sd_ns)) == 2
    assert twins(case_of([lookup, near]), decision_of([1, 1], sd_ns)) == 0
    assert twins(case_of([lookup, later]), decision_of([0, 1], sd_ns)) == 0
    assert twins(case_of([lookup, longer]), decision_of([0, 1], sd_ns)) == 0


def test_without_a_delay_law_nothing_is_said():
    lookup = [(0, 60, True), (1_000_000, 120, False)]
    decision = decision_of([0, 1], (1e5, 1e5))
    decision.delay_law = {}
    assert twins(case_of([lookup, lookup]), decision) is None


def test_a_flow_that_is_not_linked_counts_with_its_likeliest_tunnel():
    lookup = [(0, 60, True), (1_000_000, 120, False)]
    decision = decision_of([-1, 1], (1e5, 1e5))
    decision.scores = SimpleNamespace(flow=np.array([0, 0], np.int32), tunnel=np.array([1, 0], np.int32))
    decision.llr = np.array([0.5, 2.0])
    assert twins(case_of([lookup, lookup]), decision) == 2
    decision.llr = np.array([2.0, 0.5])
    assert twins(case_of([lookup, lookup]), decision) == 0


def test_flows_are_compared_by_whole_groups_and_few_packets_at_once():
    group, packets = np.array([0, 0, 1, 2, 2, 2, 3]), np.array([5, 5, 1, 2, 2, 2, 30])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limit, "_PACKETS_AT_ONCE", 11)
        some = list(limit._batches(group, packets))
    assert some == [slice(0, 3), slice(3, 7)]
