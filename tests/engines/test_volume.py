"""Needs against what passed: what is served, what one flow more would have, and what is noted of it."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.engines import volume as engine
from vpnforensics.engines._volume_kernels import (
    HEAPED,
    count_classes,
    draw_all,
    find_rivals,
    give_all,
    place_all,
    score_all,
)
from vpnforensics.engines.volume import BEGUN, CLASSES, FEATURES, QUIET, Streams, clock_error, slack_by
from vpnforensics.tunnels.cells import CELLS
from vpnforensics.tunnels.needs import DATA_DOWN, DATA_UP, OPENS, Needs, Parts, Passed, bytes_of
from vpnforensics.tunnels.write_law import WriteLaw

MS = 1_000_000
NONE, FEW, SOME, JUST, MORE, MUCH = range(6)


LAW = WriteLaw("ssh", frame=20, unit=8, room=8, extra=14)


def tor(cells, needs, clients=2, measure=CELLS):
    """Cells of (client, down, ms, count) and needs of (flow, kind, ms, cells); or bytes."""
    rows = sorted((2 * c + down, at * MS, n) for c, down, at, n in cells)
    stream, ts_ns, count = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    flow, kind, at, many = (np.array(column, np.int64) for column in zip(*needs, strict=True))
    wanted = Needs(flow, kind, kind & 1, at * MS, at * MS, many)
    parts = Parts(np.arange(len(flow)), at * MS, many)
    return Streams(np.arange(clients), Passed(stream, ts_ns, count), wanted, parts, measure)


def outcomes(case, flow, client, owner):
    """Outcome of each need of a flow with a client, others having theirs."""
    return [outcome for outcome, _ in noted(case, flow, client, owner)]


def noted(case, flow, client, owner):
    """Outcome of each need, and how busy the client's stream is."""
    desk = case.desk(len(owner))
    desk.owner[: len(owner)] = owner
    counts = np.zeros((len(case.clients), CLASSES))
    count_classes(desk, np.array([flow]), np.array([client]), counts)
    rows = slice(desk.asked.start[flow], desk.asked.start[flow + 1])
    busy, outcome = np.divmod(desk.noted[rows, 0] - desk.asked.feature[rows], HEAPED + 1)
    return list(zip(outcome.tolist(), busy.tolist(), strict=True))


def test_what_is_needed_upwards_passed_before_and_downwards_after():
    case = tor([(0, 0, 1000, 2), (0, 1, 1030, 3)], [(0, DATA_UP, 1010, 2), (0, DATA_DOWN, 1020, 3)])
    assert outcomes(case, 0, 0, [-1]) == [JUST, JUST]
    assert outcomes(case, 0, 1, [-1]) == [NONE, NONE]
    early = tor([(0, 0, 1020, 2), (0, 1, 1010, 3)], [(0, DATA_UP, 1010, 2), (0, DATA_DOWN, 1020, 3)])
    assert outcomes(early, 0, 0, [-1]) == [NONE, NONE]


def test_cells_come_within_the_reach():
    reach = 80
    case = tor(
        [(0, 1, 1000 + reach, 1), (0, 1, 3001 + reach, 1)], [(0, DATA_DOWN, 1000, 1), (1, DATA_DOWN, 3000, 1)]
    )
    assert outcomes(case, 0, 0, [-1, -1]) == [JUST]
    assert outcomes(case, 1, 0, [-1, -1]) == [NONE]


def test_a_large_need_waits_longer_and_after_the_others():
    case = tor([(0, 1, 1400, 150), (0, 1, 1401, 2)], [(0, DATA_DOWN, 1300, 150), (1, DATA_DOWN, 1390, 2)])
    assert outcomes(case, 0, 0, [-1, -1]) == [MORE]
    assert outcomes(case, 1, 0, [0, -1]) == [JUST]
    assert outcomes(case, 0, 0, [-1, 0]) == [JUST]


