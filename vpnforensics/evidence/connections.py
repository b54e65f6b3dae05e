"""What whole connections add to a decision on relays that open one for each of their client's.

Known pairs come from the writes: a linked flow's records stand in one outer connection. How often those have
each class of what is noted (:mod:`vpnforensics.engines.connections`), against how often copies of the flows
turned in time and linked flows in other tunnels' connections have it, is the class's worth; a pair's score
is the sum. Scores become odds where flows and connections contend, each to be had once
(:mod:`vpnforensics.evidence.contest`); who is sure there is known, too, and the worth is learned again: the
first known pairs are all of connections with many small writes.

Classes of a pair depend on each other, and no rate behind them was counted further than the case goes. So
what the odds are worth is measured: copies of the flows, turned in time, contend with the case's flows, and
no odds are believed further than theirs allow (:mod:`vpnforensics.evidence.calibration`). Flows that have no
link are then linked in order of the stated error, as far as the sum of errors allows.

What writes are sure of contends for the connections of its tunnel only; the rest of their links contend as
all flows do, and have the smaller of both errors where both find the same tunnel: both see the same bytes.
Where a linked flow is left without a connection, or with another tunnel's, its writes stood in several or in
another flow's, and it is linked no more: one whose client was not captured had found all of nine writes
with another. Nothing is denied, and where known pairs share connections, nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.arrays import Bools, Floats, Ints
from vpnforensics.engines import connections as engine
from vpnforensics.engines.case import Case
from vpnforensics.engines.connections import ConnectionPairs, Connections
from vpnforensics.evidence.attribution import surest
from vpnforensics.evidence.calibration import LEAST_KNOWN, chance_slope
from vpnforensics.evidence.contended import Contended, heard
from vpnforensics.evidence.contended import doubt as doubt_of
from vpnforensics.evidence.contest import Contest, Outcome, settle_contest
from vpnforensics.evidence.decision import Decision
from vpnforensics.tunnels.write_law import WriteLaw

_LEAST_ALONE = 0.7
"""Connections for each known flow; with fewer, connections carry many. Under 10 ms of jitter, writes that
stand in the wrong connection of the right client leave 0.86; one ssh stream a client has 0.05."""
_ROUNDS, _BELIEVED = 3, 1.5
"""How often the worth is learned, and the decades from which on a pair is known the next time."""
_PRIOR_COUNTS = 2.0
"""Counts of chance that each feature's known ones begin with: a class never seen is no proof."""
_BY_WRITES = 5.0
"""Decades by which a connection leads that has the writes of a flow that they linked."""
_TURNS_LEARNED, _TURNS_TRIED, _LEAST_TURNS = 4, 10, 2
_AT_ONCE = 100_000
_COMPARED = 150_000
"""How often flows are turned: to learn from, to try, and at least; pairs looked at in one piece; comparisons
of turned copies from which on no further turn is made. Bounds of work and memory."""


@dataclass(frozen=True, eq=False)
class _Learned:
    """What classes are worth, and what the case's own pairs come to."""

    connections: Connections
    least: tuple[int, int]
    worth: Floats
    share: float
    """Of the flows that are copied: in a busy case all of them would be compared too often."""
    compared: Bools
    """Flows that were compared with any connection."""
    contest: Contest
    outcome: Outcome


