"""Contests against all matchings, counted one by one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from vpnforensics.evidence.contest import Contest, settle_contest


def contest(rows):
    """Of (flow, connection, tunnel, decades)."""
    flow, connection, tunnel, decades = zip(*rows, strict=True)
    ints = [np.array(column, np.int64) for column in (flow, connection, tunnel)]
    return Contest(*ints, np.array(decades, float))


def odds_of(rows, flow, tunnel):
    """log10 odds that a flow was in a tunnel, by all matchings."""
    for_it = against = 0.0
    for count in range(len(rows) + 1):
        for chosen in combinations(rows, count):
            if len({r[0] for r in chosen}) < count or len({r[1] for r in chosen}) < count:
                continue
            weight = 10.0 ** sum(r[3] for r in chosen)
            if any(r[0] == flow and r[2] == tunnel for r in chosen):
                for_it += weight
            else:
                against += weight
    return np.log10(for_it / against)


def test_on_a_tree_marginals_are_exact():
    rows = [(0, 0, 0, 3.0), (0, 1, 1, 2.0), (1, 1, 1, 4.0), (1, 2, 0, 1.0)]
    outcome = settle_contest(contest(rows), 2, 3)
    assert outcome.connection.tolist() == [0, 1]
    assert outcome.tunnel.tolist() == [0, 1]
    total = 1.0 + np.bincount(outcome.pairs.flow, outcome.strength)
    marginal = outcome.strength[[0, 2]] / total
    assert np.log10(marginal / (1 - marginal)) == pytest.approx([odds_of(rows, 0, 0), odds_of(rows, 1, 1)])
    # What is claimed is no more, and less only by ways that exclude each other counted twice.
    assert outcome.claim == pytest.approx([odds_of(rows, 0, 0), odds_of(rows, 1, 1)], abs=0.31)
    assert (outcome.claim <= [odds_of(rows, 0, 0) + 1e-9, odds_of(rows, 1, 1) + 1e-9]).all()


@pytest.mark.parametrize("seed", range(30))
def test_on_cycles_hardly_more_is_claimed_than_all_matchings_allow(seed):
    """Where everything is as likely as anything else; swaps among three are what is not counted exactly."""
    rng = np.random.default_rng(seed)
    rows = [
        (f, c, c % 2, float(rng.uniform(-2, 6))) for f in range(3) for c in range(4) if rng.random() < 0.8
    ]
    outcome = settle_contest(contest(rows), 3, 4)
    for flow in np.flatnonzero(outcome.tunnel >= 0).tolist():
        assert outcome.claim[flow] <= odds_of(rows, flow, int(outcome.tunnel[flow])) + 1.1


def test_a_stranger_does_not_take_what_has_its_own_flow():
    """Flow 1's client was not captured: it fits flow 0's connection nearly as well."""
    outcome = settle_contest(contest([(0, 0, 0, 7.0), (1, 0, 0, 6.0)]), 2, 1)
    assert outcome.tunnel.tolist() == [0, -1]
    assert outcome.claim[0] == pytest.approx(1.0, abs=0.1)
    assert outcome.claim[1] < -5


def test_two_of_one_tunnel_do_not_take_from_each_other():
    rows = [(f, c, 0, 6.0) for f in range(2) for c in range(2)]
    outcome = settle_contest(contest(rows), 2, 2)
    assert outcome.tunnel.tolist() == [0, 0]
    assert (outcome.claim > 3).all()  # by all matchings it is 6
    apart = settle_contest(contest([(f, c, c, 6.0) for f in range(2) for c in range(2)]), 2, 2)
    assert (apart.claim < 0.1).all()


def test_nothing_to_contend_for():
    none = np.zeros(0, np.int64)
    outcome = settle_contest(Contest(none, none, none, np.zeros(0)), 2, 0)
    assert outcome.tunnel.tolist() == [-1, -1]
    assert (outcome.claim < 0).all()


def otherwise(rows, taken, flow):
    """Odds of all that a flow may do instead, one, two or three pairs changed, against what was taken."""
    weight = {(f, c): 10.0**d for f, c, _, d in rows}
    tunnel_of = {c: t for _, c, t, _ in rows}
    holder = {c: f for f, c in taken.items()}
    own = taken[flow]
    total = 1.0 / weight[flow, own]
    for (f, c), w in weight.items():
        if f != flow and c == own:  # another takes it: it leaves what it has
            left = weight[f, taken[f]] if f in taken else 1.0
            total += w / left / weight[flow, own]
        if f == flow and tunnel_of[c] != tunnel_of[own]:
            if c not in holder:
                total += w / weight[flow, own]
            else:  # its holder goes without, to a free connection, or to this one's
                victim = holder[c]
                free = sum(x for (g, d), x in weight.items() if g == victim and d not in holder)
                back = weight.get((victim, own), 0.0)
                total += w / weight[flow, own] / weight[victim, c] * (1 + free + back)
    return total


@pytest.mark.parametrize("seed", range(40))
def test_no_claim_exceeds_what_is_left_of_the_other_ways(seed):
    rng = np.random.default_rng(seed)
    rows = [
        (f, c, c % 2, float(rng.uniform(-5, 5))) for f in range(4) for c in range(5) if rng.random() < 0.6
    ]
    outcome = settle_contest(contest(rows), 4, 5)
    taken = {f: int(c) for f, c in enumerate(outcome.connection.tolist()) if c >= 0}
    against = 1.0 + np.bincount(outcome.pairs.flow, outcome.strength, 4)
    for flow, connection in taken.items():
        mine = (outcome.pairs.flow == flow) & (outcome.pairs.tunnel == connection % 2)
        by_messages = outcome.strength[mine].sum() / (against[flow] - outcome.strength[mine].sum())
        expected = max(1 / by_messages, otherwise(rows, taken, flow))
        assert outcome.claim[flow] == pytest.approx(-np.log10(expected), abs=1e-6)
        assert outcome.tunnel[flow] == connection % 2
    assert len(set(taken.values())) == len(taken)
    nobody = [f for f in range(4) if f not in taken]
    assert outcome.claim[nobody].tolist() == [-9.0] * len(nobody)
    assert outcome.tunnel[nobody].tolist() == outcome.connection[nobody].tolist() == [-1] * len(nobody)


def test_what_weighs_next_to_nothing_is_no_pair_and_what_weighs_too_much_is_cut():
    outcome = settle_contest(contest([(0, 0, 0, -6.0), (0, 1, 1, -5.9), (1, 2, 0, 400.0)]), 2, 3)
    assert outcome.pairs.connection.tolist() == [1, 2]
    assert outcome.connection.tolist() == [-1, 2], "less than to be alone is not taken"
    assert outcome.claim[1] == pytest.approx(60.0, abs=0.1)
    assert np.isfinite(outcome.strength).all()
