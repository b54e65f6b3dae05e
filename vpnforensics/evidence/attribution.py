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
   scores are false by construction, as are those of linked flows in other tunnels; their tail gives each
   stratum of flow sizes a threshold at which the comparisons made are expected to yield the round's share
   of the allowed false links;
4. flows above it, and clear of every other tunnel, are linked, their records leave the case, and what is
   left is easier: local rates fall, and fewer records are there to coincide with.

Known weaknesses: the exponential tail is an extrapolation where few null scores stand behind it; two clients
doing the same thing at the same moment (within the delay law's width) contest each other and stay undecided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import ScoreTable, concatenate
from vpnforensics.engines.containment import Containment
from vpnforensics.evidence.contest import MARGIN, contested_scores
from vpnforensics.evidence.null_draws import Nulls, draw_nulls, with_other_tunnels
from vpnforensics.evidence.null_scores import NullTail, fit_tail, stratum_of

CLEAR_SHARE = 0.5
"""How much weaker, as a share of the score, the same flow must look in every other tunnel."""

_ROUND_SHARES = (0.5, 0.25, 0.15, 0.05)
"""Of the allowed false links; what is left of 1 is for engines that speak where containment is silent."""


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
        contested = contested_scores(containment, pairs, unmoved, owned)
        allowed = share * expected_false_links / max(int(alive[remaining].sum()), 1)
        best = _best(pairs, contested, flows)
        have = np.flatnonzero(best >= 0)
        have = have[np.isfinite(contested[best[have]])]
        score[remaining] = -np.inf
        score[have] = contested[best[have]]
        nulls = draw_nulls(containment, remaining, score, alive, strata, owned, allowed, rng)
        candidate = np.full(flows, -1, np.int32)
        candidate[have] = pairs.tunnel[best[have]]
        # What another tunnel could have carried before its records were given away still stands against it.
        if number == 1:
            first_look = pairs
        runner_up = _best_elsewhere(first_look, candidate)[have]
        clear = (score[have] - runner_up >= np.maximum(MARGIN, CLEAR_SHARE * score[have])) & (
            candidate[have] == claim[have]
        )

        likely = have[clear & (score[have] >= _limits(_tails(nulls), strata[have], allowed))]
        nulls = with_other_tunnels(nulls, pairs, contested, claim, likely, alive, strata)
        round_tails = _tails(nulls)
        accepted = have[clear & (score[have] >= _limits(round_tails, strata[have], allowed))]
        null_comparisons += sum(n.comparisons for n in nulls.values())
        tails.append(round_tails)
        if number == 1:
            lone_tails = {s: fit_tail(n.lone, n.lone_comparisons) for s, n in nulls.items()}
        for s, tail in round_tails.items():
            mine = strata[have] == s
            rate_of[have[mine]] = tail.false_positive_rate(score[have[mine]])
        if progress is not None:
            progress(number / len(_ROUND_SHARES))
        expected += allowed * float(alive[remaining].sum())
        if not len(accepted):
            continue  # a tail that chance made heavy is drawn anew
        tunnel[accepted] = claim[accepted]
        linked_round[accepted] = number
        containment = containment.take_out(accepted, owned, record)
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


def _tails(nulls: dict[int, Nulls]) -> dict[int, NullTail]:
    return {s: fit_tail(n.contested, n.comparisons) for s, n in nulls.items()}


def _limits(
    tails: dict[int, NullTail], strata: npt.NDArray[np.int64], allowed: float
) -> npt.NDArray[np.float64]:
    """Least score of flows of these strata that chance reaches no oftener than ``allowed``."""
    limit = np.full(len(strata), np.inf)
    for s, tail in tails.items():
        limit[strata == s] = max(tail.threshold(allowed), 0.0)
    return limit


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
