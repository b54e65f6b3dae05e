"""Who had which flow, where streams carry many, and what such a claim is worth.

Classes of what is noted (:mod:`vpnforensics.engines.volume`) begin with a worth by hand. Flows are asked of
all clients in order of what they claim, and who is sure is served first, which leaves less for the others to
find by chance. From then on clients are drawn: each flow in turn, as likely as each client is beside all
other flows where they are now, or none (Gibbs sampling: Geman & Geman 1984, IEEE PAMI 6). Between draws the
worth is learned anew (:mod:`vpnforensics.evidence.class_worth`), from all flows with the clients that were
drawn (stochastic EM: Celeux & Diebolt 1985): who is sure has found all that is needed, and learned from those
alone everyone else looks as if of nobody. In the end no flow teaches itself: each fifth of them is worth what
the others taught. Held against them are the same flows with other clients, and copies turned in time. Flows
that have a link by writes are their client's throughout.

What a flow claims is the mean of the chances that it was drawn by, as a logarithm of odds. Draws seldom
exchange two flows that are as likely in each other's place. So a claim is at most what the state allows in
which each has its likeliest: less the most that any other flow would gain, had this one no client, and beside
all exchanges with another. Without the one, flows of a client who was not captured took the place of those
that they resemble; without the other, flows of clients who ask for the same at one moment were linked
crosswise.
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
    give_all,
    place_all,
    score_all,
)
from vpnforensics.engines.case import Case
from vpnforensics.engines.volume import CLASSES, SLACK_NS, Streams, clock_error
from vpnforensics.evidence.class_worth import worth_of
from vpnforensics.evidence.contended import odds_of_nobody
from vpnforensics.tunnels.needs import Needs, Parts

_BELIEVED, _ROUNDS = 2.0, 4
"""Decades from which on a flow is served before any is drawn, and how often flows are asked for that."""
_BEGUN, _LEARNED, _TOLD_APART = 2, 12, 6
"""How often the worth is learned from who is sure, then from all as they are drawn, and from when on how
busy a stream is sets classes apart."""
_FOLDS = 5
"""Once busy streams are told apart no flow teaches itself: each fold is worth what the others taught."""
_ODDS_OF_NOBODY = 0.05
"""Odds that a flow is of nobody while the worth is learned, where no link by writes teaches. Learned with it,
nobody has more and more: what all flows have in common is then no client's."""
_BETWEEN, _DRAWN = 2, 7
"""Rounds of draws between, and those by which flows claim."""
_HOPELESS = -6.0
"""Decades up to which a flow, asked beside the links by writes alone, is not asked of a client again."""
SURE = 0.99
"""Chance from which on a flow counts as its client's."""
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
"""Claim of a flow that is asked of no client."""
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
        self._worth, self._nobody = np.tile(engine.BEGUN, (_FOLDS, self._clients, 1)), _ODDS_OF_NOBODY
        taught = bool((self._links >= 0).any())
        self._owner = self._begun()
        copies = [self._turned(1.0) for _ in range(_TURNS_LEARNED)]
        for _ in range(_BEGUN):
            self._worth = self._learn(copies, busy=False)
            self._owner = self._placed()
        for turn in range(_LEARNED):
            self._worth = self._learn(copies, busy=turn >= _TOLD_APART)
            desk = self._desk(None, -1)
            _, nobody = self._drawn(desk, _BETWEEN, -1)
            self._owner = desk.owner[: self._flows]
            if taught:
                self._nobody = nobody
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

    def _begun(self) -> Ints:
        """Client of those who are sure; where writes link nobody, with the clocks set right by them."""
        if (self._links < 0).all():
            self._streams = self._streams.moved(0, SLACK_NS)
            self._streams = self._streams.moved(-clock_error(self._streams, self._placed()), SLACK_NS)
        return self._placed()

    def _turned(self, share: float) -> tuple[Needs, Parts]:
        """Needs of a share of the flows, moved in time away from their place."""
        shift_ns, away = self._case.circle.turned(self._case.begin_ns, self._rng.random(self._flows))
        return self._streams.turned(shift_ns, away & (self._rng.random(self._flows) < share), self._flows)

    def _linked(self, flows: int, gone: int) -> Ints:
        """Client of each of so many flows by writes, -1 of others, and of one client's."""
        linked = np.full(flows, -1)
        linked[: self._flows] = np.where(self._links == gone, -1, self._links)
        return linked

    def _placed(self) -> Ints:
        """Client of who is sure, and is served from then on; flows are asked in order of what they claim."""
        desk = self._streams.desk(self._flows)
        give_all(desk, self._links)
        order = self._open(desk, self._links)
        for believed in (np.inf, *[_BELIEVED] * _ROUNDS):
            place_all(desk, order, self._worth, believed)
            if believed == np.inf:
                desk.hopeful[order] &= desk.score[order] > _HOPELESS
            claim = self._claims(desk.score, self._clients)[1]
            order = order[np.argsort(-claim[order], kind="stable")]
        return desk.owner[: self._flows]

    def _desk(self, more: tuple[Needs, Parts] | None, gone: int) -> Desk:
        """Flows with the clients drawn last, copies with none; and of whom they are not hopeless."""
        flows = self._flows * (1 if more is None else 2)
        desk, linked = self._streams.desk(flows, more), self._linked(flows, gone)
        if gone >= 0:
            desk.hopeful[:, gone] = False
        give_all(desk, linked)
        order = self._open(desk, linked)
        score_all(desk, order, self._worth)
        desk.hopeful[order] &= desk.score[order] > _HOPELESS
        drawn = np.full(flows, -1)
        drawn[: self._flows] = np.where(self._owner == gone, -1, self._owner)
        give_all(desk, np.where(linked >= 0, linked, drawn))
        return desk

    def _open(self, desk: Desk, linked: Ints) -> Ints:
        """Flows that need something, and have no link by writes."""
        return np.flatnonzero((np.diff(desk.asked.start) > 0) & (linked < 0))

    def _drawn(self, desk: Desk, rounds: int, gone: int) -> tuple[Floats, float]:
        """The mean of the chances that flows are drawn by, shape (flows, clients); and the odds of nobody."""
        linked, nobody = self._linked(len(desk.span_ns), gone), self._nobody
        order = self._open(desk, linked)
        chance = np.zeros((len(linked), self._clients))
        for _ in range(rounds):
            once, uniform = np.zeros_like(chance), self._rng.random(len(order))
            of_one = self._clients * nobody
            draw_all(desk, self._rng.permutation(order), self._worth, of_one, uniform, once)
            nobody = odds_of_nobody(1.0 - once[order].sum(axis=1))
            chance += once / rounds
        known = np.flatnonzero(linked >= 0)
        chance[known, linked[known]] = 1.0
        return chance, nobody

    def _settle(self, more: tuple[Needs, Parts] | None, gone: int) -> Settled:
        """Who had which client: the mean of draws, as far as the state allows in which each flow has its
        likeliest.
        """
        desk = self._desk(more, gone)
        chance, nobody = self._drawn(desk, _DRAWN, gone)
        nobody *= self._clients
        likeliest, its = chance.argmax(axis=1), chance.max(axis=1)
        give_all(desk, np.where(its > 0.5, likeliest, -1))
        having = np.flatnonzero(np.diff(desk.asked.start) > 0)
        score_all(desk, having, self._worth)
        best, claim = self._claims(desk.score, nobody)
        claim = np.where((best == likeliest) & (its > 0.5), claim, 0.0)
        least = 10.0**-_MOST_DRAWN
        drawn = np.log10(np.maximum(its, least) / np.maximum(1.0 - its, least))
        gain, odds = np.zeros((2, len(claim)))
        order = self._open(desk, self._linked(len(claim), gone))
        order = order[np.argsort(desk.span_ns[order, 0], kind="stable")]
        both = np.minimum(claim, drawn)
        find_rivals(desk, order, both, _LEAST, _HOMELESS, self._worth, nobody, gain, odds)
        claim = -np.log10(np.maximum(10.0 ** (gain - claim) + odds, 1e-300))
        return Settled(desk, desk.score, likeliest, its, np.minimum(claim, drawn))

    def _claims(self, score: Floats, nobody: float) -> tuple[Ints, Floats]:
        """Likeliest client of each flow, and the log10 odds."""
        likeliest = score.argmax(axis=1)
        weight = 10.0 ** np.clip(score, -300.0, 60.0)
        rows = np.arange(len(score))
        for_it = score[rows, likeliest]
        weight[rows, likeliest] = 0.0
        claim = for_it - np.log10(nobody + weight.sum(axis=1))
        return likeliest, np.where(np.isfinite(for_it), claim, _NOBODY)

    def _learn(self, copies: list[tuple[Needs, Parts]], *, busy: bool) -> Floats:
        """Worth of classes by who has which client now, for each fold of the flows; by all, or all others."""
        desk, owner = self._streams.desk(self._flows), self._owner
        desk.owner[: self._flows] = owner
        known = np.flatnonzero(owner >= 0)
        true, false = np.zeros((_FOLDS, self._clients, CLASSES)), np.zeros((self._clients, CLASSES))
        for fold in range(_FOLDS):
            one = known[known % _FOLDS == fold]
            count_classes(desk, one, owner[one], true[fold])
        for step in range(1, self._clients):
            count_classes(desk, known, (owner[known] + step) % self._clients, false)
        for more in copies:
            turned = self._streams.desk(2 * self._flows, more)
            turned.owner[: self._flows] = owner
            flows = np.unique(more[0].flow)
            for client in range(self._clients):
                count_classes(turned, flows, np.full(len(flows), client), false)
        of_fold = true.sum(axis=1)
        others = of_fold.sum(axis=0) - busy * of_fold
        return np.array([worth_of(counts, false, busy=busy) for counts in others])
