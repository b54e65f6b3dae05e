"""The joint model on cases whose answer is plain, or can be enumerated."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tests.evidence.joint.made import made
from vpnforensics.engines.containment import Containment
from vpnforensics.evidence.joint import model, rounds
from vpnforensics.evidence.joint.model import Posterior, solve
from vpnforensics.tunnels.length_map import LengthMap

LOOKUP = ((0.0, 80, True), (20.0, 120, False))


def _lookup(at_ms: float) -> list[tuple[float, int, bool]]:
    return [(at_ms + t, size, up) for t, size, up in LOOKUP]


def _carried(at_ms: float, tunnel: int) -> list[tuple[float, int, bool, int]]:
    return [(t, size, up, tunnel) for t, size, up in _lookup(at_ms)]


def _solve(
    flows: list[list[tuple[float, int, bool]]],
    records: list[tuple[float, int, bool, int]],
    tunnels: int,
    sd_ms: float = 1.0,
) -> Posterior:
    case = made(flows, records, tunnels=tunnels, sd_ms=sd_ms)
    wanted = np.ones(len(case.fresh), np.bool_)
    return solve(case, wanted, np.full(len(flows), tunnels))


def _busy(rng: np.random.Generator, lookups: int, tunnels: int, sd_ms: float = 1.0):  # type: ignore[no-untyped-def]
    """Lookups at random times, each in a tunnel of its own choice, with normal delays."""
    at = np.sort(rng.uniform(0, 2000.0 * lookups / 20, lookups))
    tunnel = rng.integers(0, tunnels, lookups)
    records = [r for t, k in zip(at, tunnel, strict=True) for r in _carried(float(t), int(k))]
    flows = [
        [(t + float(rng.normal(0, sd_ms)), size, up) for t, size, up in _lookup(float(begin))] for begin in at
    ]
    return flows, records, tunnel


def test_flows_apart_are_in_their_tunnels() -> None:
    flows, records, tunnel = _busy(np.random.default_rng(1), 40, 3)
    found = _solve(flows, records, 3)
    sure = found.error < 1e-3
    assert sure.mean() > 0.8
    assert (found.best[sure] == tunnel[sure]).all()


def test_stated_errors_are_those_observed() -> None:
    """Of many crowded lookups, as many likeliest tunnels are wrong as the errors sum up to."""
    stated, wrong, asked = 0.0, 0, 0
    for seed in range(20):
        flows, records, tunnel = _busy(np.random.default_rng(seed), 60, 4, sd_ms=12.0)
        found = _solve(flows, records, 4, sd_ms=12.0)
        stated += float(found.error.sum())
        wrong += int((found.best != tunnel).sum())
        asked += len(flows)
    assert asked > 1000
    assert wrong > 30  # a hard case, or the test says nothing
    assert 0.6 * wrong < stated < 2.5 * wrong


def test_a_record_carries_one_packet() -> None:
    """Two equal flows and the records of one: at most one is in the tunnel, and which one cannot be told."""
    background = [f for t in range(20) for f in _carried(5_000.0 + 500 * t, 0)]
    others = [_lookup(5_000.0 + 500 * t) for t in range(20)]
    found = _solve([_lookup(0.0), _lookup(0.1), *others], [*_carried(0.05, 0), *background], 1)
    assert (found.error[:2] > 0.3).all()
    assert (found.error[2:] < 1e-3).all()


def test_two_queries_need_two_records_each() -> None:
    """A stranger beside a lookup of two equal queries finds each record needed, though not by which query."""
    twice = [(0.0, 80, True), (0.2, 80, True), (20.0, 120, False), (20.2, 120, False)]
    mine = [(t, size, up, 0) for t, size, up in twice]
    background = [f for t in range(20) for f in _carried(5_000.0 + 500 * t, 0)]
    others = [_lookup(5_000.0 + 500 * t) for t in range(20)]
    stranger = [(t + 0.1, size, up) for t, size, up in twice]
    alone = _solve([twice, *others], [*mine, *background], 1)
    assert alone.error[0] < 1e-4
    both = _solve([twice, stranger, *others], [*mine, *background], 1)
    assert (both.error[:2] > 0.3).all()


def test_swapped_twins_are_coin_flips_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two flows that may have swapped tunnels, against all assignments one by one."""
    rng = np.random.default_rng(3)
    flows, records, _ = _busy(rng, 30, 2)
    begin = 40_000.0
    talk = [(float(t), 80 + 16 * (i % 2), bool(i % 2)) for i, t in enumerate(range(0, 60, 10))]
    a = [(begin + t + rng.normal(0, 1), size, up) for t, size, up in talk]
    b = [(begin + t + rng.normal(0, 1), size, up) for t, size, up in talk]
    both = [(begin + t + shift, size, up, k) for k, shift in ((0, 0.0), (1, 0.9)) for t, size, up in talk]
    found = _solve([*flows, a, b], [*records, *both], 2)
    wrong = []
    for a_in, b_in in ((0, 1), (1, 0)):
        log = 0.0
        for flow, k in ((a, a_in), (b, b_in)):
            for (t, _, _), (r, _, _, _) in zip(flow, [x for x in both if x[3] == k], strict=True):
                log += -0.5 * (t - r) ** 2
        wrong.append(log)
    exact = np.exp(min(wrong) - np.logaddexp(*wrong))
    error = found.error[-2:]
    assert (error < 4 * exact + 0.02).all()
    assert (error > exact / 4).all()
    monkeypatch.setattr(rounds, "pair_errors", lambda graph, *rest: np.zeros(len(graph.flow_pairs) - 1))
    assert _solve([*flows, a, b], [*records, *both], 2).error[-2:].min() < error.min()