def test_with_slack_cells_may_seem_to_come_too_early():
    case = tor([(0, 0, 1005, 2), (0, 1, 1018, 3)], [(0, DATA_UP, 1002, 2), (0, DATA_DOWN, 1020, 3)])
    assert outcomes(case, 0, 0, [-1]) == [NONE, NONE]
    assert outcomes(case.moved(0, 4 * MS), 0, 0, [-1]) == [JUST, JUST]
    assert outcomes(case.moved(0, 2 * MS), 0, 0, [-1]) == [NONE, JUST]
    late = tor([(0, 1, 1000 + 85, 1)], [(0, DATA_DOWN, 1000, 1)])
    assert outcomes(late, 0, 0, [-1]) == [NONE]
    assert outcomes(late.moved(0, 5 * MS), 0, 0, [-1]) == [JUST]


def test_needs_that_are_moved_are_moved_with_all_their_parts():
    case = tor([(0, 1, 1010, 4)], [(0, DATA_DOWN, 1013, 4)])
    assert outcomes(case, 0, 0, [-1]) == [NONE]
    assert outcomes(case.moved(-4 * MS, 0), 0, 0, [-1]) == [JUST]


@pytest.mark.parametrize(
    ("passed", "outcome"),
    [
        (0, NONE),
        (400, FEW),
        (900, SOME),
        (1000, JUST),
        (1168, JUST),
        (1169, MORE),
        (1500, MORE),
        (1501, MUCH),
    ],
)
def test_of_bytes_as_many_more_are_its_own_as_reads_may_add(passed, outcome):
    case = tor([(0, 1, 1010, passed), (1, 1, 500, 1)], [(0, DATA_DOWN, 1000, 1000)], measure=bytes_of(LAW))
    assert outcomes(case, 0, 0, [-1]) == [outcome]


def test_slack_is_by_the_clearer_direction_of_the_delay_law():
    steady, spread = np.zeros(101), np.full(101, 1.0)
    steady[45:70] = 1.0
    law = {"low_ns": -50 * MS, "step_ns": MS, "up": steady, "down": spread}
    assert slack_by(law) == 5 * MS
    assert slack_by(law | {"up": np.eye(1, 101, 60)[0]}) == 0
    assert slack_by(law | {"up": spread}) == 40 * MS


@pytest.mark.parametrize("error_ms", [-5, 0, 3])
def test_the_clocks_error_is_what_sets_both_directions_apart(error_ms):
    rng = np.random.default_rng(3)
    at = np.sort(rng.integers(1000, 100_000, 400))
    down = rng.integers(0, 2, 400)
    wait = rng.integers(1, 4, 400)
    cells = [
        (f % 2, d, t + (w if d else -w), 1) for f, (t, d, w) in enumerate(zip(at, down, wait, strict=True))
    ]
    cells += [(c, d, t, 1) for c in (0, 1) for d in (0, 1) for t in rng.integers(1000, 100_000, 400).tolist()]
    needs = [(f, DATA_UP + d, t + error_ms, 1) for f, (t, d) in enumerate(zip(at, down, strict=True))]
    owner = np.where(rng.random(400) < 0.8, np.arange(400) % 2, -1)
    assert clock_error(tor(cells, needs), owner) / MS == pytest.approx(error_ms, abs=0.3)


def test_nobody_known_sets_no_clock():
    case = tor([(0, 0, 1000, 1), (0, 1, 1030, 1)], [(0, DATA_UP, 1010, 1), (0, DATA_DOWN, 1020, 1)])
    assert clock_error(case, np.array([-1])) == 0


def test_what_others_need_is_not_there_twice():
    case = tor([(0, 1, 1010, 4)], [(0, DATA_DOWN, 1000, 4), (1, DATA_DOWN, 1005, 4), (2, DATA_DOWN, 1005, 1)])
    assert outcomes(case, 1, 0, [-1, -1, -1]) == [JUST]
    assert outcomes(case, 1, 0, [0, -1, -1]) == [NONE]
    assert outcomes(case, 1, 0, [-1, -1, 0]) == [SOME]
    assert outcomes(case, 1, 0, [1, -1, -1]) == [JUST]


def test_others_make_room_with_later_cells():
    case = tor([(0, 1, 1010, 1), (0, 1, 1050, 1)], [(0, DATA_DOWN, 1000, 1), (1, DATA_DOWN, 1001, 1)])
    assert outcomes(case, 1, 0, [0, -1]) == [JUST]


