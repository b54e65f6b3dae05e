"""What cells seen against cells needed add to a decision, of clients of Tor.

Classes of what is noted (:mod:`vpnforensics.engines.cells`) begin with a worth by hand; who is sure by that
is served first, which leaves less for the others to find by chance; then the worth is counted from who is
sure, against the same flows with other clients and copies turned in time, of each client by itself: one who
downloads has cells for everybody. This is repeated.

A flow's claim is the logarithm of its odds, less the most that any other flow would gain, had it no client:
without that, flows of a client who was not captured took the place of those that they resemble.

What the odds are worth is measured on two kinds of comparisons that are known to be false: copies of the
flows, turned in time, that contend with the case's flows; and the case without one of its clients, each in
turn. No odds are believed further than both allow, nor than the half that the policy believes of scores whose
terms are not independent.

Where a link by writes has the same client, the smaller error stands: both see the same cells. Where cells are
sure of another client, or of none, it is taken back. All other flows are linked in order of the stated error,
as far as the sum of errors allows. Nothing is denied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines import cells as engine
from vpnforensics.engines._cell_kernels import Desk, count_classes, find_losses, place_all
from vpnforensics.engines.case import Case
from vpnforensics.engines.cells import CLASSES, FEATURES, LAW, Tor
from vpnforensics.evidence.attribution import surest
from vpnforensics.evidence.calibration import LEAST_KNOWN, chance_slope
from vpnforensics.evidence.connections import unlinked
from vpnforensics.evidence.contended import Contended, doubt, heard
from vpnforensics.evidence.contest import Contest, settle_contest
from vpnforensics.evidence.decision import Decision
from vpnforensics.tunnels.cells import Needs, Parts

_BELIEVED = 2.0
"""Decades from which on a flow has its client's cells, and teaches."""
_LEARNED, _ROUNDS = 3, 4
"""How often the worth is learned, and how often flows are asked each time."""
_PRIOR_COUNTS, _PRIOR_OF_CLIENT = 5.0, 20.0
"""Counts of chance that each feature begins with, and of all clients' that each client's begins with."""
_HOMELESS = 4.0
"""Decades from which on a flow would not leave its client for another's cells."""
_TURNS_LEARNED, _TURNS_TRIED = 2, 3
_COPIED = 0.5
"""Share of the flows that contend as copies at a time: more would compete with one another."""
_LEFT_OUT = 10
"""Clients without which the case is asked again, at most."""
_NOBODY = -9.0


@dataclass(frozen=True, eq=False)
class _Settled:
    """Flows with the clients that they are sure of."""

    desk: Desk
    score: Floats
    """Decades, shape (flows, clients)."""
    owner: Ints
    likeliest: Ints
    claim: Floats
    """log10 odds that it was this client."""


def with_cells(case: Case, decision: Decision, rng: np.random.Generator) -> Decision:
    """The decision with what cells say, where all tunnels are clients of Tor and nothing else has spoken.

    Parameters
    ----------
    case : Case
    decision : Decision
    rng : numpy.random.Generator
        Turns the copies.
    """
    if any(t.protocol != engine.PROTOCOL for t in case.tunnels.tunnels):
        return decision
    tor = engine.prepare(case)
    if tor is None or tor.too_many:
        return decision
    asked = _Asked(case, tor, rng)
    found, clients = asked.found, len(tor.clients)
    if (found.owner >= 0).sum() < LEAST_KNOWN:
        return decision
    claim = asked.contended(found)
    chance, tried = asked.copies()
    without, compared = asked.without()
    slope = min(
        decision.policy.believed, chance_slope(chance, tried * clients), chance_slope(without, compared)
    )
    having = np.diff(found.desk.asked.start)
    tunnel = tor.clients[found.likeliest]
    error = np.where(having > 0, np.maximum(doubt(slope * claim), decision.policy.least_error), 1.0)
    linked_before = decision.tunnel >= 0
    contradicted = linked_before & ((found.owner < 0) | (tunnel != decision.tunnel))
    decision = unlinked(case, decision, contradicted)
    stands = decision.tunnel >= 0
    decision = replace(decision, error=np.where(stands, np.minimum(decision.error, error), decision.error))
    open_ = np.where(stands | contradicted, 1.0, error)
    linked = surest(open_, decision.policy.expected_false_links - decision.expected_false_links)
    worst = float(open_[linked].max(initial=0.0))
    decided = replace(
        decision,
        engine=decision.engine or engine.NAME,
        tunnel=np.where(linked, tunnel, decision.tunnel).astype(np.int32),
        error=np.where(linked, error, decision.error),
        comparisons_of=np.where(having > 0, clients, decision.comparisons_of),
        null_comparisons=decision.null_comparisons + tried * clients + compared,
        decoys=replace(
            decision.decoys,
            tried=decision.decoys.tried + tried,
            linked=decision.decoys.linked + int((doubt(slope * chance) <= worst).sum()),
            comparisons=decision.decoys.comparisons + tried * clients,
        ),
    )
    flow, client = np.divmod(np.arange(len(having) * clients), clients)
    decades = (found.score - np.log10(clients)).ravel()
    contest = Contest(flow, np.arange(len(flow)), tor.clients[client], decades).take(having[flow] > 0)
    outcome = replace(settle_contest(contest, len(having), len(flow)), tunnel=tunnel, claim=claim)
    won = tuple(f"{n} needs against the cells of its streams" for n in having.tolist())
    silence = "its streams had no cells where the flow needs them"
    every = np.full(len(having), clients)
    return heard(
        case,
        decided,
        Contended(engine.NAME, contest, outcome, every, slope, linked, won, silence, having.astype(np.int32)),
    )


