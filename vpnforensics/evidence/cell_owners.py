"""Whose cells: which client of Tor had which flow, and what such a claim is worth.

Classes of what is noted (:mod:`vpnforensics.engines.cells`) begin with a worth by hand. Flows are asked
of all clients in order of what they claim, and who is sure is served first, which leaves less for the
others to find by chance; then the worth is counted from who is sure, against the same flows with other
clients and copies turned in time, of each client by itself: one who downloads has cells for everybody.

From who is sure on, clients are drawn: each flow in turn, as likely as each client is beside all other
flows where they are now, or none (Gibbs sampling: Geman & Geman 1984, IEEE PAMI 6). How often a flow is
of none is learned by the way. The mean of the chances that were drawn from, of several chains, is the
flow's.

Draws seldom exchange two flows that are as likely in each other's place. So a claim, the logarithm of a
flow's odds, is at most what the state allows in which each has its likeliest, less the most that any
other flow would gain, had this one no client: without that, flows of a client who was not captured took
the place of those that they resemble.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Floats, Ints
from vpnforensics.engines import cells as engine
from vpnforensics.engines._cell_kernels import (
    Desk,
    count_classes,
    draw_all,
    find_losses,
    place_all,
    score_all,
)
from vpnforensics.engines.case import Case
from vpnforensics.engines.cells import CLASSES, FEATURES, SLACKS_NS, Tor
from vpnforensics.evidence.contended import odds_of_nobody
from vpnforensics.tunnels.cells import CELLS_A_SENDME, Needs, Parts

_BELIEVED = 2.0
"""Decades from which on a flow has its client's cells, and teaches."""
_LEARNED, _ROUNDS = 2, 4
"""How often the worth is learned from who is believed, and how often flows are asked each time."""
_CHAINS, _BURNT, _DRAWN = 2, 2, 5
"""Chains of draws, rounds of each that are forgotten, and rounds that count."""
SURE = 0.99
"""Chance from which on a flow teaches, once chances are drawn."""
_PRIOR_COUNTS, _PRIOR_OF_CLIENT = 5.0, 20.0
"""Counts of chance that each feature begins with, and of all clients' that each client's begins with."""
_HOMELESS = 4.0
"""Decades from which on a flow would not leave its client for another's cells."""
_TURNS_LEARNED, _TURNS_TRIED = 2, 2
_COPIED = 0.5
"""Share of the flows that contend as copies at a time: more would compete with one another."""
_LEFT_OUT = 5
"""Clients without which the case is asked again, at most."""
_MOST_WORTH = 1.2
"""Decades that one class is worth at most: bursts of one transfer are not independent, and copies of
large ones claimed sixty."""
_NOBODY = -9.0
_MOST_DRAWN = 12.0
"""Decades that a mean of chances can tell."""


@dataclass(frozen=True, eq=False)
class Settled:
    """Flows with the clients that they are sure of."""

    desk: Desk
    score: Floats
    """Decades, shape (flows, clients)."""
    likeliest: Ints
    chance: Floats
    """That the likeliest client carried it."""
    claim: Floats
    """log10 odds that it was this client."""


