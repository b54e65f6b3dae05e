"""Parts of the joint model on small cases, each against its rule in words."""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np
import pytest

from tests.evidence.joint.made import MS, Packet, Record, made
from vpnforensics.engines._hole_kernels import KINDS
from vpnforensics.evidence.joint import model, rounds
from vpnforensics.evidence.joint._message_kernels import ANEW, HALFWAY, KEPT, Learned, Messages
from vpnforensics.evidence.joint.model import Posterior, solve


def solver(flows: Any, records: Any, tunnels: int, alive: Any = None, none: Any = None, **more: Any) -> Any:
    case = made(flows, records, tunnels=tunnels, **more)
    there = np.full(len(flows), tunnels) if alive is None else np.array(alive)
    return model._Solver(case, np.ones(len(case.fresh), np.bool_), there, none)


def posterior(**changes: Any) -> Posterior:
    parts: dict[str, Any] = {
        "asked": np.array([True, True, False]),
        "best": np.array([0, 1, -1], np.int32),
        "error": np.array([0.1, 0.2, 1.0]),
        "pair_flow": np.array([0, 1], np.int32),
        "pair_tunnel": np.array([0, 1], np.int32),
        "pair_odds": np.array([1.0, 2.0]),
        "unlisted_odds": np.array([-1.0, -2.0, -3.0]),
        "log_prior": np.array([-4.0, -5.0, -6.0]),
        "missing": np.array([0.5, 0.6, 0.0]),
        "miss": (0.1,),
        "none_share": 0.2,
        "unexplained_share": 0.3,
        "left_out": 4,
    }
    return Posterior(**(parts | changes))


def test_a_later_answer_replaces_all_that_was_not_settled() -> None:
    later = posterior(
        asked=np.array([False, True, True]),
        best=np.array([2, 2, 2], np.int32),
        error=np.array([0.7, 0.8, 0.9]),
        pair_flow=np.array([0, 1, 1, 2], np.int32),
        pair_tunnel=np.array([2, 2, 0, 2], np.int32),
        pair_odds=np.array([7.0, 8.0, 8.5, 9.0]),
        unlisted_odds=np.array([-7.0, -8.0, -9.0]),
        log_prior=np.array([-7.5, -8.5, -9.5]),
        miss=(0.6,),
        none_share=0.7,
        unexplained_share=0.8,
        left_out=9,
    )
    found = posterior().completed_by(later, np.array([True, False, False]))
    assert found.asked.tolist() == [True, True, False]
    assert found.best.tolist() == [0, 2, 2]
    assert found.error.tolist() == [0.1, 0.8, 0.9]
    assert found.pair_flow.tolist() == [0, 1, 1, 2]
    assert found.pair_tunnel.tolist() == [0, 0, 2, 2]
    assert found.pair_odds.tolist() == [1.0, 8.5, 8.0, 9.0]
    assert found.unlisted_odds.tolist() == [-1.0, -8.0, -9.0]
    assert found.log_prior.tolist() == [-4.0, -8.5, -9.5]
    assert (found.miss, found.none_share) == ((0.6,), 0.7)
    assert (found.unexplained_share, found.left_out) == (0.3, 4)