def test_cells_that_are_left_over_are_noted():
    case = tor(
        [(0, 1, 1010, 7)], [(0, DATA_DOWN, 1000, 5), (1, DATA_DOWN, 1000, 3), (2, DATA_DOWN, 1000, 15)]
    )
    assert [outcomes(case, f, 0, [-1, -1, -1]) for f in range(3)] == [[MORE], [MUCH], [FEW]]


def test_answers_to_each_31st_cell_are_the_clients_own():
    answered = tor([(0, 1, 1000, 31), (0, 0, 1060, 1)], [(0, OPENS, 1065, 1)])
    assert outcomes(answered, 0, 0, [-1]) == [JUST]  # who needs it comes first
    desk = answered.desk(1)
    assert desk.due.need.tolist() == [-1, 0] or desk.due.need.tolist() == [0, -1]
    two = tor([(0, 1, 1000, 31), (0, 0, 1060, 2)], [(0, OPENS, 1065, 1)])
    assert outcomes(two, 0, 0, [-1]) == [JUST]  # and the other one is explained
    unanswered = tor([(0, 1, 1000, 30), (0, 0, 1060, 2)], [(0, OPENS, 1065, 1)])
    assert outcomes(unanswered, 0, 0, [-1]) == [MORE]


def test_a_flow_is_given_to_the_client_that_has_its_cells():
    needs = [(0, DATA_UP + (n & 1), 1000 + 200 * n, 3) for n in range(8)]
    cells = [(1, n & 1, 1000 + 200 * n + (10 if n & 1 else -10), 3) for n in range(8)]
    case = tor([*cells, (0, 0, 500, 1)], needs)
    desk, worth = case.desk(1), np.tile(BEGUN, (2, 2, 1))
    place_all(desk, np.array([0]), worth, 2.0)
    assert desk.score[0, 1] > 5 > 0 > desk.score[0, 0]
    assert desk.owner[0] == 1
    desk.hopeful[0, 1] = False
    place_all(desk, np.array([0]), worth, 2.0)
    assert desk.owner[0] == -1
    assert desk.score[0, 1] == -np.inf


def test_clients_are_drawn_as_likely_as_they_are():
    needs = [(f, DATA_UP + (n & 1), 1000 + 200 * n, 3) for f in range(2) for n in range(4)]
    cells = [(c, n & 1, 1000 + 200 * n + (10 if n & 1 else -10), 3) for c in range(2) for n in range(4)]
    desk, worth, nobody = tor(cells, needs, clients=3).desk(2), np.tile(BEGUN, (2, 3, 1)), 0.05
    rng, chance, owners = np.random.default_rng(1), np.zeros((2, 3)), []
    for _ in range(400):
        draw_all(desk, np.array([0]), worth, nobody, rng.random(1), chance)
        owners.append(desk.owner[0])
    assert chance[0, :2] / 400 == pytest.approx(0.5, abs=0.01)
    assert (chance[0, 2], chance[1].max()) == (pytest.approx(0.0, abs=1.0), 0.0)
    assert np.bincount(owners, minlength=2)[:2] / 400 == pytest.approx(0.5, abs=0.1)
    order = np.arange(2)
    draw_all(desk, order, worth, nobody, rng.random(2), chance)
    assert sorted(desk.owner[:2]) == [0, 1]  # what one has is not there for the other
    desk.hopeful[:, 0] = False
    draw_all(desk, order, worth, nobody, rng.random(2), gone := np.zeros((2, 3)))
    assert (gone[:, 0] == 0).all()
    draw_all(desk, order, worth, 1e9, rng.random(2), none := np.zeros((2, 3)))
    assert (none < 0.01).all()
    assert desk.owner[:2].tolist() == [-1, -1]


