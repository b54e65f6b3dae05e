"""One flow, one connection: who had whom, where both can be had once.

Theory of operation
-------------------
Flows and connections are matched: a flow was in one connection or in none of those captured, a connection
carried one flow or none of them. A matching is as likely as the product of its pairs' weights (likelihood
ratio times prior odds; to be alone weighs 1). What a pair is worth then depends on its rivals: a flow whose
own client was not captured finds connections that look like its own, but these have flows of their own.

Marginals come from message passing (monomers and dimers: it converges on any graph, to the truth on trees;
Zdeborová & Mézard 2006, J. Stat. Mech. P05003). On a cycle it counts one swap several times and is too sure,
so the odds against a flow's tunnel are at least those of all ways to do otherwise that change at most three
pairs: to be alone; another's connection, which that one leaves or swaps; its own taken by another.

Known weakness: swaps among three or more, all as likely as what was taken, leave the odds too large by up to
a decimal logarithm (random graphs of three flows and four connections against all their matchings).

What is asked for is the tunnel, not the connection: all of one tunnel count together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Floats, Ints
from vpnforensics.evidence._contest_kernels import Grouped, take, tell
from vpnforensics.flows.grouping import places

_LEAST_DECADES, _MOST_DECADES = -6.0, 60.0
"""A pair of less weight changes nothing; beyond, sums are no longer finite."""
_ROUNDS, _STILL = 300, 1e-3
"""Rounds of messages, at most (45 were needed), and the change that ends them."""
_NOBODY = -9.0
"""Decades of a flow that has no connection."""


@dataclass(frozen=True, eq=False)
class Contest:
    """Pairs of flows and connections, one entry a pair."""

    flow: Ints
    connection: Ints
    tunnel: Ints
    """The connection's."""
    decades: Floats
    """Decimal logarithm of the pair's weight."""

    def take(self, index: Ints | Bools) -> Contest:
        """The pairs at ``index``."""
        return Contest(self.flow[index], self.connection[index], self.tunnel[index], self.decades[index])


@dataclass(frozen=True, eq=False)
class Outcome:
    """Who had whom."""

    pairs: Contest
    """Those that weigh anything."""
    strength: Floats
    """Of each pair, against 1 for its flow alone."""
    connection: Ints
    """Likeliest of each flow, -1 for none."""
    tunnel: Ints
    """Its tunnel."""
    claim: Floats
    """Of each flow: log10 odds that this tunnel carried it."""


def settle_contest(contest: Contest, flows: int, connections: int) -> Outcome:
    """Who had whom.

    Parameters
    ----------
    contest : Contest
        Each pair once.
    flows, connections : int
        How many there are.
    """
    pairs = contest.take(contest.decades > _LEAST_DECADES)
    weight = 10.0 ** np.minimum(pairs.decades, _MOST_DECADES)
    by_flow, by_connection = _grouped(pairs.flow, flows), _grouped(pairs.connection, connections)
    from_connection, from_flow = np.ones(len(weight)), np.ones(len(weight))
    for _ in range(_ROUNDS):
        tell(by_flow, weight, from_connection, from_flow)
        if tell(by_connection, weight, from_flow, from_connection) < _STILL:
            break
    strength = weight * from_connection
    share = strength / (1.0 + np.bincount(pairs.flow, strength, flows))[pairs.flow]
    order = np.argsort(-share, kind="stable")
    order = order[pairs.decades[order] > 0]
    of_flow, of_connection = np.full(flows, -1, np.int64), np.full(connections, -1, np.int64)
    take(order, pairs.flow, pairs.connection, of_flow, of_connection)
    having = of_flow >= 0
    tunnel = np.where(having, np.r_[pairs.tunnel, -1][of_flow], -1)
    mine = having[pairs.flow] & (pairs.tunnel == tunnel[pairs.flow])
    for_it = np.bincount(pairs.flow, strength * mine, flows)
    against = 1.0 + np.bincount(pairs.flow, strength * ~mine, flows)
    odds = np.maximum(against / np.maximum(for_it, 1e-30), _otherwise(pairs, of_flow, of_connection, tunnel))
    return Outcome(
        pairs,
        strength,
        np.where(having, np.r_[pairs.connection, -1][of_flow], -1),
        tunnel,
        np.where(having, -np.log10(odds), _NOBODY),
    )


def _otherwise(pairs: Contest, of_flow: Ints, of_connection: Ints, tunnel: Ints) -> Floats:
    """Odds of all ways to do otherwise, against each flow's own pair; 0 for flows without one."""
    flows, width = len(of_flow), np.int64(len(of_connection))
    own = np.where(of_flow >= 0, np.r_[pairs.decades, 0.0][of_flow], 0.0)
    other_pair = of_connection[pairs.connection]  # whose connection it is now
    holder = np.where(other_pair >= 0, np.r_[pairs.flow, -1][other_pair], -1)
    free = holder < 0
    odds = np.where(of_flow >= 0, _power(-own), 0.0)
    elsewhere = np.bincount(pairs.flow, _power(pairs.decades) * free, flows)
    # Another flow takes this one's connection, and leaves its own.
    taken = np.flatnonzero(~free & (holder != pairs.flow))
    victim = holder[taken]
    odds += np.bincount(victim, _power(pairs.decades[taken] - own[pairs.flow[taken]] - own[victim]), flows)
    # This one goes to a connection of another tunnel: a free one, or one whose flow then has to go.
    away = (of_flow[pairs.flow] >= 0) & (pairs.tunnel != tunnel[pairs.flow])
    gone = np.flatnonzero(away & free)
    odds += np.bincount(pairs.flow[gone], _power(pairs.decades[gone] - own[pairs.flow[gone]]), flows)
    swapped = np.flatnonzero(away & ~free)
    flow, victim = pairs.flow[swapped], holder[swapped]
    keys = pairs.flow * width + pairs.connection
    mine = np.r_[pairs.connection, -1][of_flow[flow]]
    back = np.r_[pairs.decades, -np.inf][places(keys, victim * width + mine)]
    change = _power(pairs.decades[swapped] - own[flow] - own[victim])
    odds += np.bincount(flow, change * (1.0 + elsewhere[victim] + _power(back)), flows)
    return odds


def _power(decades: Floats) -> Floats:
    return np.asarray(10.0 ** np.clip(decades, -300.0, _MOST_DECADES))


def _grouped(member: Ints, members: int) -> Grouped:
    row = np.argsort(member, kind="stable").astype(np.int64)
    return Grouped(np.searchsorted(member[row], np.arange(members + 1)).astype(np.int64), row)
