"""What bytes seen against bytes needed add to a decision, where relays put many flows into one stream.

Known pairs are the flows that the writes linked. How often their bursts have each class of what is noted
(:mod:`vpnforensics.engines.volume`), against how often copies turned in time, and linked flows in tunnels not
their own, have it, is the class's worth; a pair's score is the sum. Scores become odds of a flow's tunnels,
and of none (:mod:`vpnforensics.evidence.contest`). Who is sure takes its bytes out of the carriers, and all
are scored again on what is left; and the worth is learned again, from all who are sure.

What the odds are worth is measured on two kinds of comparisons that are known to be false: copies of the
flows, turned in time, that contend with the case's flows; and the case without one of its tunnels, each in
turn, for what clients do at one moment is in no copy. No odds are believed further than both allow, nor than
the policy believes. Nor is a flow linked whose bursts found their bytes in heaps only: two clients that open
the same page at one moment leave each other's flows enough there.
Flows that have no link are then linked in order of the stated error, as far as the sum of errors allows.
A link by writes is taken back where the flow's bursts do not find their bytes in its tunnel, if that is rare:
of a client that was missing, one had found its writes with another. Nothing is denied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.arrays import Bools, Floats, Int32s, Ints
from vpnforensics.engines import volume as engine
from vpnforensics.engines._volume_kernels import Found, Stock
from vpnforensics.engines.case import Case
from vpnforensics.engines.volume import CLASSES, FEATURES, Bursts, Compared, Observed, Volume
from vpnforensics.evidence.attribution import surest
from vpnforensics.evidence.calibration import LEAST_KNOWN, chance_slope
from vpnforensics.evidence.connections import connections_of, of_one_law, shared, unlinked
from vpnforensics.evidence.contended import Contended, doubt, heard, odds_of_nobody
from vpnforensics.evidence.contest import Contest, Outcome, settle_contest
from vpnforensics.evidence.decision import Decision
from vpnforensics.flows.grouping import places

_BELIEVED = 2.0
"""Decades from which on a flow takes its bytes, and teaches."""
_LEARNED, _ROUNDS = 3, 4
"""How often the worth is learned, and how often flows take their bytes each time."""
_REMEMBERED = 0.7
"""Share of what others would have gained that still counts a round later: else thieves come back at once."""
_PRIOR_COUNTS = 5.0
"""Counts of chance that each feature begins with."""
_TURNS_LEARNED, _TURNS_TRIED = 4, 6
_COPIED = 0.5
"""Share of the flows that contend as copies at a time: more would compete with one another."""
_RARELY = 0.05
"""Share of links up to which those without their bytes are taken back: where more are, as under much jitter,
right ones are, too."""
_LEFT_OUT = 10
"""Tunnels without which the case is asked again, at most."""
_COMPARED = 300_000
"""Comparisons of bursts with tunnels, in a turn: of a busy case fewer flows are copied."""


@dataclass(frozen=True, eq=False)
class _Settled:
    """Flows that took their bytes, and what is noted then."""

    observed: Observed
    outcome: Outcome
    contest: Contest
    stock: Stock
    owner: Ints


def with_volume(case: Case, decision: Decision, rng: np.random.Generator) -> Decision:
    """The decision with what the amounts of bursts say.

    Parameters
    ----------
    case : Case
        Its tunnels are carriers.
    decision : Decision
        By writes.
    rng : numpy.random.Generator
        Turns the copies.
    """
    if (decision.tunnel >= 0).sum() < LEAST_KNOWN or not shared(connections_of(case, decision)):
        return decision
    tunnels, law = of_one_law(case, decision)
    if law.of_packets or law.of_frames:  # writes have all there is to know
        return decision
    asked = _Asked(
        case, engine.prepare(case, tunnels, law, decision.delay_law), decision.tunnel.astype(np.int64), rng
    )
    found = asked.found
    outcome = found.outcome
    chance, tried, compared = asked.copies()
    slopes = [chance_slope(chance, compared), chance_slope(*asked.without())]
    slope = min(decision.policy.believed_contended, *slopes)
    error = np.maximum(doubt(slope * outcome.claim), decision.policy.least_error)
    decision = unlinked(case, decision, asked.contradicted(decision.tunnel))
    open_ = np.where((asked.links >= 0) | ~asked.by_whole_bursts(), 1.0, error)
    linked = surest(open_, decision.policy.expected_false_links - decision.expected_false_links)
    worst = float(open_[linked].max(initial=0.0))
    decided = replace(
        decision,
        tunnel=np.where(linked, outcome.tunnel, decision.tunnel).astype(np.int32),
        error=np.where(linked, error, decision.error),
        decoys=replace(
            decision.decoys,
            tried=decision.decoys.tried + tried,
            linked=decision.decoys.linked + int((doubt(slope * chance) <= worst).sum()),
            comparisons=decision.decoys.comparisons + compared,
        ),
    )
    bursts = np.bincount(asked.here.bursts.flow, minlength=len(case.flows)).astype(np.int32)
    won = tuple(f"{n} bursts against the bytes of its streams" for n in bursts.tolist())
    every = np.full(len(case.flows), int(tunnels.sum()))
    silence = "its streams had no bytes where the flow's bursts need them"
    return heard(
        case,
        decided,
        Contended(engine.NAME, found.contest, outcome, every, slope, linked, won, silence, bursts),
    )


class _Asked:
    """A case, what its classes are worth, and who is asked what."""

    def __init__(self, case: Case, volume: Volume, links: Ints, rng: np.random.Generator) -> None:
        self._case, self._volume, self._rng = case, volume, rng
        self.links = links
        self._tunnels = int(volume.of.sum())
        self.here = volume.compare(volume.bursts)
        self._share = min(_COMPARED / max(len(volume.bursts) * self._tunnels, 1), 1.0)
        self._begin_ns = case.begin_ns
        turned = [volume.compare(copies) for copies in self._turned(_TURNS_LEARNED, self._share)]
        self._worth = np.zeros(CLASSES)
        self.found = self._settle(self.here, self.links)
        for _ in range(_LEARNED):
            self._worth = self._learn(turned)
            self.found = self._settle(self.here, self.links)

    def by_whole_bursts(self) -> Bools:
        """Flows whose likeliest tunnel is so by pieces of their own alone, too."""
        found = self.found
        worth = np.where(engine.OF_A_HEAP, np.minimum(self._worth, 0.0), self._worth)
        contest = self._contest(self.here.bursts, found.observed, len(self.links), -1, worth)
        alone = settle_contest(contest, len(self.links), len(contest.flow))
        return np.asarray((alone.claim > _BELIEVED) & (alone.tunnel == found.outcome.tunnel))

    def contradicted(self, tunnel: Int32s) -> Bools:
        """Linked flows whose bursts do not find their bytes in the tunnel of their link."""
        having = np.bincount(self.here.bursts.flow, minlength=len(tunnel)) > 0
        which = (tunnel >= 0) & having & (self.found.outcome.tunnel != tunnel)
        return np.asarray(which & (which.sum() <= _RARELY * (tunnel >= 0).sum()))

    def copies(self) -> tuple[Floats, int, int]:
        """What copies claim that contend with the case's flows; how many they are, and their comparisons."""
        flows, claims, tried = len(self.links), [np.zeros(0)], 0
        for copies in self._turned(_TURNS_TRIED, _COPIED * self._share):
            both = Bursts.joined([self.here.bursts, replace(copies, flow=copies.flow + flows)])
            links = np.r_[self.links, np.full(flows, -1)]
            outcome = self._settle(self._volume.compare(both), links).outcome
            claims.append(outcome.claim[flows:][outcome.tunnel[flows:] >= 0])
            tried += len(np.unique(copies.flow))
        return np.concatenate(claims), tried, tried * self._tunnels

    def without(self) -> tuple[Floats, int]:
        """What flows claim whose tunnel is left out, each in turn; and how many comparisons these are."""
        known = self._known()
        claims, compared = [np.zeros(0)], 0
        tunnels = np.flatnonzero(self._volume.of)
        for gone in self._rng.permutation(tunnels)[:_LEFT_OUT].tolist():
            links = np.where(self.links == gone, -1, self.links)
            outcome = self._settle(self.here, links, gone).outcome
            its = known == gone
            claims.append(outcome.claim[its & (outcome.tunnel >= 0)])
            compared += int(its.sum()) * (self._tunnels - 1)
        return np.concatenate(claims), compared

    def _known(self) -> Ints:
        """Tunnel of each flow that is linked, or sure; -1 for others."""
        outcome = self.found.outcome
        sure = np.where(outcome.claim > _BELIEVED, outcome.tunnel, -1)
        return np.where(self.links >= 0, self.links, sure)

    def _turned(self, turns: int, share: float) -> Iterator[Bursts]:
        """Bursts of a share of the flows, moved in time away from their place."""
        for _ in range(turns):
            shift_ns, away = self._case.circle.turned(self._begin_ns, self._rng.random(len(self.links)))
            yield self._volume.bursts.moved(shift_ns, away & (self._rng.random(len(away)) < share))

    def _settle(self, compared: Compared, links: Ints, gone: int = -1) -> _Settled:
        """Flows take their bytes in their likeliest tunnels, and are asked again, some times.

        A flow's score is less by what others would gain from its bytes, or, still, from what it had before.
        How many are of no tunnel is learned by the way.
        """
        owner, claim, loss = links, np.full(len(links), np.inf), np.zeros(len(links))
        asking = (links < 0) & (np.bincount(compared.bursts.flow, minlength=len(links)) > 0)
        nobody = 1.0
        for _ in range(_ROUNDS):
            stock, took = self._volume.take(compared.bursts, owner, claim)
            observed = compared.observe(stock, owner, took)
            contest = self._contest(compared.bursts, observed, len(links), gone, self._worth)
            contest = replace(contest, decades=contest.decades - np.log10(nobody))
            loss = np.maximum(_REMEMBERED * loss, self._loss(compared, stock, owner, took, observed, contest))
            own = owner[contest.flow] == contest.tunnel
            contest = replace(contest, decades=contest.decades - np.where(own, loss[contest.flow], 0.0))
            outcome = settle_contest(contest, len(links), len(contest.flow))
            found = _Settled(observed, outcome, contest, stock, owner)
            alone = 1.0 / (1.0 + np.bincount(outcome.pairs.flow, outcome.strength, len(links)))
            nobody = odds_of_nobody(alone[asking])
            claim = np.where(links >= 0, np.inf, outcome.claim)
            owner = np.where(links >= 0, links, np.where(claim > _BELIEVED, outcome.tunnel, -1))
        return found

    def _loss(
        self,
        compared: Compared,
        stock: Stock,
        owner: Ints,
        took: Found,
        observed: Observed,
        contest: Contest,
    ) -> Floats:
        """What those who would be sure, did a flow give back its bytes, would gain; each piece given once."""
        rival, piece, gain = compared.given_back(stock, owner, took, observed, self._worth)
        tunnels = len(self._volume.of)
        pairs = len(gain)
        at = places(
            contest.flow * tunnels + contest.tunnel, (observed.flow * tunnels + observed.tunnel)[:pairs]
        )
        some = np.flatnonzero((gain > 0) & (at >= 0))
        hope = contest.decades + np.bincount(at[some], gain[some], len(contest.flow))
        best = np.full(len(owner), -np.inf)
        np.maximum.at(best, contest.flow, hope)
        wanted = (hope == best[contest.flow]) & (hope > _BELIEVED)
        some = some[wanted[at[some]]]
        pieces = np.int64(len(stock.size))
        given, of = np.unique(rival[some] * pieces + piece[some], return_inverse=True)
        most = np.zeros(len(given))
        np.maximum.at(most, of, gain[some])
        return np.asarray(np.bincount(given // pieces, most, len(owner)))

    def _contest(self, bursts: Bursts, observed: Observed, flows: int, gone: int, worth: Floats) -> Contest:
        """Scores as weights, were a flow as likely in none as in any of the tunnels."""
        tunnels = len(self._volume.of)
        mine = observed.take(observed.tunnel != gone)
        keys, of = np.unique(mine.flow * tunnels + mine.tunnel, return_inverse=True)
        flow, tunnel = np.divmod(keys, tunnels)
        nowhere = np.bincount(bursts.flow, worth[engine.instead_of(bursts)], flows)
        score = nowhere[flow] + np.bincount(of, mine.worth(worth), len(keys))
        return Contest(flow, np.arange(len(keys)), tunnel, score - np.log10(max(self._tunnels, 1)))

    def _learn(self, turned: list[Compared]) -> Floats:
        """log10 of how much oftener known pairs have each class than chance has it."""
        found, bursts = self.found, self.here.bursts
        known = self._known()
        of, tunnel = known[found.observed.flow], found.observed.tunnel
        instead = engine.instead_of(bursts)
        mine = np.bincount(instead, known[bursts.flow] >= 0, CLASSES)
        true = mine + found.observed.counts(of == tunnel)
        false = (self._tunnels - 1) * mine + found.observed.counts((of >= 0) & (of != tunnel))
        nobody = np.full(len(known), -1)
        for copies in turned:
            took = self._volume.take(copies.bursts, nobody, np.zeros(len(nobody)))[1]
            observed = copies.observe(found.stock, nobody, took)
            false += self._tunnels * np.bincount(engine.instead_of(copies.bursts), minlength=CLASSES)
            false += observed.counts(np.ones(len(observed), np.bool_))
        return _worth(true, false)


def _worth(true: Floats, false: Floats) -> Floats:
    seen = np.bincount(FEATURES)[FEATURES]
    by_chance = _shares(false, 1.0 / seen)
    worth = np.log10(_shares(true, by_chance) / by_chance)
    return np.where(engine.AGAINST, np.minimum(worth, 0.0), worth)


def _shares(counts: Floats, before: Floats) -> Floats:
    """Of each class in its feature, where so much was counted before."""
    whole = np.bincount(FEATURES, counts)[FEATURES]
    return np.asarray((counts + _PRIOR_COUNTS * before) / (whole + _PRIOR_COUNTS))
