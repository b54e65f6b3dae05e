"""A prepared case: what is looked for where, who gets which record, what is left, and what copies are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.evidence.joint.made import MS, made
from vpnforensics.engines import containment as module
from vpnforensics.engines.case import ScoreTable
from vpnforensics.engines.containment import in_order


def burst(at_ms, packets, size=100):
    """Packets ten milliseconds apart, of sizes of their own."""
    return [(at_ms + 10.0 * k, size + k, True) for k in range(packets)]


def carried(flow, tunnel):
    return [(t, size, up, tunnel) for t, size, up in flow]


def of(table):
    rows = zip(table.flow.tolist(), table.tunnel.tolist(), table.hits.tolist(), strict=True)
    return {(flow, tunnel): hits for flow, tunnel, hits in rows}


def numbers(*values):
    return np.array(values, np.int32)


def test_flows_are_scored_in_every_tunnel_with_a_record_in_reach():
    flows = [burst(0, 3), burst(1000, 2, 200), burst(5000, 2, 300)]
    records = carried(flows[0], 0) + carried(flows[0][:1], 1) + carried(flows[1], 1)
    case = made(flows, records, tunnels=3)
    found = case.score(numbers(0, 1, 2))
    assert of(found) == {(0, 0): 3, (0, 1): 1, (1, 1): 2}
    score = {(f, t): s for f, t, s in zip(found.flow, found.tunnel, found.score, strict=True)}
    assert score[0, 0] > score[1, 1] > 3 > score[0, 1]
    assert of(case.score(numbers(1))) == {(1, 1): 2}
    for floor, left in ((score[0, 1], {(0, 0): 3, (1, 1): 2}), (score[1, 1], {(0, 0): 3})):
        assert of(case.score(numbers(0, 1), floor_log10=float(floor))) == left, "up to it they are left out"
    assert found.score.tolist() == pytest.approx(case.score_again(found).score.tolist())


def test_of_a_long_flow_a_quarter_of_its_probes_must_be_there_unless_all_is_looked_into():
    flow = burst(0, 40)
    records = carried(flow, 0) + carried(flow[30:33], 1) + carried(flow[10:26], 2)
    case = made([flow], records, tunnels=3)
    rare = [len(np.unique(rows)) for _, rows in case.probes]
    assert rare == [16]
    few = {tunnel for _, tunnel in of(case.score(numbers(0)))}
    assert 0 in few
    every = {tunnel for _, tunnel in of(case.score(numbers(0), thorough=True))}
    assert every == {0, 1, 2}
    row = set(case.probes[0][1].tolist())
    there = {k for k, mine in ((1, range(30, 33)), (2, range(10, 26))) if len(row & set(mine)) >= 4}
    assert few == {0} | there


def test_the_stronger_flow_has_what_two_want():
    flow = [(0.0, 100, True), (500.0, 100, True)]
    case = made([flow, flow], [(0.0, 100, True, 1), (500.0, 100, True, 1), (500.1, 100, True, 0)], tunnels=2)
    for strength, winner in (((2.0, 1.0), 0), ((1.0, 2.0), 1)):
        owned = case.own(numbers(0, 1), numbers(1, 1), np.array(strength))
        mine = owned.owner[case.by_tunnel.start[1] :]
        assert mine.tolist() == [winner, winner]
        assert owned.owner[: case.by_tunnel.start[1]].tolist() == [-1], "of another tunnel's nobody has any"
        start = case.egress.start
        got = [(owned.matched[start[f] : start[f + 1]] >= 0).tolist() for f in (0, 1)]
        assert got[winner] == [True, True]
        assert got[1 - winner] == [False, False]
    equal = case.own(numbers(1, 0), numbers(1, 1), np.array([1.0, 1.0]))
    assert set(equal.owner.tolist()) == {-1, 0}, "the first of equal ones"


def test_what_is_taken_out_is_noted_and_gone():
    flows = [burst(0, 3), burst(1000, 2, 200)]
    case = made(flows, carried(flows[0], 0) + carried(flows[1], 1), tunnels=2)
    owned = case.own(numbers(0, 1), numbers(0, 1), np.array([5.0, 4.0]))
    record = np.full(5, -1, np.int32)
    rest = case.take_out(numbers(0), owned, record)
    assert (record[:3] >= 0).all()
    assert record[3:].tolist() == [-1, -1]
    classes, egress = case.classes, case.egress
    at = {int(r): int(t) for r, t in zip(classes.record, classes.ts_ns, strict=True)}
    assert [at[r] for r in record[:3].tolist()] == egress.ts_ns[:3].tolist()
    assert set(rest.classes.record.tolist()) == set(classes.record.tolist()) - set(record[:3].tolist())
    assert of(rest.score(numbers(0, 1))) == {(1, 1): 2}
    assert of(case.score(numbers(0, 1))) == {(0, 0): 3, (1, 1): 2}, "the case itself is as it was"
    assert np.diff(rest.by_tunnel.start).tolist() == [0, 2]


def test_copies_stand_behind_the_flows_turned_on_the_circle():
    flows = [burst(0, 3), burst(1000, 2, 200), burst(2000, 1, 250)]
    case = made(flows, [r for f in flows for r in carried(f, 0)] + [(9000.0, 7, True, 0)], tunnels=1)
    shift = np.array([500, 7_500], np.int64) * MS
    more = case.with_copies(numbers(1, 0), shift)
    assert np.diff(more.egress.start).tolist() == [3, 2, 1, 2, 3]
    assert more.egress.ts_ns[:6].tolist() == case.egress.ts_ns.tolist()
    origin, period = case.circle.origin_ns, case.circle.period_ns
    of_copy = [(3, 0), (4, 0), (0, 1), (1, 1), (2, 1)]
    expected = [origin + (int(case.egress.ts_ns[p]) - origin + int(shift[c])) % period for p, c in of_copy]
    assert more.egress.ts_ns[6:].tolist() == expected
    packets = [p for p, _ in of_copy]
    for name in ("row", "inner_bytes", "up"):
        assert getattr(more.egress, name)[6:].tolist() == getattr(case.egress, name)[packets].tolist()
    assert more.egress_class[0][6:].tolist() == case.egress_class[0][packets].tolist()
    assert more.fresh.tolist() == [1] * 11
    assert len(more.probes[0][0]) == 6
    assert np.diff(more.probes[0][0]).tolist() == [3, 2, 1, 2, 3]
    assert more.classes is case.classes


def test_records_by_tunnel_and_the_gaps_of_chance():
    records = [(float(t), 100, True, t % 2) for t in range(0, 100, 10)]
    case = made([[(0.0, 100, True)]], records, tunnels=3)
    order = in_order(case.classes, case.law.width_ns, 3)
    assert np.diff(order.start).tolist() == [10, 0, 0]
    assert order.ts_ns.tolist() == sorted(round(t * MS) for t, *_ in records)
    assert (np.diff(order.ts_ns) > 0).all()
    assert order.row.tolist() == list(range(10))
    assert (order.gap_ns > 0).all()


@pytest.mark.parametrize("items", [0, 1, 255, 256, 511, 512, 10_000])
def test_pieces_cover_all_and_are_worth_a_thread(items):
    pieces = module._pieces(items)
    covered = [i for piece in pieces for i in range(piece.start, piece.stop)]
    assert covered == list(range(items))
    assert len(pieces) == (max(1, items // 256) if items else 0)


def test_pairs_keep_their_order_when_scored_again():
    flows = [burst(0, 3), burst(1000, 2, 200)]
    case = made(flows, carried(flows[0], 0) + carried(flows[1], 1), tunnels=2)
    none = np.zeros(3)
    pairs = ScoreTable(numbers(1, 0, 1), numbers(1, 0, 0), none, none.astype(np.int32))
    found = case.score_again(pairs)
    assert found.flow.tolist() == [1, 0, 1]
    assert found.hits.tolist() == [2, 3, 0]
    assert found.score[2] < 0 < found.score[0] < found.score[1]
    empty = case.score_again(pairs.take(np.zeros(0, np.int64)))
    assert len(empty) == 0


def test_who_has_no_record_is_marked_minus_one():
    case = made([burst(0, 2), burst(1000, 2, 200)], carried(burst(0, 1), 0), tunnels=1)
    owned = case.own(numbers(0), numbers(0), np.array([3.0]))
    assert owned.matched.tolist() == [0, -1, -1, -1]


def test_flows_are_numbered_alike_whichever_thread_looks_at_them():
    """Eight hundred flows are three pieces: a flow of one is not taken for one of another."""
    flows = [[(100.0 * f, 100 + f, True)] for f in range(800)]
    case = made(flows, [(t, size, up, f % 3) for f, [(t, size, up)] in enumerate(flows)], tunnels=3)
    asked = np.arange(800, dtype=np.int32)[::-1].copy()
    assert of(case.score(asked)) == {(f, f % 3): 1 for f in range(800)}


@pytest.mark.parametrize(("away_ns", "gap_s"), [(20_000_000_000, 20.0), (20_000_000_001, 40.0)])
def test_chance_is_reckoned_from_twenty_seconds_either_side(away_ns, gap_s):
    """One record in forty seconds is a gap of forty, two are one of twenty."""
    case = made([[(0.0, 100, True)]], [(0.0, 100, True, 0), (away_ns / MS, 100, True, 0)], tunnels=1)
    order = in_order(case.classes, case.law.width_ns, 1)
    assert order.ts_ns.tolist() == [0, away_ns]
    assert order.gap_ns.tolist() == pytest.approx([gap_s * 1e9] * 2)


def test_a_tunnel_has_of_a_flow_what_it_has_by_the_best_of_the_length_maps():
    """By one map no size has a record, by the other all have: the other's counts, found or owned."""
    flow = burst(0, 3)
    one = made([flow], carried(flow, 0), tunnels=1)
    alone = one.score(numbers(0))
    nothing = np.full(3, -1, np.int32)
    for classes in ((nothing, one.egress_class[0]), (one.egress_class[0], nothing)):
        both = replace(one, egress_class=classes, probes=one.probes * 2)
        found = both.score(numbers(0), thorough=True)
        assert of(found) == {(0, 0): 3}
        assert found.score.tolist() == pytest.approx(alone.score.tolist())
        owned = both.own(numbers(0), numbers(0), np.array([3.0]))
        assert (owned.matched >= 0).all()


def test_a_score_is_the_decimal_logarithm_of_how_much_likelier_a_record_is_than_by_chance():
    """One record where the packet stands, in forty seconds; two packets in a hundred are missed.

    A record as near as this stands for the whole width of the delay law, so that by chance there is one in
    as many cases as that has of the forty seconds.
    """
    case = made([[(0.0, 100, True)]], [(0.0, 100, True, 0)], tunnels=1, miss=0.02)
    found = case.score(numbers(0))
    assert found.score.tolist() == pytest.approx([np.log10(0.02 + 0.98 * 40e9 / case.law.width_ns)])


def test_copies_turn_about_the_captures_first_record_whenever_that_is():
    flow = burst(5000, 3)
    case = made([flow], [*carried(flow, 0), (14_000.0, 7, True, 0)], tunnels=1)
    assert (case.circle.origin_ns, case.circle.period_ns) == (5000 * MS, 9000 * MS + 1)
    more = case.with_copies(numbers(0), np.array([8_995 * MS]))
    # The first copy is still before the end of the circle, the others begin it anew.
    assert more.egress.ts_ns[3:].tolist() == [13_995 * MS, 5005 * MS - 1, 5015 * MS - 1]