class Owners:
    """The flows of a case beside its clients' cells, and what classes are worth there."""

    def __init__(self, case: Case, tor: Tor, rng: np.random.Generator) -> None:
        self._case, self._tor, self._rng = case, tor, rng
        self._flows, self._clients = len(case.flows), len(tor.clients)
        self._worth = np.tile(engine.BEGUN, (self._clients, 1))
        begun = self._begun()
        copies = [self._turned(1.0) for _ in range(_TURNS_LEARNED)]
        for _ in range(_LEARNED):
            self._worth = self._learn(copies, begun)
            begun = self._placed(None, -1)
        self._worth = self._learn(copies, begun)
        self.found = self._settle(None, -1)
        sure = self.found.desk
        sure.owner[: self._flows] = np.where(self.found.chance > SURE, self.found.likeliest, -1)
        self._worth = self._learn(copies, sure)
        self.found = self._settle(None, -1)

    def copies(self) -> tuple[Floats, Ints]:
        """What copies claim that contend with the case's flows, and the flow of each."""
        claims, copied = [np.zeros(0)], [np.zeros(0, np.int64)]
        for _ in range(_TURNS_TRIED):
            more = self._turned(_COPIED)
            number = np.unique(more[0].flow)
            claims.append(self._settle(more, -1).claim[number])
            copied.append(number - self._flows)
        return np.concatenate(claims), np.concatenate(copied)

    def without(self) -> tuple[Floats, Ints]:
        """What flows claim whose client is left out, each in turn; and which flows."""
        claims, asked = [np.zeros(0)], [np.zeros(0, np.int64)]
        for gone in self._rng.permutation(self._clients)[:_LEFT_OUT].tolist():
            its = np.flatnonzero((self.found.chance > SURE) & (self.found.likeliest == gone))
            claims.append(self._settle(None, gone).claim[its])
            asked.append(its)
        return np.concatenate(claims), np.concatenate(asked)

    @property
    def large(self) -> Bools:
        """Flows with large needs: copies of whole transfers claim more than others ever do."""
        needs = self._tor.needs
        most = np.zeros(self._flows, np.int64)
        np.maximum.at(most, needs.flow, needs.cells)
        return most > CELLS_A_SENDME

    def _begun(self) -> Desk:
        """Those who are sure, with the clocks set right by them, and the slack by which they are most."""
        self._tor = loose = self._tor.moved(0, int(SLACKS_NS[-2]))
        error_ns = engine.clock_error(loose, self._placed(None, -1).owner[: self._flows])
        tried, sure = [], []
        for slack_ns in SLACKS_NS.tolist():
            self._tor = loose.moved(-error_ns, slack_ns)
            tried.append((self._tor, self._placed(None, -1)))
            sure.append(np.count_nonzero(tried[-1][1].owner[: self._flows] >= 0))
        self._tor, begun = tried[int(np.argmax(sure))]
        return begun

    def _turned(self, share: float) -> tuple[Needs, Parts]:
        """Needs of a share of the flows, moved in time away from their place."""
        shift_ns, away = self._case.circle.turned(self._case.begin_ns, self._rng.random(self._flows))
        return self._tor.turned(shift_ns, away & (self._rng.random(self._flows) < share), self._flows)

    def _settle(self, more: tuple[Needs, Parts] | None, gone: int) -> Settled:
        """Who had which client: the mean of draws that begin with who is sure.

        Draws seldom exchange two flows that are as likely in each other's place, so that a claim is at most
        what the state allows where each flow has its likeliest, less what another would gain from its cells.
        """
        desk = self._placed(more, gone)
        begun, order, flows = desk.owner.copy(), self._having(desk), len(desk.owner) - self._clients
        chance, nobody = np.zeros((flows, self._clients)), float(self._clients)
        for _ in range(_CHAINS):
            desk.owner[:] = begun
            drawn = np.zeros_like(chance)
            for turn in range(_BURNT + _DRAWN):
                uniform, once = self._rng.random(len(order)), np.zeros_like(chance)
                turns = self._rng.permutation(order)
                draw_all(desk, turns, gone, self._worth, nobody, uniform, once)
                nobody = self._clients * odds_of_nobody(1.0 - once[order].sum(axis=1))
                drawn += once * (turn >= _BURNT)
            chance += drawn / (_CHAINS * _DRAWN)
        likeliest, its = chance.argmax(axis=1), chance.max(axis=1)
        least = 10.0**-_MOST_DRAWN
        desk.owner[:flows] = np.where(its > 0.5, likeliest, -1)
        score = np.full((flows, self._clients), -np.inf)
        score_all(desk, order, gone, self._worth, score)
        best, claim = self._claims(score, nobody)
        claim = np.where((best == likeliest) & (desk.owner[:flows] >= 0), claim, 0.0)
        claim -= self._losses(desk, claim, nobody)
        drawn_claim = np.log10(np.maximum(its, least) / np.maximum(1.0 - its, least))
        return Settled(desk, score, likeliest, its, np.minimum(claim, drawn_claim))

    def _having(self, desk: Desk) -> Ints:
        """Flows that need anything."""
        return np.flatnonzero(np.diff(desk.asked.start) > 0)

    def _losses(self, desk: Desk, claim: Floats, nobody: float) -> Floats:
        """The most that another flow would gain, had each flow none of its client's cells."""
        asked, some = desk.asked, self._having(desk)
        span_ns = np.zeros((len(claim), 2), np.int64)
        up = asked.down == 0
        begin_ns = np.where(up, -asked.end_ns, asked.begin_ns)
        end_ns = np.where(up, -asked.begin_ns, asked.end_ns)
        span_ns[some, 0] = np.minimum.reduceat(begin_ns, asked.start[some])
        span_ns[some, 1] = np.maximum.reduceat(end_ns, asked.start[some])
        homeless = some[claim[some] < _HOMELESS]
        homeless = homeless[np.argsort(span_ns[homeless, 0], kind="stable")]
        loss = np.zeros(len(claim))
        find_losses(desk, homeless, span_ns, claim, self._worth, nobody, loss)
        return loss

    def _placed(self, more: tuple[Needs, Parts] | None, gone: int) -> Desk:
        """Flows are asked of all clients in order of what they claim; who is sure is served from then on."""
        flows = self._flows * (1 if more is None else 2)
        desk = self._tor.desk(flows, more)
        score = np.full((flows, self._clients), -np.inf)
        order = self._having(desk)
        for believed in (np.inf, *[_BELIEVED] * _ROUNDS):
            place_all(desk, order, gone, self._worth, believed, score)
            claim = self._claims(score, self._clients)[1]
            order = order[np.argsort(-claim[order], kind="stable")]
        return desk

    def _claims(self, score: Floats, nobody: float) -> tuple[Ints, Floats]:
        """Likeliest client of each flow, and the log10 odds."""
        likeliest = score.argmax(axis=1)
        weight = 10.0 ** np.clip(score, -300.0, 60.0)
        rows = np.arange(len(score))
        for_it = score[rows, likeliest]
        weight[rows, likeliest] = 0.0
        claim = for_it - np.log10(nobody + weight.sum(axis=1))
        return likeliest, np.where(np.isfinite(for_it), claim, _NOBODY)

    def _learn(self, copies: list[tuple[Needs, Parts]], desk: Desk) -> Floats:
        """log10 of how much oftener sure pairs have each class than chance has it, of each client."""
        owner = desk.owner[: self._flows]
        known = np.flatnonzero(owner >= 0)
        true, false = np.zeros((2, self._clients, CLASSES))
        count_classes(desk, known, owner[known], true)
        for step in range(1, self._clients):
            count_classes(desk, known, (owner[known] + step) % self._clients, false)
        for more in copies:
            turned = self._tor.desk(2 * self._flows, more)
            turned.owner[: self._flows] = owner
            flows = np.unique(more[0].flow)
            for client in range(self._clients):
                count_classes(turned, flows, np.full(len(flows), client), false)
        every = _shares(false.sum(axis=0), 1.0 / np.bincount(FEATURES)[FEATURES], _PRIOR_COUNTS)
        mine = _shares(true.sum(axis=0), every, _PRIOR_COUNTS)
        chance = np.array([_shares(counts, every, _PRIOR_OF_CLIENT) for counts in false])
        worth = np.log10(mine / chance)
        return np.asarray(np.minimum(worth, np.where(engine.AGAINST, 0.0, _MOST_WORTH)))


def _shares(counts: Floats, before: Floats, many: float) -> Floats:
    """Of each class in its feature, where so many had been counted before."""
    whole = np.bincount(FEATURES, counts)[FEATURES]
    return np.asarray((counts + many * before) / (whole + many))
