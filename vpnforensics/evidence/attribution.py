"""From scores to links: which flow was in which tunnel, with a stated number of expected false links.

Theory of operation
-------------------
A score compares one flow with one tunnel and knows nothing of the others. Attribution adds what holds for
the case as a whole: *a flow has at most one tunnel, and an outer packet carries at most one inner packet*.
A lookup that fits a tunnel by chance does so because another lookup really was there; that one's own flow
fits its records better and explains them away. So, in rounds:

1. every flow claims its likeliest records in its best tunnel, strongest flows first, and room is made for
   those that come later as long as there are records for all;
2. scores are taken again without the records that a flow about as strong (within a margin) wants too; a
   flow that keeps not much more than the margin's share of its score is out of this round;
3. the very same is done to rotated copies of the flows (:mod:`vpnforensics.evidence.null_scores`), whose
   scores are false by construction; their tail gives each stratum of flow sizes a threshold at which the
   comparisons made are expected to yield the round's share of the allowed false links;
4. flows above it, and clear of every other tunnel, are linked, their records leave the case, and what is
   left is easier: local rates fall, and fewer records are there to coincide with.

Known weaknesses: the exponential tail is an extrapolation where few null scores stand behind it; two clients
doing the same thing at the same moment (within the delay law's width) contest each other and stay undecided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import ScoreTable, concatenate
from vpnforensics.engines.containment import PROBES, Containment, Ownership
from vpnforensics.evidence.null_scores import STRATA_PACKETS, NullTail, fit_tail, stratum_of

MARGIN, MARGIN_SHARE = 2.0, 0.35
"""How much weaker, in decimal logarithms and as a share of the score, a rival must be to be disregarded."""

CLEAR_SHARE = 0.5
"""How much weaker, as a share of the score, the same flow must look in every other tunnel."""

_ROUND_SHARES = (0.5, 0.25, 0.15, 0.05)
"""Of the allowed false links; what is left of 1 is for engines that speak where containment is silent."""
_LEAST_ROTATIONS, _LEAST_COMPARISONS = 2, 100_000
_ENOUGH_SCORES, _COUNTED, _AMPLE, _GROWTH = 60, 10.0, 1.1, 8.0
"""Scores wanted in a tail, exceedings wanted of a threshold; how draws grow towards them."""
_MORE, _COUNT_WORK = 10, 4.0
"""Shares of the work that a tail, and counting a threshold, may take."""
_LEAST_WORK = 0.3
"""Share of a whole case's work that is spent on a few flows that are left."""
_SHORT_PACKETS = 4
"""Lower end of the last stratum whose flows' links hang on the null tail: longer ones stand far above it."""
_STRONG = 30.0
"""A record of a flow with so high a score is beyond the contest of short flows' copies."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """The links of a case; one entry a flow, but ``record`` and ``tails``."""

    tunnel: npt.NDArray[np.int32]
    """Linked tunnel, or -1."""
    score: npt.NDArray[np.float64]
    """Contested score in the best tunnel, in the last round that looked at the flow; -inf without one."""
    false_positive_rate: npt.NDArray[np.float64]
    """P(score or more | H2) of that score."""
    round: npt.NDArray[np.int8]
    """Round in which the flow was linked, from 1; 0 for the others."""
    record: npt.NDArray[np.int32]
    """RecordTable row that carried each egress packet (rows as in EgressRows), or -1."""
    comparisons: int
    null_comparisons: int
    expected_false_links: float
    tails: tuple[dict[int, NullTail], ...]
    """Tails of the contested null scores, by round and stratum: behind the verdicts."""
    lone_tails: dict[int, NullTail]
    """Tails of the uncontested null scores, by stratum: behind the likelihood ratios."""
    pairs: ScoreTable
    """All pairs with evidence for them, in the first round: uncontested scores above 0."""


def margin(score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """By how much a flow of this score must beat a rival."""
    return np.maximum(MARGIN, MARGIN_SHARE * score)


def attribute(
    containment: Containment,
    alive: npt.NDArray[np.int64],
    *,
    expected_false_links: float,
    rng: np.random.Generator,
    progress: Callable[[float], None] | None = None,
) -> Attribution:
    """Link flows to tunnels.

    Parameters
    ----------
    containment : Containment
    alive : ndarray of int64, shape (flows,)
        Tunnels present during each flow: its comparisons.
    expected_false_links : float
        Allowed for the whole case.
    rng : numpy.random.Generator
        Draws the rotations.
    progress : callable, optional
        Called with the share done.
    """
    sizes = np.diff(containment.egress.start)
    flows = len(sizes)
    strata = stratum_of(sizes)
    tunnel = np.full(flows, -1, np.int32)
    score = np.full(flows, -np.inf)
    rate_of = np.ones(flows)
    linked_round = np.zeros(flows, np.int8)
    record = np.full(len(containment.egress.ts_ns), -1, np.int32)
    comparisons = int(alive.sum())
    expected, null_comparisons = 0.0, 0
    tails: list[dict[int, NullTail]] = []
    lone_tails: dict[int, NullTail] = {}
    first_look = concatenate([])
    remaining = np.flatnonzero(alive > 0).astype(np.int32)
    for number, share in enumerate(_ROUND_SHARES, start=1):
        if not len(remaining):
            break
        pairs, unmoved = containment.score(remaining, floor_log10=0.0)
        best = _best(pairs, pairs.score, flows)
        claimed = np.flatnonzero(best >= 0).astype(np.int32)
        claim = np.full(flows, -1, np.int32)
        claim[claimed] = pairs.tunnel[best[claimed]]
        strength = pairs.score[best[claimed]]
        owned = containment.own(claimed, claim[claimed], strength)
        contested = _contested(containment, pairs, unmoved, owned)
        allowed = share * expected_false_links / max(int(alive[remaining].sum()), 1)
        nulls = _null_scores(containment, remaining, alive, strata, owned, allowed, rng)
        null_comparisons += sum(n.comparisons for n in nulls.values())
        round_tails = {s: fit_tail(n.contested, n.comparisons) for s, n in nulls.items()}
        tails.append(round_tails)
        if number == 1:
            first_look = pairs
            lone_tails = {s: fit_tail(n.lone, n.lone_comparisons) for s, n in nulls.items()}
        best = _best(pairs, contested, flows)
        have = np.flatnonzero(best >= 0)
        have = have[np.isfinite(contested[best[have]])]
        score[remaining] = -np.inf
        score[have] = contested[best[have]]
        candidate = np.full(flows, -1, np.int32)
        candidate[have] = pairs.tunnel[best[have]]
        # What another tunnel could have carried before its records were given away still stands against it.
        runner_up = _best_elsewhere(first_look, candidate)[have]
        limit = np.full(len(have), np.inf)
        for s, tail in round_tails.items():
            mine = strata[have] == s
            limit[mine] = max(tail.threshold(allowed), 0.0)
            rate_of[have[mine]] = tail.false_positive_rate(score[have[mine]])
        accepted = have[
            (score[have] >= limit)
            & (score[have] - runner_up >= np.maximum(MARGIN, CLEAR_SHARE * score[have]))
            & (candidate[have] == claim[have])
        ]
        if progress is not None:
            progress(number / len(_ROUND_SHARES))
        expected += allowed * float(alive[remaining].sum())
        if not len(accepted):
            continue  # a tail that chance made heavy is drawn anew
        tunnel[accepted] = claim[accepted]
        linked_round[accepted] = number
        containment = containment.settle(accepted, owned, record)
        remaining = remaining[tunnel[remaining] < 0]
    return Attribution(
        tunnel,
        score,
        rate_of,
        linked_round,
        record,
        comparisons,
        null_comparisons,
        expected,
        tuple(tails),
        lone_tails,
        first_look,
    )


def _contested(
    containment: Containment, pairs: ScoreTable, shift_ns: npt.NDArray[np.int64], owned: Ownership
) -> npt.NDArray[np.float64]:
    """What is left of each pair's score in the contest for records; -inf where rivals take too much of it."""
    left = containment.score_contested(pairs, shift_ns, owned, margin)
    bearable = np.maximum(MARGIN, (1.0 - MARGIN_SHARE) * pairs.score - 1.0)
    return np.where(pairs.score - left > bearable, -np.inf, left)