def test_scores_that_are_remembered_are_those_that_would_be_found():
    """After every change of an owner, in all of many states, of flows near and far."""
    rng = np.random.default_rng(5)
    begin = rng.integers(0, 20_000, 30).tolist()
    needs = [(f, DATA_UP + (n & 1), at + 300 * n, 2) for f, at in enumerate(begin) for n in range(4)]
    needs += [(f, DATA_DOWN, at + 1200, 200) for f, at in enumerate(begin) if f % 7 == 0]
    cells = [
        (f % 3, n & 1, at + 300 * n + (15 if n & 1 else -15), 2)
        for f, at in enumerate(begin)
        for n in range(4)
    ]
    cells += [(0, 1, at, 20) for at in rng.integers(0, 22_000, 100).tolist()]
    case = tor(cells, needs, clients=3)
    desk, order, worth = case.desk(30), np.arange(30), np.tile(BEGUN, (2, 3, 1))
    for _ in range(20):
        owner = np.r_[desk.owner[:30]]
        owner[rng.integers(0, 30, 2)] = rng.integers(-1, 3, 2)
        give_all(desk, owner)
        score_all(desk, order, worth)
        fresh = case.desk(30)
        fresh.owner[:30] = owner
        score_all(fresh, order, worth)
        assert (desk.score == fresh.score).all()
    assert desk.changes[0] > 20


def test_how_busy_a_stream_is_around_a_need_is_noted():
    needs = [(0, DATA_DOWN, 1000, 4)]
    quiet, some, much = (
        [(0, 1, 1010, 4)],
        [(0, 1, 1010, 4), (0, 1, 1300, 30)],
        [(0, 1, 1010, 4), (0, 1, 700, 130)],
    )
    assert [noted(tor(cells, needs), 0, 0, [-1]) for cells in (quiet, some, much)] == [
        [(JUST, 0)],
        [(JUST, 1)],
        [(JUST, 2)],
    ]
    far = [(0, 1, 1010, 4), (0, 1, 599, 1000), (0, 1, 1481, 1000), (0, 0, 1000, 1000), (1, 1, 1100, 1000)]
    assert noted(tor(far, needs), 0, 0, [-1]) == [(JUST, 0)]