def with_connections(case: Case, decision: Decision, rng: np.random.Generator) -> Decision:
    """The decision with what whole connections say.

    Parameters
    ----------
    case : Case
        Its tunnels are carriers.
    decision : Decision
        By writes.
    rng : numpy.random.Generator
        Turns the copies.
    """
    connection = connections_of(case, decision)
    known = np.flatnonzero(connection >= 0)
    if len(known) < LEAST_KNOWN or shared(connection):
        return decision
    tunnels, law = of_one_law(case, decision)
    connections = engine.prepare(case, tunnels, law.frame)
    learned = _learn(case, connections, connection, decision, rng)
    claims, tried, compared = _copies(case, learned, rng)
    slope = chance_slope(claims, tried)
    outcome = learned.outcome
    doubt = np.maximum(doubt_of(slope * outcome.claim), decision.policy.least_error)
    contradicted = learned.compared & (outcome.tunnel != decision.tunnel) & (decision.tunnel >= 0)
    decision = unlinked(case, decision, contradicted)
    stands = decision.tunnel >= 0
    error = np.where(stands & (outcome.tunnel >= 0), np.minimum(decision.error, doubt), decision.error)
    decision = replace(decision, error=error)
    doubt = np.where(stands | contradicted, 1.0, doubt)
    linked = surest(doubt, decision.policy.expected_false_links - decision.expected_false_links)
    worst = float(doubt[linked].max(initial=0.0))
    wrongly = int((doubt_of(slope * claims) <= worst).sum())
    decided = replace(
        decision,
        tunnel=np.where(linked, outcome.tunnel, decision.tunnel).astype(np.int32),
        error=np.where(linked, doubt, decision.error),
        decoys=replace(
            decision.decoys,
            tried=decision.decoys.tried + tried,
            linked=decision.decoys.linked + wrongly,
            comparisons=decision.decoys.comparisons + compared,
        ),
    )
    won = tuple(
        f"its likeliest connection opened at {case.conversations.source(c)}" if c >= 0 else "contended"
        for c in outcome.connection.tolist()
    )
    return heard(
        case,
        decided,
        Contended(
            engine.NAME,
            learned.contest,
            outcome,
            np.bincount(learned.contest.flow, minlength=len(case.flows)),
            slope,
            linked,
            won,
            "none of its connections opened then and carried as much",
        ),
    )


def shared(connection: Ints) -> bool:
    """Whether outer connections carry many flows each, by the connection of each flow, -1 where not known."""
    known = connection[connection >= 0]
    return len(np.unique(known)) < _LEAST_ALONE * len(known)


def of_one_law(case: Case, decision: Decision) -> tuple[Bools, WriteLaw]:
    """The tunnels of the law that most linked flows are under, and it."""
    number = int(np.bincount(case.map_of_tunnel[decision.tunnel[decision.tunnel >= 0]]).argmax())
    law = case.maps[number]
    assert isinstance(law, WriteLaw)
    return case.map_of_tunnel == number, law


def unlinked(case: Case, decision: Decision, which: Bools) -> Decision:
    """The decision without the links of some flows."""
    return replace(
        decision,
        tunnel=np.where(which, -1, decision.tunnel).astype(np.int32),
        error=np.where(which, 1.0, decision.error),
        record=np.where(np.repeat(which, np.diff(case.egress.start)), -1, decision.record),
    )