def _best(pairs: ScoreTable, score: npt.NDArray[np.float64], flows: int) -> npt.NDArray[np.int64]:
    """Row of each flow's best pair, -1 without; ties go to the lower tunnel number."""
    order = np.lexsort((pairs.tunnel, -score, pairs.flow))
    flow = pairs.flow[order]
    leads = np.flatnonzero(np.r_[True, flow[1:] != flow[:-1]]) if len(flow) else np.zeros(0, np.int64)
    best = np.full(flows, -1, np.int64)
    best[flow[leads]] = order[leads]
    return best


def _best_elsewhere(pairs: ScoreTable, tunnel_of: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Each flow's best score in a tunnel other than ``tunnel_of`` it; -inf without one."""
    other = pairs.tunnel != tunnel_of[pairs.flow]
    score = np.full(len(tunnel_of), -np.inf)
    np.maximum.at(score, pairs.flow[other], pairs.score[other])
    return score


@dataclass(frozen=True, eq=False)
class _Nulls:
    """Null scores of one stratum: in the contest for records, and without it."""

    contested: npt.NDArray[np.float64]
    comparisons: int
    lone: npt.NDArray[np.float64]
    lone_comparisons: int


class _Draws(NamedTuple):
    """How many null scores are drawn of a stratum."""

    times: int
    """Of the real comparisons, but no more than ``comparisons``, ``rotations`` and ``packets`` allow."""
    comparisons: int
    rotations: int
    packets: int
    """Of all strata together."""


_OF_LONG, _OF_SHORT = _Draws(600, 2_000_000, 600, 3_000_000), _Draws(6_000, 4_000_000, 6_000, 6_000_000)


def _null_scores(
    containment: Containment,
    flows: npt.NDArray[np.int32],
    alive: npt.NDArray[np.int64],
    strata: npt.NDArray[np.int64],
    owned: Ownership,
    allowed: float,
    rng: np.random.Generator,
) -> dict[int, _Nulls]:
    """Scores of rotated copies, by stratum; the strata share the work evenly, so small flows turn oftener.

    Where strong flows own the records, the contest leaves hardly anything of a short flow's copies, and it
    takes very many for a tail. So after the first ones, which are looked for among all records, more are
    looked for only among those that they could win: a small part, and quick to search.
    """
    sizes = np.diff(containment.egress.start)
    present = np.unique(strata[flows])
    work = max(_LEAST_WORK, len(flows) / len(sizes)) / len(present)
    within_reach = containment.without_owned_above(_STRONG, owned)
    nulls: dict[int, _Nulls] = {}
    for s in present.tolist():
        mine = flows[strata[flows] == s]
        compared, packets = int(alive[mine].sum()), int(sizes[mine].sum())
        short = int(sizes[mine].max()) <= PROBES
        draws = _OF_SHORT if short else _OF_LONG
        # Enough comparisons for the tail: a large case has plenty in one turn. Never too many packets.
        wanted = np.clip(draws.times * compared, _LEAST_COMPARISONS, draws.comparisons) / max(compared, 1)
        most = draws.packets * work / packets
        turns = float(min(wanted, most, draws.rotations))
        drawn = [_rotated(containment, containment, mine, alive, owned, turns, rng)]
        turned = turns
        while True:
            found = sum(int((n.contested > 0).sum()) for n in drawn)
            # A tail of a few scores moves with each of them, and a threshold beyond them all even more: look
            # for more, for so many that the threshold can be counted, or else as far out as the share of the
            # work allows. A long flow scores so high that this does not matter: of no score, nothing hangs.
            enough = turned * _ENOUGH_SCORES / max(found, 1)
            counted = turned * _COUNTED / (allowed * sum(n.comparisons for n in drawn))
            limit = min(_MORE * most, max(_MORE * _OF_LONG.rotations, draws.rotations))
            wanted = max(enough if found else 0.0, counted if counted <= _COUNT_WORK * most else most)
            hangs = found > 0 or STRATA_PACKETS[s] <= _SHORT_PACKETS
            if not hangs or turned >= min(wanted, limit):
                break
            # A first few scores are a rough guess of how many more it takes.
            turns = min(_AMPLE * wanted, limit, _GROWTH * turned) - turned
            where = within_reach if short else containment
            drawn.append(_rotated(containment, where, mine, alive, owned, turns, rng))
            turned += turns
        nulls[s] = _Nulls(
            np.concatenate([n.contested for n in drawn]),
            sum(n.comparisons for n in drawn),
            np.concatenate([n.lone for n in drawn]),
            sum(n.lone_comparisons for n in drawn),
        )
    return nulls


def _rotated(
    containment: Containment,
    where: Containment,
    flows: npt.NDArray[np.int32],
    alive: npt.NDArray[np.int64],
    owned: Ownership,
    turns: float,
    rng: np.random.Generator,
) -> _Nulls:
    """Scores of the flows turned round ``turns`` times; of a part of them, where that is less than twice.

    Those without evidence for them among the records of ``where`` are left out; if those are not all, the
    lone scores are no sample.
    """
    rounds = max(_LEAST_ROTATIONS, round(turns))
    thin = min(1.0, turns / rounds)
    copy, shift = np.tile(flows, rounds), np.repeat(containment.rotations(rounds, rng), len(flows))
    if thin < 1.0:
        some = rng.random(len(copy)) < thin
        copy, shift = copy[some], shift[some]
    pairs, shift_ns = where.score(copy, shift_ns=shift, floor_log10=0.0)
    comparisons = int(alive[copy].sum())
    if where is containment:
        return _Nulls(_contested(containment, pairs, shift_ns, owned), comparisons, pairs.score, comparisons)
    pairs = containment.score_again(pairs, shift_ns)
    return _Nulls(_contested(containment, pairs, shift_ns, owned), comparisons, np.zeros(0), 0)
