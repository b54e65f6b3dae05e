"""Who is placed before the joint model, and what that leaves."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evidence.joint.made import Packet, Record, made
from vpnforensics.engines.case import ScoreTable
from vpnforensics.engines.containment import Ownership
from vpnforensics.evidence.joint.placing import place_strong, with_room
from vpnforensics.evidence.policy import Policy
from vpnforensics.tunnels.length_map import LengthMap


def _long(rng: np.random.Generator, begin_ms: float, packets: int = 25) -> list[Packet]:
    """Packets of many sizes."""
    at = begin_ms + np.sort(rng.uniform(0, 5000, packets))
    return [(float(t), 100 + 16 * int(rng.integers(0, 12)), bool(rng.integers(0, 2))) for t in at]


def test_long_flows_leave_with_their_records() -> None:
    rng = np.random.default_rng(2)
    flows = [_long(rng, 1000.0 * f) for f in range(6)]
    records = [(t, size, up, f % 3) for f, of in enumerate(flows) for t, size, up in of]
    short = [(500.0, 100, True)]
    case = made([*flows, short], [*records, (500.2, 100, True, 1)], tunnels=3)
    placed = place_strong(case, np.arange(7, dtype=np.int32), Policy())
    assert placed.tunnel.tolist() == [0, 1, 2, 0, 1, 2, -1]
    assert (placed.margin[:6] >= 12.0).all()
    assert (placed.record >= 0).sum() == 6 * 25
    assert len(placed.rest.classes.ts_ns) == 1  # the short flow's record is nobody else's now


def test_a_copy_of_a_flow_is_not_placed_beside_it() -> None:
    """Its records are the stronger one's: a flow of the same sizes at the same times has none of its own."""
    rng = np.random.default_rng(4)
    flow = _long(rng, 0.0)
    twin = [(t + float(rng.normal(0, 2)), size, up) for t, size, up in flow]
    case = made([flow, twin], [(t, size, up, 0) for t, size, up in flow], tunnels=2, sd_ms=2.0)
    placed = place_strong(case, np.arange(2, dtype=np.int32), Policy())
    assert sorted(placed.tunnel.tolist()) == [-1, 0]


def test_what_fits_two_tunnels_is_left_to_the_model() -> None:
    rng = np.random.default_rng(6)
    flow = _long(rng, 0.0)
    case = made([flow], [(t, size, up, k) for t, size, up in flow for k in (0, 1)], tunnels=2)
    assert place_strong(case, np.zeros(1, np.int32), Policy()).tunnel.tolist() == [-1]


@pytest.mark.parametrize("padded", [False, True])
def test_of_padded_tunnels_a_flow_that_is_strong_in_two_is_left_to_the_model(padded: bool) -> None:
    """Of fifty packets one tunnel has all, the other half."""
    flow = _long(np.random.default_rng(6), 0.0, 50)
    records: list[Record] = [(*packet, 0) for packet in flow]
    records += [(*packet, 1) for packet in flow[:25]]
    case = made([flow], records, tunnels=2)
    length_map = LengthMap(99, 2048, 0, 1, "learned") if padded else LengthMap(32)
    case = replace(case, classes=replace(case.classes, maps=(length_map,)))
    assert case.classes.all_padded == padded
    pairs = case.score(np.zeros(1, np.int32))
    _, lead = pairs.best(1)
    assert lead[0] > 12.0
    assert (pairs.score >= 12.0).sum() == 2
    assert place_strong(case, np.zeros(1, np.int32), Policy()).tunnel.tolist() == [-1 if padded else 0]


def test_lead_is_over_nothing_and_over_the_next() -> None:
    pairs = ScoreTable(
        np.array([0, 0, 2, 2, 2], np.int32),
        np.array([1, 0, 2, 0, 1], np.int32),
        np.array([3.0, 5.0, 9.0, 9.0, -1.0]),
        np.zeros(5, np.int32),
    )
    best, lead = pairs.best(4)
    assert best.tolist() == [1, -1, 3, -1]  # ties go to the lower tunnel
    np.testing.assert_allclose(lead, [2.0, -np.inf, 0.0, -np.inf])


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 5), st.sampled_from([-2.0, 0.0, 0.5, 1.0, 4.0, 7.5])),
        unique_by=lambda pair: pair[:2],
    )
)
def test_best_pair_of_each_flow(listed: list[tuple[int, int, float]]) -> None:
    flow, tunnel, score = (np.array([pair[k] for pair in listed]) for k in range(3))
    pairs = ScoreTable(
        flow.astype(np.int32), tunnel.astype(np.int32), score.astype(float), np.zeros(len(flow), np.int32)
    )
    best, lead = pairs.best(6)
    for f in range(6):
        mine = sorted((-s, t, row) for row, (g, t, s) in enumerate(listed) if g == f)
        scores = [max(-s, 0.0) for s, _, _ in mine]
        assert best[f] == (mine[0][2] if mine else -1)
        assert lead[f] == (scores[0] - (scores[1] if len(scores) > 1 else 0.0) if mine else -np.inf)


