"""Scores of flows that no tunnel carried: what chance alone achieves.

Two kinds of negatives, both hard. *Rotated copies*: the case's own flows, packet for packet, turned round in
time under the same alignment and scored by the same code against the same tunnels. *Other tunnels*: flows
that are linked to one tunnel, scored in the others, which were busy at the same moment.

Null scores are kept in strata by the flow's number of packets: chance explains a DNS query far more often
than a page load. A stratum's tail is counted where there are scores to count. Beyond them it is continued as
what exponential excesses of unknown mean predict for the next one, given those seen: a Lomax law
``(1 + x / (n m))^-n`` (Gelman et al., Bayesian Data Analysis, section 2.6), heavier the fewer were seen. So
the *expected* number of false links is kept, the uncertainty of the tail included. The mean excess is never
taken smaller than a perfect likelihood ratio would have it (P(LLR >= x | H2) <= 10^-x, Good 1950).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STRATA_PACKETS = (1, 2, 3, 4, 6, 10, 30, 100)
"""Lower ends of the strata, in packets a flow."""

_TAIL_SCORES = 60
_LEAST_SCORES = 5
_FEWER = 0.7
_STEPHENS = 1.094
_PERFECT_SCALE = 1.0 / float(np.log(10.0))


def stratum_of(packets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Stratum number of flows with these numbers of packets."""
    return np.searchsorted(np.asarray(STRATA_PACKETS), packets, side="right") - 1


@dataclass(frozen=True, slots=True)
class NullTail:
    """Upper tail of one stratum's null scores.

    ``P(score >= x | H2) = exceeding / comparisons * (1 + (x - start) / (shape * scale)) ** -shape`` beyond
    ``start``, counted up to it.
    """

    comparisons: int
    """Null comparisons behind the tail, those without a single hit included."""
    start: float
    exceeding: float
    """Scores above ``start``, and one more."""
    shape: float
    """Excesses behind the mean, pseudo-scores included."""
    scale: float
    """Mean excess."""
    scores: npt.NDArray[np.float64]
    """All listed null scores, ascending; the rest of the comparisons scored below them."""

    @property
    def highest(self) -> float:
        """Largest null score seen; -inf without any."""
        return float(self.scores[-1]) if len(self.scores) else -np.inf

    def false_positive_rate(self, score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """P(score or more | H2), shape as ``score``."""
        above = len(self.scores) - np.searchsorted(self.scores, score, side="left")
        counted = (above + 1.0) / self.comparisons
        excess = np.maximum(score - self.start, 0.0) / (self.shape * self.scale)
        beyond = self.exceeding / self.comparisons * (1.0 + excess) ** -self.shape
        rate = np.where(score > self.start, beyond, counted)
        return np.where(score > 0, np.minimum(rate, 1.0), 1.0)  # scores up to 0 were not all listed

    def threshold(self, rate: float) -> float:
        """Least score whose false-positive rate is at most ``rate``."""
        ratio = self.exceeding / self.comparisons / rate
        if ratio >= 1.0:
            return self.start + self.shape * self.scale * float(ratio ** (1.0 / self.shape) - 1.0)
        allowed = int(rate * self.comparisons - 1.0)
        return float(np.nextafter(self.scores[-allowed - 1], np.inf)) if allowed < len(self.scores) else 0.0


def fit_tail(scores: npt.NDArray[np.float64], comparisons: int) -> NullTail:
    """The tail of a stratum's null scores.

    Only scores above 0 count: below, the evidence speaks for H2 and how loudly is no matter. With many of
    them the fit starts at the highest ``_TAIL_SCORES``, and higher where those are not like exponential ones:
    chance that hits a packet here and there is one law, chance that finds a whole burst alike is another, and
    the tail is the latter's.

    Parameters
    ----------
    scores : ndarray of float64
        Null scores of the pairs that had any hit.
    comparisons : int
        All null comparisons made.
    """
    ascending = np.sort(scores)
    start, excess = _exponential_part(ascending[ascending > 0])
    # Pseudo-scores of twice the perfect mean stand in for what is missing to a few.
    pseudo = max(0, _LEAST_SCORES - len(excess))
    shape = float(len(excess) + pseudo)
    scale = (float(excess.sum()) + pseudo * 2 * _PERFECT_SCALE) / shape
    return NullTail(
        max(comparisons, len(excess) + 1),
        start,
        len(excess) + 1.0,
        shape,
        max(scale, _PERFECT_SCALE),
        ascending,
    )


def _exponential_part(positive: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
    """Where the highest scores (ascending) begin to look exponential, and their excesses over it."""
    k = min(len(positive), _TAIL_SCORES)
    while True:
        start = float(positive[-k - 1]) if k < len(positive) else 0.0
        excess = positive[len(positive) - k :] - start
        if k <= _LEAST_SCORES or _is_exponential(excess):
            return start, excess
        k = max(_LEAST_SCORES, int(k * _FEWER))


def _is_exponential(ascending: npt.NDArray[np.float64]) -> bool:
    """Kolmogorov's distance to an exponential law of the same mean, at 5 % (Stephens 1974, JASA 69)."""
    n = len(ascending)
    law = -np.expm1(-ascending / max(float(ascending.mean()), 1e-12))
    steps = np.arange(n + 1) / n
    distance = max(float((steps[1:] - law).max()), float((law - steps[:-1]).max()))
    return bool((distance - 0.2 / n) * (n**0.5 + 0.26 + 0.5 / n**0.5) < _STEPHENS)