def test_each_class_has_one_of_the_same_kind_in_a_quiet_stream():
    assert (QUIET[QUIET] == QUIET).all()
    assert (BEGUN[QUIET] == BEGUN).all()
    assert (np.bincount(FEATURES)[FEATURES[QUIET]] == np.bincount(FEATURES)[FEATURES]).all()
    assert np.bincount(QUIET)[np.unique(QUIET)].tolist() == [3] * (CLASSES // 3)


def test_scores_are_of_flows_that_stay_where_they_are():
    needs = [(f, DATA_UP + (n & 1), 1000 + 200 * n, 3) for f in range(2) for n in range(4)]
    cells = [(0, n & 1, 1000 + 200 * n + (10 if n & 1 else -10), 3) for n in range(4)]
    desk = tor([*cells, (1, 0, 500, 1)], needs).desk(2)
    desk.owner[:2] = [0, -1]
    score_all(desk, np.arange(2), np.tile(BEGUN, (2, 2, 1)))
    assert desk.owner[:2].tolist() == [0, -1]
    assert desk.score[0, 0] > 2 > 0 > desk.score[1, 0]
    desk.hopeful[:, 0] = False
    score_all(desk, np.arange(2), np.tile(BEGUN, (2, 2, 1)))
    assert (desk.score[:, 0] == -np.inf).all()


def test_each_fold_of_the_flows_has_its_own_worth():
    needs = [(f, DATA_DOWN, 1000 + 2000 * f, 3) for f in range(4)]
    cells = [(0, 1, 1010 + 2000 * f, 3) for f in range(4)] + [(1, 0, 500, 1)]
    desk = tor(cells, needs).desk(4)
    worth = np.array([3.0, 0.0, -1.0])[:, None, None] * np.tile(BEGUN, (1, 2, 1))
    score_all(desk, np.arange(4), worth)
    assert desk.score[:, 0].tolist() == pytest.approx(BEGUN[JUST] * np.array([3.0, 0.0, -1.0, 3.0]))


def rivals(case, owner, claim, least=1.0, homeless=4.0):
    """Gain of others, and odds of exchanges, of each flow."""
    desk, (gain, odds) = case.desk(len(owner)), np.zeros((2, len(owner)))
    desk.owner[: len(owner)] = owner
    worth = np.tile(BEGUN, (2, len(case.clients), 1))
    find_rivals(desk, np.arange(len(owner)), claim, least, homeless, worth, 2.0, gain, odds)
    assert desk.owner[: len(owner)].tolist() == owner
    return gain, odds


def test_what_another_flow_would_gain_is_told():
    needs = [(f, DATA_UP + (n & 1), 1000 + 200 * n, 3) for f in range(3) for n in range(8)]
    needs = [(f, k, at + (5000 if f == 2 else 0), n) for f, k, at, n in needs]
    cells = [(1, n & 1, 1000 + 200 * n + (10 if n & 1 else -10), 3) for n in range(8)]
    cells += [(1, d, at + 5000, n) for _, d, at, n in cells]
    case = tor([*cells, (0, 0, 500, 1)], needs)
    gain, odds = rivals(case, [1, -1, 1], np.array([6.0, 0.0, 6.0]))
    assert gain[0] > 5
    assert gain[[1, 2]].tolist() == [0, 0]
    assert (odds == 0).all()
    assert (rivals(case, [1, -1, 1], np.array([6.0, 4.5, 6.0]))[0] == 0).all()
    assert (rivals(case, [1, -1, 1], np.array([0.5, 0.0, 6.0]))[0] == 0).all()
    gain, _ = rivals(case, [-1, 1, 1], np.array([0.0, 6.0, 6.0]))  # whoever comes first
    assert (gain > 5).tolist() == [False, True, False]


def test_two_flows_that_are_alike_may_have_each_others_client():
    needs = [(f, DATA_UP + (n & 1), 1000 + 200 * n + f, 3) for f in range(2) for n in range(8)]
    cells = [(c, n & 1, 1000 + 200 * n + (20 if n & 1 else -20), 3) for c in range(2) for n in range(8)]
    _, odds = rivals(tor(cells, needs), [0, 1], np.array([9.0, 9.0]))
    assert odds == pytest.approx(1.0)
    larger = [(f, k, at, n + 2 * f) for f, k, at, n in needs]
    cells = [(c, d, at, n + 2 * c) for c, d, at, n in cells]
    _, odds = rivals(tor(cells, larger), [0, 1], np.array([9.0, 9.0]))
    assert (odds < 1e-3).all()
    assert (odds > 0).all()


def test_needs_that_are_turned_keep_all_but_their_time():
    case = tor([(0, 1, 1010, 4)], [(0, DATA_DOWN, 1000, 4), (1, OPENS, 1005, 1)])
    needs, parts = case.turned(np.array([0, 7000 * MS]), np.array([False, True]), 2)
    assert (needs.flow.tolist(), needs.begin_ns.tolist(), needs.amount.tolist()) == ([3], [8005 * MS], [1])
    assert (parts.need.tolist(), parts.ts_ns.tolist()) == ([0], [8005 * MS])


def test_missing_cells_are_never_evidence_for_a_pair():
    assert engine.AGAINST[:6].tolist() == [True, True, False, False, False, False]
    assert not engine.AGAINST[tor([(0, 0, 1, 1)], [(0, OPENS, 2, 1)]).desk(1).law.places :].any()


def test_needs_met_in_heaps_and_large_ones_count_as_the_root_of_their_number():
    """Four needs as many times over, and a transfer in four bursts, count as two; unmet, each does."""
    needs = [(0, DATA_DOWN, 1000 + 200 * n, 3) for n in range(4)]
    needs += [(1, DATA_DOWN, 3000 + 200 * n, 40) for n in range(4)]
    cells = [(0, 1, 1010 + 200 * n, 100) for n in range(4)] + [(0, 1, 3010 + 200 * n, 40) for n in range(4)]
    case = tor([*cells, (1, 0, 500, 1)], needs)
    assert outcomes(case, 0, 0, [-1, -1]) == [MUCH] * 4
    desk = case.desk(2)
    score_all(desk, np.arange(2), np.tile(BEGUN, (2, 2, 1)))
    score = desk.score
    just, much, none = (BEGUN[outcome] for outcome in (JUST, MUCH, NONE))
    assert score[:, 0].tolist() == pytest.approx([2 * much, 2 * just])
    assert score[:, 1].tolist() == pytest.approx([4 * none, 4 * none])
