"""Who had which flow, where streams carry many, and what such a claim is worth.

Classes of what is noted (:mod:`vpnforensics.engines.volume`) begin with a worth by hand. Flows are asked of
all clients in order of what they claim, and who is sure is served first, which leaves less for the others to
find by chance; then the worth is counted from who is sure, against the same flows with other clients and
copies turned in time, of each client by itself: one who downloads has enough for everybody. Flows that have a
link by writes are their client's throughout.

From who is sure on, clients are drawn: each flow in turn, as likely as each client is beside all other
flows where they are now, or none (Gibbs sampling: Geman & Geman 1984, IEEE PAMI 6). How often a flow is
of none is learned by the way. The mean of the chances that were drawn from is the flow's.

Draws seldom exchange two flows that are as likely in each other's place. So a claim, the logarithm of a
flow's odds, is at most what the state allows in which each has its likeliest: less the most that any other
flow would gain, had this one no client, and beside all exchanges with another. Without the one, flows of a
client who was not captured took the place of those that they resemble; without the other, flows of clients
who ask for the same at one moment were linked crosswise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Floats, Ints
from vpnforensics.engines import volume as engine
from vpnforensics.engines._volume_kernels import (
    Desk,
    count_classes,
    draw_all,
    find_rivals,
    place_all,
    score_all,
)
from vpnforensics.engines.case import Case
from vpnforensics.engines.volume import CLASSES, FEATURES, SLACKS_NS, Streams
from vpnforensics.evidence.contended import odds_of_nobody
from vpnforensics.tunnels.needs import Needs, Parts

_BELIEVED = 2.0
"""Decades from which on a flow is served, and teaches."""
_LEARNED, _ROUNDS = 2, 4
"""How often the worth is learned from who is believed, and how often flows are asked each time."""
_BURNT, _DRAWN = 2, 5
"""Rounds of draws that are forgotten, and rounds that count."""
_HOPELESS = -6.0
"""Decades up to which a flow, asked beside who is known before, is not asked of a client again."""
SURE = 0.99
"""Chance from which on a flow teaches, once chances are drawn."""
_PRIOR_COUNTS, _PRIOR_OF_CLIENT = 5.0, 20.0
"""Counts of chance that each feature begins with, and of all clients' that each client's begins with."""
_LEAST, _HOMELESS = 1.0, 4.0
"""Decades from which on it is asked what else may be, and from which on a flow would not leave its client for
what another has."""
_TURNS_LEARNED, _TURNS_TRIED = 2, 5
_COPIED = 0.15
"""Share of the flows that contend as copies at a time: more would compete with one another."""
_LEFT_OUT = 5
"""Clients without which the case is asked again, at most."""
_RARELY = 0.05
"""Share of links up to which those without what they need are taken back: where more are, as under much
jitter, right ones are, too."""
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
    """That the likeliest client carried it; 1 where a link by writes says so."""
    claim: Floats
    """log10 odds that it was this client."""


class Owners:
    """The flows of a case beside its clients' streams, and what classes are worth there.

    Parameters
    ----------
    case : Case
    streams : Streams
    links : ndarray of int64, shape (flows,)
        Client of each flow that writes linked, -1 of others.
    rng : numpy.random.Generator
        Draws, and turns the copies.
    """

    def __init__(self, case: Case, streams: Streams, links: Ints, rng: np.random.Generator) -> None:
        self._case, self._streams, self._links, self._rng = case, streams, links, rng
        self._flows, self._clients = len(case.flows), len(streams.clients)
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

    def contradicted(self) -> Bools:
        """Flows linked by writes that do not find what they need with their client."""
        score, having = self.found.score, np.diff(self.found.desk.asked.start) > 0
        which = (self._links >= 0) & having
        which &= (score.argmax(axis=1) != self._links) | (score.max(axis=1) < 0)
        return np.asarray(which & (which.sum() <= _RARELY * (self._links >= 0).sum()))

    def copies(self) -> Floats:
        """What copies claim that contend with the case's flows."""
        claims = [np.zeros(0)]
        for _ in range(_TURNS_TRIED):
            more = self._turned(_COPIED)
            claims.append(self._settle(more, -1).claim[np.unique(more[0].flow)])
        return np.concatenate(claims)

    def without(self) -> Floats:
        """What flows claim whose client is left out, each in turn."""
        claims = [np.zeros(0)]
        for gone in self._rng.permutation(self._clients)[:_LEFT_OUT].tolist():
            its = (self.found.chance > SURE) & (self.found.likeliest == gone)
            claims.append(self._settle(None, gone).claim[its])
        return np.concatenate(claims)

    def _begun(self) -> Desk:
        """Those who are sure; where writes link nobody with the clocks set right by them, and the slack by
        which they are most.
        """
        if (self._links >= 0).any():
            return self._placed(None, -1)
        self._streams = loose = self._streams.moved(0, int(SLACKS_NS[-2]))
        error_ns = engine.clock_error(loose, self._placed(None, -1).owner[: self._flows])
        tried, sure = [], []
        for slack_ns in SLACKS_NS.tolist():
            self._streams = loose.moved(-error_ns, slack_ns)
            tried.append((self._streams, self._placed(None, -1)))
            sure.append(np.count_nonzero(tried[-1][1].owner[: self._flows] >= 0))
        self._streams, begun = tried[int(np.argmax(sure))]
        return begun

    def _turned(self, share: float) -> tuple[Needs, Parts]:
        """Needs of a share of the flows, moved in time away from their place."""
        shift_ns, away = self._case.circle.turned(self._case.begin_ns, self._rng.random(self._flows))
        return self._streams.turned(shift_ns, away & (self._rng.random(self._flows) < share), self._flows)

    def _linked(self, flows: int, gone: int) -> Ints:
        """Client of each of so many flows by writes, -1 of others, and of one client's."""
        linked = np.full(flows, -1)
        linked[: self._flows] = np.where(self._links == gone, -1, self._links)
        return linked

    def _placed(self, more: tuple[Needs, Parts] | None, gone: int) -> Desk:
        """Flows are asked of all clients in order of what they claim; who is sure is served from then on."""
        flows = self._flows * (1 if more is None else 2)
        desk, linked = self._streams.desk(flows, more), self._linked(flows, gone)
        desk.owner[:flows] = linked
        if gone >= 0:
            desk.hopeful[:, gone] = False
        order = np.flatnonzero((np.diff(desk.asked.start) > 0) & (linked < 0))
        score = np.full((flows, self._clients), -np.inf)
        for believed in (np.inf, *[_BELIEVED] * _ROUNDS):
            place_all(desk, order, self._worth, believed, score)
            if believed == np.inf:
                desk.hopeful[order] &= score[order] > _HOPELESS
            claim = self._claims(score, self._clients)[1]
            order = order[np.argsort(-claim[order], kind="stable")]
        return desk

    def _settle(self, more: tuple[Needs, Parts] | None, gone: int) -> Settled:
        """Who had which client: the mean of draws that begin with who is sure, as far as the state allows in
        which each flow has its likeliest.
        """
        desk = self._placed(more, gone)
        linked = self._linked(len(desk.span_ns), gone)
        having = np.flatnonzero(np.diff(desk.asked.start) > 0)
        order = having[linked[having] < 0]
        chance, nobody = np.zeros((len(linked), self._clients)), float(self._clients)
        for turn in range(_BURNT + _DRAWN):
            once = np.zeros_like(chance)
            draw_all(
                desk, self._rng.permutation(order), self._worth, nobody, self._rng.random(len(order)), once
            )
            nobody = self._clients * odds_of_nobody(1.0 - once[order].sum(axis=1))
            chance += once * (turn >= _BURNT) / _DRAWN
        known = np.flatnonzero(linked >= 0)
        chance[known, linked[known]] = 1.0
        likeliest, its = chance.argmax(axis=1), chance.max(axis=1)
        desk.owner[: len(linked)] = np.where(its > 0.5, likeliest, -1)
        score = np.full_like(chance, -np.inf)
        score_all(desk, having, self._worth, score)
        best, claim = self._claims(score, nobody)
        claim = np.where((best == likeliest) & (its > 0.5), claim, 0.0)
        least = 10.0**-_MOST_DRAWN
        drawn = np.log10(np.maximum(its, least) / np.maximum(1.0 - its, least))
        gain, odds = np.zeros((2, len(claim)))
        order = order[np.argsort(desk.span_ns[order, 0], kind="stable")]
        both = np.minimum(claim, drawn)
        find_rivals(desk, order, both, _LEAST, _HOMELESS, self._worth, nobody, gain, odds)
        claim = -np.log10(np.maximum(10.0 ** (gain - claim) + odds, 1e-300))
        return Settled(desk, score, likeliest, its, np.minimum(claim, drawn))

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
            turned = self._streams.desk(2 * self._flows, more)
            turned.owner[: self._flows] = owner
            flows = np.unique(more[0].flow)
            for client in range(self._clients):
                count_classes(turned, flows, np.full(len(flows), client), false)
        every = _shares(false.sum(axis=0), 1.0 / np.bincount(FEATURES)[FEATURES], _PRIOR_COUNTS)
        mine = _shares(true.sum(axis=0), every, _PRIOR_COUNTS)
        chance = np.array([_shares(counts, every, _PRIOR_OF_CLIENT) for counts in false])
        worth = np.log10(mine / chance)
        return np.asarray(np.where(engine.AGAINST, np.minimum(worth, 0.0), worth))


def _shares(counts: Floats, before: Floats, many: float) -> Floats:
    """Of each class in its feature, where so many had been counted before."""
    whole = np.bincount(FEATURES, counts)[FEATURES]
    return np.asarray((counts + many * before) / (whole + many))
