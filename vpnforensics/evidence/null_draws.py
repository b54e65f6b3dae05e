"""Null scores drawn from the case itself: how many, and among which records they are looked for.

What they are is said in :mod:`vpnforensics.evidence.null_scores`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import ScoreTable
from vpnforensics.engines.containment import PROBES, Containment, Ownership
from vpnforensics.evidence.contest import contested_scores
from vpnforensics.evidence.null_scores import STRATA_PACKETS, fit_tail

_LEAST_COMPARISONS = 100_000
_ENOUGH_SCORES, _COUNTED, _AMPLE, _GROWTH = 60, 10.0, 1.1, 8.0
"""Scores wanted in a tail, exceedings wanted of a threshold; how draws grow towards them."""
_MORE, _COUNT_WORK = 10, 4.0
"""Shares of the work that a tail, and counting a threshold, may take."""
_AT_STAKE = 10.0
"""One over the share of a stratum's flows for whose links all of its work is spent."""
_LEAST_WORK = 0.3
"""Share of a whole case's work that is spent on a few flows that are left."""
_SHORT_PACKETS = 4
"""Lower end of the last stratum whose flows' links hang on the null tail: longer ones stand far above it."""
_STRONG = 30.0
"""A record of a flow with so high a score is beyond the contest of short flows' copies."""


@dataclass(frozen=True, eq=False)
class Nulls:
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


def draw_nulls(
    containment: Containment,
    flows: npt.NDArray[np.int32],
    score: npt.NDArray[np.float64],
    alive: npt.NDArray[np.int64],
    strata: npt.NDArray[np.int64],
    owned: Ownership,
    allowed: float,
    rng: np.random.Generator,
) -> dict[int, Nulls]:
    """Scores of rotated copies, by stratum; the strata share the work evenly, so small flows turn oftener.

    Where strong flows own the records, the contest leaves hardly anything of a short flow's copies, and it
    takes very many for a tail. So after the first ones, which are looked for among all records, more are
    looked for only among those that they could win: a small part, and quick to search.

    Parameters
    ----------
    containment : Containment
    flows : ndarray of int32
        Those to turn.
    score : ndarray of float64, one a flow of the case
        What the contest left of each: where a link hangs on it, more copies are drawn.
    alive, strata : ndarray of int64, one a flow of the case
        Tunnels that each is compared with, and its stratum.
    owned : Ownership
        The contest that the copies go through.
    allowed : float
        False-positive rate whose threshold is wanted.
    rng : numpy.random.Generator
    """
    sizes = np.diff(containment.egress.start)
    present = np.unique(strata[flows])
    work = max(_LEAST_WORK, len(flows) / len(sizes)) / len(present)
    within_reach = containment.without_owned_above(_STRONG, owned)
    nulls: dict[int, Nulls] = {}
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
            # work allows. Long flows mostly score so high that nothing hangs on it.
            enough = turned * _ENOUGH_SCORES / max(found, 1)
            counted = turned * _COUNTED / (allowed * max(sum(n.comparisons for n in drawn), 1))
            limit = min(_MORE * most, max(_MORE * _OF_LONG.rotations, draws.rotations))
            wanted = max(enough if found else 0.0, counted if counted <= _COUNT_WORK * most else most)
            hangs = found > 0 or STRATA_PACKETS[s] <= _SHORT_PACKETS
            if not hangs:
                # All of the work where a tenth of the flows would gain by it, less where fewer would.
                gain = _AT_STAKE * _share_within_reach(drawn, score[mine], allowed, limit / turned)
                hangs, wanted = gain > 0, limit * min(gain, 1.0)
            if not hangs or turned >= min(wanted, limit):
                break
            # A first few scores are a rough guess of how many more it takes.
            turns = min(_AMPLE * wanted, limit, _GROWTH * turned) - turned
            where = within_reach if short else containment
            drawn.append(_rotated(containment, where, mine, alive, owned, turns, rng))
            turned += turns
        nulls[s] = Nulls(
            np.concatenate([n.contested for n in drawn]),
            sum(n.comparisons for n in drawn),
            np.concatenate([n.lone for n in drawn]),
            sum(n.lone_comparisons for n in drawn),
        )
    return nulls


def _share_within_reach(
    drawn: list[Nulls], score: npt.NDArray[np.float64], allowed: float, times: float
) -> float:
    """Share of the flows that ``times`` as many copies, none with a score, would bring over the threshold."""
    none, comparisons = np.zeros(0), max(sum(n.comparisons for n in drawn), 1)
    now, then = (fit_tail(none, round(n)).threshold(allowed) for n in (comparisons, times * comparisons))
    return float(np.mean((score >= then) & (score < now)))


def with_other_tunnels(
    nulls: dict[int, Nulls],
    pairs: ScoreTable,
    contested: npt.NDArray[np.float64],
    tunnel_of: npt.NDArray[np.int32],
    linked: npt.NDArray[np.intp],
    alive: npt.NDArray[np.int64],
    strata: npt.NDArray[np.int64],
) -> dict[int, Nulls]:
    """Null scores with those of linked flows in the other tunnels, which were busy at the same moment.

    Parameters
    ----------
    nulls : dict of int to Nulls
        By stratum.
    pairs : ScoreTable
    contested : ndarray of float64, shape (pairs,)
        What the contest left of their scores.
    tunnel_of : ndarray of int32, one a flow of the case
    linked : ndarray of int64
        Flows that are linked to it.
    alive, strata : ndarray of int64, one a flow of the case
    """
    sure = np.zeros(len(tunnel_of), np.bool_)
    sure[linked] = True
    other = sure[pairs.flow] & (pairs.tunnel != tunnel_of[pairs.flow])
    more = {}
    for s, n in nulls.items():
        mine = other & (strata[pairs.flow] == s)
        compared = int((alive[linked[strata[linked] == s]] - 1).sum())
        more[s] = Nulls(
            np.r_[n.contested, contested[mine]],
            n.comparisons + compared,
            np.r_[n.lone, pairs.score[mine]],
            n.lone_comparisons + compared,
        )
    return more


def _rotated(
    containment: Containment,
    where: Containment,
    flows: npt.NDArray[np.int32],
    alive: npt.NDArray[np.int64],
    owned: Ownership,
    turns: float,
    rng: np.random.Generator,
) -> Nulls:
    """Scores of the flows turned round ``turns`` times; of a part of them, where that is less than twice.

    Those without evidence for them among the records of ``where`` are left out; if those are not all, the
    lone scores are no sample.
    """
    copy, shift = containment.rotations(flows, turns, rng)
    pairs, shift_ns = where.score(copy, shift_ns=shift, floor_log10=0.0)
    comparisons = int(alive[copy].sum())
    if where is containment:
        return Nulls(
            contested_scores(containment, pairs, shift_ns, owned), comparisons, pairs.score, comparisons
        )
    pairs = containment.score_again(pairs, shift_ns)
    return Nulls(contested_scores(containment, pairs, shift_ns, owned), comparisons, np.zeros(0), 0)