def test_where_a_tunnel_has_a_record_its_posterior_is_by_the_formula() -> None:
    """One flow of one packet; a tunnel with its record, one with a later one, one with none."""
    records = [
        (-0.3, 80, True, 0),
        (-1.4, 80, True, 1),
        (9e4, 80, True, 0),
        (9e4, 80, True, 1),
        (9e4, 99, False, 2),
    ]
    made_up = solver([[(0.0, 80, True)]], records, 4, none=0.1)
    found = made_up.solve()
    step, low = made_up.step_ns, made_up.reach.low_ns
    prior = 0.9 / 4
    weights = {}
    for tunnel, delay in ((0, 0.3), (1, 1.4)):
        density = made_up.density[1][int((delay * MS - low) // step)]
        rate = 1 / 40e9  # itself, in the forty seconds around it
        cell = [k for k in np.flatnonzero(made_up.cell_tunnel == tunnel) if made_up.cell_up[k]]
        miss = made_up.miss[1]
        weights[tunnel] = (1 - miss) * density / (made_up.unexplained[cell[0]] * rate) + miss
    total = 0.1 + prior * sum(weights.values())
    best = prior * weights[0] / total
    assert found.best.tolist() == [0]
    assert found.error[0] == pytest.approx(1 - best, rel=1e-6)
    assert found.pair_odds.tolist() == pytest.approx(
        [log(best / (1 - best)), log(prior * weights[1] / total / (1 - prior * weights[1] / total))], rel=1e-6
    )
    assert found.unlisted_odds[0] == pytest.approx(log(prior * made_up.miss[1] / total), rel=1e-6)
    assert found.log_prior[0] == pytest.approx(log(prior / (1 - prior)))
    assert found.none_share == 0.1


def test_without_any_record_a_flow_has_no_tunnel() -> None:
    found = solver([[(0.0, 80, True)]], [(9e3, 70, True, 0)], 2).solve()
    assert found.best.tolist() == [-1]
    assert found.error.tolist() == [1.0]
    assert found.asked.tolist() == [True]
    assert found.left_out == 0


def test_local_rates_count_the_records_of_a_kind_within_twenty_seconds() -> None:
    times = [0.0, 10e3, 19.9e3, 40.1e3]
    records = [(t, 80, True, 0) for t in times] + [
        (5e3, 80, True, 1),
        (5e3, 90, True, 0),
        (5e3, 80, False, 0),
    ]
    made_up = solver([[(0.0, 80, True), (1.0, 90, True)]], records, 2)
    order = made_up.containment.by_tunnel
    by = {}
    for place, row in enumerate(order.row.tolist()):
        classes = made_up.containment.classes
        size_class = int(np.searchsorted(classes.start, row, side="right")) - 1
        by[order.ts_ns[place] // MS, int(classes.tunnel[row]), size_class] = place
    rate = {key: float(made_up.around[place]) for key, place in by.items()}
    up_80 = max(c for t, k, c in rate if (t, k) == (0, 0))
    assert [rate[round(t), 0, up_80] for t in times] == pytest.approx([3.0, 3.0, 3.0, 1.0])
    assert rate[5000, 1, up_80] == pytest.approx(1.0)
    # Records of a size that no flow asks for teach nothing.
    down = [c for t, k, c in by if t == 5000 and k == 0 and c != up_80]
    counted = {key: made_up.counted[made_up.cell[place]] for key, place in by.items()}
    assert sorted(counted[5000, 0, c] for c in down) == [0.0, 1.0]
    assert made_up.cell_size.sum() == 6


def test_unexplained_shares_lean_on_the_tunnels_and_that_on_the_directions() -> None:
    records = [(10.0 * k, 80 + k % 2, True, k % 3 % 2) for k in range(30)] + [(5.0, 70, False, 0)]
    made_up = solver([[(0.0, 80, True), (1.0, 81, True)]], records, 2)
    made_up.unexplained = np.full(len(made_up.cell_size), 0.02)
    number = np.linspace(0.5, 3.0, len(made_up.cell_size))
    made_up._learn_unexplained(1, number)
    up = [k for k in range(len(number)) if made_up.cell_up[k]]
    of_direction = (number[up].sum() + 1) / (made_up.cell_size[up].sum() + 2)
    for k in range(len(number)):
        if k not in up:
            assert made_up.unexplained[k] == 0.02
            continue
        mine = [j for j in up if made_up.cell_tunnel[j] == made_up.cell_tunnel[k]]
        of_tunnel = (number[mine].sum() + 10 * of_direction) / (made_up.cell_size[mine].sum() + 10)
        share = (number[k] + 5 * of_tunnel) / (made_up.cell_size[k] + 5)
        assert made_up.unexplained[k] == pytest.approx(min(max(share, 1e-3), 0.95))


def learn(made_up: Any, *, claimed: float, none: float, weight: float, delays: float = 0.0) -> Any:
    """One step of learning from messages that are all alike."""
    made_up.unexplained = np.full(len(made_up.cell_size), 0.02)
    made_up.miss = np.r_[0.02, 0.02, made_up.containment.miss[2:]]
    made_up.chance = np.empty(len(made_up.cell))
    rates = made_up._rates()
    graph = made_up.graph
    pairs, links = len(graph.pair_tunnel), len(graph.link_flow)
    messages = Messages(
        np.zeros(links), np.full(len(rates.chance), claimed) * rates.chance, np.zeros(pairs),
        np.full(pairs, weight), np.full(made_up.flows, none),
    )  # fmt: skip
    kinds = len(made_up.miss)
    learned = Learned(np.full((2, made_up.reach.bins), delays / made_up.reach.bins), np.full(kinds, 3.0),
                      np.full(kinds, 96.0))  # fmt: skip
    made_up._learn(rates, messages, learned)
    return rates


def test_shares_are_learned_with_one_success_and_one_failure_seen_before() -> None:
    records = [(0.0, 80, True, 0), (500.0, 80, True, 1), (500.1, 90, False, 0)]
    made_up = solver([[(0.0, 80, True), (0.5, 90, False)], [(500.0, 80, True)]], records, 2)
    pairs = len(made_up.graph.pair_tunnel)
    learn(made_up, claimed=1.0, none=0.3, weight=0.25)
    assert made_up.none_share == pytest.approx((0.6 + 1) / (2 + 2))
    unseen = 0.25 * made_up.connected.unseen.sum(axis=0)
    assert pairs == 2
    expected = np.clip((3 + unseen + 1) / (96 + unseen + 2), 2e-3, made_up.most_miss)
    assert made_up.miss.tolist() == pytest.approx(expected.tolist())
    # Half of each record is unclaimed: that many are unexplained.
    up = made_up.cell_up == 1
    assert made_up.unexplained[up][0] > 0.4


def test_a_share_that_is_known_is_not_learned() -> None:
    made_up = solver([[(0.0, 80, True)]], [(0.0, 80, True, 0)], 1, none=0.4)
    learn(made_up, claimed=0.0, none=0.9, weight=0.0)
    assert made_up.none_share == 0.4
    assert made_up.unexplained.max() <= 0.95


@pytest.mark.parametrize(("delays", "learned"), [(99.0, False), (101.0, True)])
def test_a_law_is_learned_from_a_hundred_delays(delays: float, learned: bool) -> None:
    made_up = solver([[(0.0, 80, True)]], [(0.0, 80, True, 0)], 1)
    before = made_up.density.copy()
    learn(made_up, claimed=0.0, none=0.1, weight=0.0, delays=delays)
    assert (np.abs(made_up.density - before).max() > 0) == learned


def test_priors_and_rates_of_the_next_round() -> None:
    flows = [[(0.0, 80, True)], [(9.0, 80, True)]]
    made_up = solver(flows, [(0.0, 80, True, 0)], 3, alive=[3, 0], none=0.2)
    made_up.unexplained = np.full(len(made_up.cell_size), 0.5)
    made_up.miss = np.full(KINDS, 0.1)
    made_up.chance = np.empty(len(made_up.cell))
    rates = made_up._rates()
    assert rates.log_prior.tolist() == pytest.approx([log(0.8 / 3), log(0.8)])
    assert rates.log_none == pytest.approx(log(0.2))
    assert rates.chance.tolist() == pytest.approx([0.5 / 40e9])
    assert rates.log_unseen.tolist() == pytest.approx(
        (made_up.connected.unseen * log(0.1)).sum(axis=1).tolist()
    )


def test_the_law_has_room_of_six_tenths_at_either_end() -> None:
    made_up = solver([[(0.0, 80, True)]], [(0.0, 80, True, 0)], 1)
    law = made_up.containment.law
    room = int(0.6 * len(law.up))
    assert made_up.reach.bins == len(law.up) + 2 * room == made_up.density.shape[1]
    assert made_up.reach.low_ns == law.low_ns - room * law.step_ns


def test_misses_are_bounded_but_where_a_counter_has_a_hole_or_a_stream_is_unread() -> None:
    made_up = solver([[(0.0, 80, True)]], [(0.0, 80, True, 0)], 1, miss=0.02)
    assert made_up.most_miss.tolist() == [0.3, 0.3, *[0.98] * 10, 0.3, 0.3]
    unread = solver([[(0.0, 80, True)]], [(0.0, 80, True, 0)], 1, miss=0.7)
    assert unread.most_miss.tolist() == [0.3, 0.3, *[0.98] * 10, 0.7, 0.7]


def test_odds_are_finite_at_the_ends() -> None:
    found = model._log_odds(np.array([0.0, 0.5, 0.9, 1.0]))
    assert found[1:3].tolist() == pytest.approx([0.0, log(9)])
    assert found[0] == pytest.approx(log(1e-300))
    assert found[3] == pytest.approx(-log(1e-16))


def test_rounds_end_when_nothing_moves_and_learning_comes_every_third(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[tuple[int, bool]] = []
    real = rounds.flow_round

    def noted(*args: Any) -> Any:
        turns.append(args[4:6])
        return real(*args)

    monkeypatch.setattr(rounds, "flow_round", noted)
    solver([[(0.0, 80, True)]], [(0.0, 80, True, 0)], 1).solve()
    assert [turn for turn, (_, learning) in enumerate(turns) if learning] == [4, 7, 10, 13]
    assert [claims for claims, _ in turns] == [ANEW, *[HALFWAY] * (len(turns) - 2), KEPT]
    assert len(turns) == 14 + 1 + 1, "fourteen and one that does not learn, then what they left is read"
    monkeypatch.setattr(model, "_SETTLED", 0.0)
    turns.clear()
    solver([[(0.0, 80, True)]], [(0.0, 80, True, 0)], 1).solve()
    assert len(turns) == 40 + 1


def test_all_is_given_to_the_surest_first() -> None:
    """Two flows that fit one record: the one nearer to it has it, and the other may be anybody's."""
    flows: list[list[Packet]] = [[(0.1, 80, True)], [(1.9, 80, True)]]
    records: list[Record] = [(0.0, 80, True, 0), (9e4, 80, True, 0)]
    found = solve(made(flows, records, tunnels=1), np.ones(2, np.bool_), np.array([1, 1]), 0.3)
    assert found.error[0] < found.error[1]
    assert found.error[1] > 0.5
    assert exp(found.pair_odds[0]) == pytest.approx((1 - found.error[0]) / found.error[0])


def test_what_counters_say_is_missed_of_a_flow_is_a_mean_over_its_packets() -> None:
    """Four packets, two of them about a hole, beside one of which stands its record."""
    flow = [(10.0, 80, True), (60.0, 80, True), (110.0, 80, True), (160.0, 80, True)]
    records = [(t, 80, True, 0) for t in (10.0, 60.0, 160.0)]
    made_up = solver([flow], records, 1, holes=[(0, True, 60.0, 160.0)])
    made_up.miss = np.full(KINDS, 0.6)
    assert made_up._missing(
        np.array(
            [
                0,
            ]
        )
    ).tolist() == pytest.approx([0.6 * 3 / 4])
    assert made_up._missing(np.array([-1])).tolist() == [0.0]