def connections_of(case: Case, decision: Decision) -> Ints:
    """Ingress conversation in which most of each linked flow's records stand, -1 without."""
    found = np.flatnonzero(decision.record >= 0)
    rows = case.tunnels.records.row[decision.record[found]]
    flow = np.repeat(np.arange(len(case.flows)), np.diff(case.egress.start))[found]
    width = np.int64(max(len(case.conversations), 1))
    pair, count = np.unique(flow * width + case.conversations.flow[rows], return_counts=True)
    order = np.argsort(count, kind="stable")
    connection = np.full(len(case.flows), -1, np.int64)
    connection[pair[order] // width] = pair[order] % width
    return np.where(decision.tunnel >= 0, connection, -1)


def _learn(
    case: Case, connections: Connections, by_writes: Ints, decision: Decision, rng: np.random.Generator
) -> _Learned:
    still = np.zeros(len(case.flows), np.int64)
    pairs = connections.candidates(still, np.ones(len(still), np.bool_))
    compared = np.bincount(pairs.flow, minlength=len(still)) > 0
    share = min(_COMPARED / max(len(pairs), 1), 1.0)
    known = by_writes[pairs.flow] == pairs.connection
    least = connections.least_amounts(pairs.take(known))
    observed = connections.observe(pairs, still, least)
    tunnel = connections.tunnel_of[pairs.connection]
    linked = decision.tunnel[pairs.flow]
    chance = observed.counts(connections.classes, (linked >= 0) & (tunnel != linked))
    for turned, shift_ns in _turned(case, connections, share, _TURNS_LEARNED, rng):
        for part in _parts(turned):
            chance += connections.observe(part, shift_ns, least).counts(connections.classes)
    sure = (decision.tunnel >= 0) & (decision.error <= decision.policy.sure)
    allowed = ~sure[pairs.flow] | (tunnel == linked)
    lead = np.where(known & sure[pairs.flow], _BY_WRITES, 0.0)
    for _ in range(_ROUNDS):
        worth = _worth(observed.counts(connections.classes, known), chance, connections.features)
        contest = _contest(connections, pairs, observed.sums(worth, len(pairs)) + lead).take(allowed)
        outcome = settle_contest(contest, len(case.flows), len(case.conversations))
        believed = np.where(outcome.claim > _BELIEVED, outcome.connection, -1)
        known = believed[pairs.flow] == pairs.connection
    return _Learned(connections, least, worth, share, compared, contest, outcome)


def _worth(known: Floats, chance: Floats, features: list[int]) -> Floats:
    """log10 of how much oftener known pairs have each class than chance has it."""
    feature = np.repeat(np.arange(len(features)), features)
    seen = np.bincount(feature, (known + chance) > 0)[feature]
    by_chance = (chance + 1.0) / (np.bincount(feature, chance)[feature] + np.maximum(seen, 1))
    true = (known + _PRIOR_COUNTS * by_chance) / (np.bincount(feature, known)[feature] + _PRIOR_COUNTS)
    return np.asarray(np.log10(true / by_chance))


def _contest(connections: Connections, pairs: ConnectionPairs, score: Floats) -> Contest:
    """Scores as weights: beforehand a flow is as likely in none as in any of the connections it is
    compared with.
    """
    flow = pairs.flow.astype(np.int64)
    decades = score - np.log10(np.bincount(flow)[flow]) if len(flow) else score
    connection = pairs.connection.astype(np.int64)
    return Contest(flow, connection, connections.tunnel_of[connection], decades)


def _turned(
    case: Case, connections: Connections, share: float, turns: int, rng: np.random.Generator
) -> Iterator[tuple[ConnectionPairs, Ints]]:
    """Pairs of a share of the flows moved in time, away from their place, and by how much."""
    compared = 0
    for turn in range(turns):
        if turn >= _LEAST_TURNS and compared >= _COMPARED:
            return
        shift_ns, away = case.circle.turned(connections.inner.begin_ns, rng.random(len(case.flows)))
        pairs = connections.candidates(shift_ns, away & (rng.random(len(away)) < share))
        compared += len(pairs)
        yield pairs, shift_ns


def _parts(pairs: ConnectionPairs) -> Iterator[ConnectionPairs]:
    """The pairs, so many at a time that what is noted of them stays small."""
    for first in range(0, len(pairs), _AT_ONCE):
        yield pairs.take(np.arange(first, min(first + _AT_ONCE, len(pairs))))


def _copies(case: Case, learned: _Learned, rng: np.random.Generator) -> tuple[Floats, int, int]:
    """What copies claim that contend with the case's flows; how many they are, and their comparisons."""
    connections, flows = learned.connections, len(case.flows)
    claims, tried, compared = [np.zeros(0)], 0, 0
    for pairs, shift_ns in _turned(case, connections, learned.share, _TURNS_TRIED, rng):
        scores = [
            connections.observe(part, shift_ns, learned.least).sums(learned.worth, len(part))
            for part in _parts(pairs)
        ]
        copies = _contest(connections, pairs, np.concatenate([np.zeros(0), *scores]))
        mine = learned.contest
        both = Contest(
            np.r_[mine.flow, copies.flow + flows],
            np.r_[mine.connection, copies.connection],
            np.r_[mine.tunnel, copies.tunnel],
            np.r_[mine.decades, copies.decades],
        )
        outcome = settle_contest(both, 2 * flows, len(case.conversations))
        claims.append(outcome.claim[flows:][outcome.tunnel[flows:] >= 0])
        tried += len(np.unique(pairs.flow))
        compared += len(pairs)
    return np.concatenate(claims), tried, compared