def test_what_was_ambiguous_is_plain_once_stronger_flows_have_left_four_times_over() -> None:
    """Each flow is the beginning of the one before: all of it is in that one's tunnel, too, until it left."""
    packets = _long(np.random.default_rng(3), 0.0, 120)
    flows = [packets[: 120 - 20 * k] for k in range(6)]
    records: list[Record] = [(*packet, k) for k, of in enumerate(flows) for packet in of]
    case = made(flows, records, tunnels=6)
    placed = place_strong(case, np.arange(6, dtype=np.int32), Policy())
    assert placed.tunnel.tolist() == [0, 1, 2, 3, -1, -1]
    assert (placed.margin[:4] >= 12.0).all()
    assert (placed.margin[4:] == -np.inf).all()
    first = placed.pairs  # of all flows, among all records
    assert {(1, 0), (1, 1), (5, 0), (5, 5)} <= set(
        zip(first.flow.tolist(), first.tunnel.tolist(), strict=True)
    )
    assert len(placed.rest.classes.ts_ns) == 40 + 20
    at = np.repeat(np.arange(6), [len(of) for of in flows])
    own = placed.record[at < 4]
    assert (placed.record[at >= 4] == -1).all()
    taken = np.isin(case.classes.record, own)
    assert len(set(own.tolist())) == len(own) == taken.sum()
    np.testing.assert_array_equal(np.sort(case.classes.tunnel[taken]), np.sort(at[at < 4]))


def test_only_flows_asked_about_are_placed_and_those_as_strong_as_asked_for() -> None:
    rng = np.random.default_rng(5)
    flows = [_long(rng, 0.0), _long(rng, 0.0)]
    case = made(flows, [(*packet, f) for f, of in enumerate(flows) for packet in of], tunnels=2)
    both = place_strong(case, np.arange(2, dtype=np.int32), Policy())
    assert both.tunnel.tolist() == [0, 1]
    assert place_strong(case, np.array([1], np.int32), Policy()).tunnel.tolist() == [-1, 1]
    weaker, stronger = sorted(both.margin.tolist())
    assert weaker < stronger
    as_asked = place_strong(case, np.arange(2, dtype=np.int32), Policy(strong=stronger))
    assert (as_asked.tunnel >= 0).tolist() == (both.margin == stronger).tolist()
    assert (
        place_strong(case, np.arange(2, dtype=np.int32), Policy(strong=stronger + 1e-9)).tunnel == -1
    ).all()


def test_by_writes_it_takes_twice_as_much() -> None:
    rng = np.random.default_rng(5)
    flow = _long(rng, 0.0)
    case = replace(made([flow], [(*packet, 0) for packet in flow], tunnels=1), of_writes=True)
    margin = float(place_strong(case, np.zeros(1, np.int32), Policy()).margin[0])
    for strong, placed in ((margin / 2, True), (margin / 2 + 1e-9, False)):
        found = place_strong(case, np.zeros(1, np.int32), Policy(strong=strong))
        assert (found.tunnel[0] == 0) == placed


@pytest.mark.parametrize(("shared", "placed"), [(15, True), (16, False)])
def test_seven_tenths_of_what_was_found_must_be_left_by_stronger_flows(shared: int, placed: bool) -> None:
    """Of fifty packets so many are found in records of a longer flow of the same tunnel."""
    rng = np.random.default_rng(8)
    longer = _long(rng, 0.0, 150)
    shorter = sorted(longer[:150:3][:shared] + _long(rng, 0.0, 50 - shared))
    both = sorted(set(longer) | set(shorter))
    case = made([longer, shorter], [(*packet, 0) for packet in both], tunnels=1)
    alone = place_strong(case, np.array([1], np.int32), Policy()).margin[1]
    found = place_strong(case, np.arange(2, dtype=np.int32), Policy(strong=alone, every_packet=49))
    assert found.tunnel.tolist() == [0, 0 if placed else -1]


@pytest.mark.parametrize(("found", "placed"), [(9, False), (10, True)])
def test_who_finds_less_than_half_of_its_packets_is_not_placed(found: int, placed: bool) -> None:
    flow = [(37.0 * n, 100 + 16 * n, bool(n % 2)) for n in range(20)]
    case = made([flow], [(*packet, 0) for packet in flow[:found]], tunnels=2)
    got = place_strong(case, np.zeros(1, np.int32), Policy(strong=1.0))
    assert got.pairs.score[0] > 1.0
    assert got.tunnel.tolist() == [0 if placed else -1]


def _owning(wanted: dict[int, list[int]], start: list[int]) -> SimpleNamespace:
    """A containment in which each flow's packets want these records, and the strongest get theirs first."""

    def own(flows: np.ndarray, tunnels: np.ndarray, strength: np.ndarray) -> Ownership:
        owner, matched = np.full(9, -1, np.int32), np.full(start[-1], -1, np.int32)
        for f in flows[np.argsort(-strength)].tolist():
            for k, record in enumerate(wanted[f]):
                if owner[record] < 0:
                    owner[record], matched[start[f] + k] = f, record
        return Ownership(owner, matched)

    return SimpleNamespace(egress=SimpleNamespace(start=np.array(start)), own=own)


def test_those_who_cannot_have_enough_leave_theirs_to_the_others() -> None:
    """The strongest gets two of the three that it needs; what it leaves is enough for the second."""
    case = _owning({0: [0, 1], 1: [1, 2, 3], 3: [4]}, [0, 3, 6, 7, 9])
    flows, tunnels = np.array([0, 1, 3], np.int32), np.zeros(3, np.int32)
    strength = np.array([9.0, 5.0, 1.0])
    kept, owned = with_room(case, flows, tunnels, strength, np.array([3.0, 2.0, 1.0]))  # type: ignore[arg-type]
    assert kept.tolist() == [False, True, True]
    assert owned.matched.tolist() == [-1, -1, -1, 1, 2, 3, -1, 4, -1]
    kept, owned = with_room(case, flows, tunnels, strength, np.array([2.0, 2.0, 1.0]))  # type: ignore[arg-type]
    assert kept.all()
    assert owned.matched.tolist() == [0, 1, -1, -1, 2, 3, -1, 4, -1]
    kept, owned = with_room(case, flows, tunnels, strength, np.full(3, 4.0))  # type: ignore[arg-type]
    assert not kept.any()
    assert owned.matched.tolist() == [0, 1, -1, -1, 2, 3, -1, 4, -1]
