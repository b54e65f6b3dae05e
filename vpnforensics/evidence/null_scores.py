"""Scores of flows that no tunnel carried: what chance alone achieves.

Two kinds of negatives, both hard. *Rotated copies*: the case's own flows, packet for packet, turned round in
time under the same alignment and scored by the same code against the same tunnels. *Other tunnels*: a flow
that is beyond doubt in one tunnel, scored in the others, which were busy at the same moment.

Null scores are kept in strata by the flow's number of packets: chance explains a DNS query far more often
than a page load. A stratum's tail is counted where there are scores to count and, beyond them, continued as
an exponential whose scale is never taken smaller than what a perfect likelihood ratio would have
(P(LLR >= x | H2) <= 10^-x, Good 1950), and grows with the mean excess observed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STRATA_PACKETS = (1, 2, 3, 4, 6, 10, 30, 100)
"""Lower ends of the strata, in packets a flow."""

_TAIL_SCORES = 60
_PSEUDO_SCORES = 5
_PERFECT_SCALE = 1.0 / float(np.log(10.0))


def stratum_of(packets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Stratum number of flows with these numbers of packets."""
    return np.searchsorted(np.asarray(STRATA_PACKETS), packets, side="right") - 1


@dataclass(frozen=True, slots=True)
class NullTail:
    """Upper tail of one stratum's null scores.

    ``P(score >= x | H2) = exceeding / comparisons * exp(-(x - start) / scale)`` beyond ``start``.
    """

    comparisons: int
    """Null comparisons behind the tail, those without a single hit included."""
    start: float
    exceeding: float
    """Scores above ``start``: the upper 95 % bound of the count."""
    scale: float
    highest: float
    """Largest null score seen."""
    scores: npt.NDArray[np.float64]
    """All listed null scores, ascending; the rest of the comparisons scored below them."""

    def false_positive_rate(self, score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """P(score or more | H2), shape as ``score``."""
        above = len(self.scores) - np.searchsorted(self.scores, score, side="left")
        counted = (above + 1.0) / (self.comparisons + 1.0)
        beyond = self.exceeding / self.comparisons * np.exp(-np.maximum(score - self.start, 0.0) / self.scale)
        return np.where(score > self.start, beyond, np.minimum(counted, 1.0))

    def threshold(self, rate: float) -> float:
        """Least score whose false-positive rate is at most ``rate``."""
        at_start = self.exceeding / self.comparisons
        if rate <= at_start:
            return self.start + self.scale * float(np.log(at_start / rate))
        index = len(self.scores) - int(rate * self.comparisons)
        return float(self.scores[max(0, min(index, len(self.scores) - 1))]) if len(self.scores) else 0.0


def fit_tail(scores: npt.NDArray[np.float64], comparisons: int) -> NullTail:
    """The tail of a stratum's null scores.

    Only scores above 0 count: below, the evidence speaks for H2 and how loudly is no matter. With many of
    them the fit starts at the highest ``_TAIL_SCORES``.

    Parameters
    ----------
    scores : ndarray of float64
        Null scores of the pairs that had any hit.
    comparisons : int
        All null comparisons made.
    """
    ascending = np.sort(scores)
    start = max(0.0, float(ascending[-_TAIL_SCORES - 1])) if len(ascending) > _TAIL_SCORES else 0.0
    excess = ascending[ascending > start] - start
    k = len(excess)
    # A few pseudo-scores of twice the perfect scale stand in where little was seen.
    scale = (float(excess.sum()) + _PSEUDO_SCORES * 2 * _PERFECT_SCALE) / (k + _PSEUDO_SCORES)
    scale = max(scale * (1.0 + 1.645 / np.sqrt(k + _PSEUDO_SCORES)), _PERFECT_SCALE)
    exceeding = k + 1.0 + 1.645 * np.sqrt(k + 1.0)  # one-sided 95 % for a count
    return NullTail(
        max(comparisons, 1),
        start,
        min(float(exceeding), float(max(comparisons, 1))),
        float(scale),
        float(ascending[-1]) if len(ascending) else -np.inf,
        ascending,
    )