class _Asked:
    """A case, and what its classes are worth."""

    def __init__(self, case: Case, tor: Tor, rng: np.random.Generator) -> None:
        self._case, self._tor, self._rng = case, tor, rng
        self._flows, self._clients = len(case.flows), len(tor.clients)
        copies = [self._turned(1.0) for _ in range(_TURNS_LEARNED)]
        self._worth = np.tile(engine.BEGUN, (self._clients, 1))
        self.found = self._settle(None, -1)
        for _ in range(_LEARNED):
            self._worth = self._learn(copies)
            self.found = self._settle(None, -1)

    def contended(self, found: _Settled) -> Floats:
        """What flows claim, less what others would gain from theirs."""
        asked, flows = found.desk.asked, len(found.claim)
        span_ns = np.zeros((flows, 2), np.int64)
        some = np.flatnonzero(np.diff(asked.start) > 0)
        up = asked.down == 0
        begin_ns = np.where(up, -asked.end_ns, asked.begin_ns)
        end_ns = np.where(up, -asked.begin_ns, asked.end_ns)
        span_ns[some, 0] = np.minimum.reduceat(begin_ns, asked.start[some])
        span_ns[some, 1] = np.maximum.reduceat(end_ns, asked.start[some])
        claim = np.where(found.owner >= 0, found.claim, 0.0)
        homeless = some[claim[some] < _HOMELESS]
        homeless = homeless[np.argsort(span_ns[homeless, 0], kind="stable")]
        loss = np.zeros(flows)
        find_losses(found.desk, LAW, homeless, span_ns, claim, self._worth, loss)
        return np.asarray(found.claim - loss)

    def copies(self) -> tuple[Floats, int]:
        """What copies claim that contend with the case's flows, and how many they are."""
        claims, tried = [np.zeros(0)], 0
        for _ in range(_TURNS_TRIED):
            more = self._turned(_COPIED)
            claims.append(self.contended(self._settle(more, -1))[np.unique(more[0].flow)])
            tried += len(claims[-1])
        return np.concatenate(claims), tried

    def without(self) -> tuple[Floats, int]:
        """What flows claim whose client is left out, each in turn; and how many comparisons these are."""
        claims, compared = [np.zeros(0)], 0
        for gone in self._rng.permutation(self._clients)[:_LEFT_OUT].tolist():
            its = self.found.owner == gone
            claims.append(self.contended(self._settle(None, gone))[its])
            compared += int(its.sum()) * (self._clients - 1)
        return np.concatenate(claims), compared

    def _turned(self, share: float) -> tuple[Needs, Parts]:
        """Needs of a share of the flows, moved in time away from their place."""
        shift_ns, away = self._case.circle.turned(self._case.begin_ns, self._rng.random(self._flows))
        return self._tor.turned(shift_ns, away & (self._rng.random(self._flows) < share), self._flows)

    def _settle(self, more: tuple[Needs, Parts] | None, gone: int) -> _Settled:
        """Flows are asked of all clients in order of what they claim; who is sure is served from then on."""
        flows = self._flows * (1 if more is None else 2)
        desk = self._tor.desk(flows, more)
        score = np.full((flows, self._clients), -np.inf)
        order = np.flatnonzero(np.diff(desk.asked.start) > 0)
        for believed in (np.inf, *[_BELIEVED] * _ROUNDS):
            place_all(desk, LAW, order, gone, self._worth, believed, score)
            likeliest, claim = self._claims(score)
            order = order[np.argsort(-claim[order], kind="stable")]
        return _Settled(desk, score, desk.owner[:flows], likeliest, claim)

    def _claims(self, score: Floats) -> tuple[Ints, Floats]:
        """Likeliest client of each flow, and the log10 odds: as likely in none as in any of them."""
        likeliest = score.argmax(axis=1)
        weight = 10.0 ** np.clip(score, -300.0, 60.0)
        rows = np.arange(len(score))
        for_it = score[rows, likeliest]
        weight[rows, likeliest] = 0.0
        claim = for_it - np.log10(self._clients + weight.sum(axis=1))
        return likeliest, np.where(np.isfinite(for_it), claim, _NOBODY)

    def _learn(self, copies: list[tuple[Needs, Parts]]) -> Floats:
        """log10 of how much oftener sure pairs have each class than chance has it, of each client."""
        desk, owner = self.found.desk, self.found.owner
        known = np.flatnonzero(owner >= 0)
        true, false = np.zeros((2, self._clients, CLASSES))
        count_classes(desk, LAW, known, owner[known], true)
        for step in range(1, self._clients):
            count_classes(desk, LAW, known, (owner[known] + step) % self._clients, false)
        for more in copies:
            turned = self._tor.desk(2 * self._flows, more)
            turned.owner[: self._flows] = owner
            flows = np.unique(more[0].flow)
            for client in range(self._clients):
                count_classes(turned, LAW, flows, np.full(len(flows), client), false)
        every = _shares(false.sum(axis=0), 1.0 / np.bincount(FEATURES)[FEATURES], _PRIOR_COUNTS)
        mine = _shares(true.sum(axis=0), every, _PRIOR_COUNTS)
        chance = np.array([_shares(counts, every, _PRIOR_OF_CLIENT) for counts in false])
        worth = np.log10(mine / chance)
        return np.asarray(np.where(engine.AGAINST, np.minimum(worth, 0.0), worth))


def _shares(counts: Floats, before: Floats, many: float) -> Floats:
    """Of each class in its feature, where so many had been counted before."""
    whole = np.bincount(FEATURES, counts)[FEATURES]
    return np.asarray((counts + many * before) / (whole + many))