@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_of_a_burst_with_one_flow_too_many_none_is_sure(jitter: float) -> None:
    """Six lookups and records for five, of one tunnel: each may be the one that was not there."""
    at = 1000.0 + jitter * np.arange(6)
    beside = list(np.arange(0.0, 900.0, 30.0))
    flows = [_lookup(float(t)) for t in [*at, *beside]]
    records = [r for t in [*at[:5], *beside] for r in _carried(float(t), 0)]
    found = _solve(flows, records, 1)
    assert (found.error[:6] > 0.05).all()
    assert (found.error[6:] < 1e-3).all()
    # With records for all six, there is no doubt.
    found = _solve(flows, records + _carried(float(at[5]), 0), 1)
    assert (found.error < 1e-3).all()


def test_who_does_not_fit_in_anothers_place_takes_no_part_in_the_doubt() -> None:
    flows = [_lookup(t) for t in (1000.0, 1000.5, 1000.2, 1100.0)]
    records = [r for t in (1000.0, 1000.5, 1100.0) for r in _carried(t, 0)]
    found = _solve(flows, records, 1)
    assert (found.error[:3] > 0.2).all()
    assert found.error[3] < 1e-3


def test_a_missed_record_left_a_hole_in_the_counter() -> None:
    """Of two tunnels with half of a flow each, it was in the one whose counter has a hole for the rest."""
    flow = [_lookup(1000.0)]
    halves = [(1000.0, 80, True, 0), (1000.0, 80, True, 1)]
    beside = [r for t in (0.0, 2000.0) for k in (0, 1) for r in _carried(t, k)]

    def odds(holes: list[tuple[int, bool, float, float]]) -> list[float]:
        case = made(flow + [_lookup(t) for t in (0.0, 2000.0)], halves + beside, tunnels=2, holes=holes)
        found = solve(case, np.ones(len(case.fresh), np.bool_), np.full(3, 2))
        return found.pair_odds[found.pair_flow == 0].tolist()

    in_first, in_second = odds([(0, False, 900.0, 1100.0)])
    assert in_first - in_second > np.log(5)
    in_first, in_second = odds([])
    assert in_first == pytest.approx(in_second)


def test_strangers_are_in_no_tunnel() -> None:
    """Flows whose tunnel was not captured: P(none) is learned, and none of them is sure of any other."""
    rng = np.random.default_rng(5)
    flows, records, tunnel = _busy(rng, 80, 2)
    kept = [r for r in records if r[3] == 0]
    found = _solve(flows, kept, 1)
    assert 0.3 < found.none_share < 0.7
    assert (found.error[tunnel == 1] > 1e-2).all()
    assert (found.error[tunnel == 0] < 1e-2).mean() > 0.8


def test_what_the_checks_take_from_the_likeliest_the_others_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lookups of one moment, two tunnels: the alternatives are raised as much as the error."""
    flows = [_lookup(1000.0), _lookup(1000.4), *(_lookup(t) for t in (0.0, 3000.0))]
    records = _carried(1000.0, 0) + _carried(1000.4, 1)
    records += [r for t in (0.0, 3000.0) for k in (0, 1) for r in _carried(t, k)]
    checked = _solve(flows, records, 2)
    nothing = (np.zeros(0, np.int64), np.zeros(0))
    monkeypatch.setattr(model, "worst_errors", lambda *_: nothing)
    heard = _solve(flows, records, 2)
    for flow in (0, 1):
        raised = checked.error[flow] / heard.error[flow]
        assert raised > 2
        other = (checked.pair_flow == flow) & (checked.pair_tunnel != checked.best[flow])
        before, after = (1 / (1 + np.exp(-found.pair_odds[other])) for found in (heard, checked))
        np.testing.assert_allclose(after, before * raised)
        unlisted = checked.unlisted_odds[flow] - heard.unlisted_odds[flow]
        assert unlisted == pytest.approx(np.log(raised)) or checked.unlisted_odds[flow] == 0.0


def test_what_is_unlisted_is_against() -> None:
    flows, records, _ = _busy(np.random.default_rng(7), 30, 3)
    found = _solve(flows, records, 3)
    llr = found.unlisted_odds - found.log_prior
    assert (llr[found.error < 1e-3] < -3).all()
    pairs = set(product(range(30), range(3))) - set(
        zip(found.pair_flow.tolist(), found.pair_tunnel.tolist(), strict=True)
    )
    assert pairs  # some have no packet in common


@pytest.mark.parametrize(("equal", "asked"), [(20, True), (30, False)])
def test_in_a_crowd_of_padded_packets_nobody_is_asked(equal: int, asked: bool) -> None:
    """All packets of one size: with few records in reach of each the model speaks, with many it does not."""
    case = _alike(equal, LengthMap(99, 2048, 0, 1, "learned"))
    assert case.classes.all_padded
    found = solve(case, np.ones(equal, np.bool_), np.full(equal, 2))
    assert (found.asked == asked).all()
    # Lengths that tell are no crowd.
    case = _alike(equal, LengthMap(32))
    assert solve(case, np.ones(equal, np.bool_), np.full(equal, 2)).asked.all()


def test_a_packet_among_too_many_like_it_is_not_looked_for() -> None:
    """In the two tunnels it might be fifty; what else its flow has is."""
    for equal, asked in ((50, True), (51, False)):
        case = _alike(equal, LengthMap(32), (1000.0, 200, True))
        found = solve(case, np.ones(equal + 1, np.bool_), np.full(equal, 2))
        assert found.asked[0]
        assert (found.asked[1:] == asked).all()


def _alike(equal: int, length_map: LengthMap, *more: tuple[float, int, bool]) -> Containment:
    """Flows of one packet each, alike and at one moment, and the first one's others; all in tunnel 0."""
    flows = [[(1000.0 + 0.01 * n, 100, True)] for n in range(equal)]
    flows[0] += more
    records = [(*packet, 0) for flow in flows for packet in flow]
    case = made(flows, records, tunnels=2)
    return replace(case, classes=replace(case.classes, maps=(length_map,)))


def test_flows_with_too_many_possible_records_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    flows, records, _ = _busy(np.random.default_rng(9), 20, 2)
    monkeypatch.setattr(model, "_MOST_EDGES", 30)
    found = _solve(flows, records, 2)
    assert 0 < found.left_out < 20
    assert (~found.asked).sum() == found.left_out
    assert (found.error[~found.asked] == 1.0).all()
    assert (found.best[~found.asked] == -1).all()
