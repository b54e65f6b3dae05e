"""From scores to likelihood ratios: how much of a score the comparisons of a case allow to believe.

Every engine's score claims to be a decimal logarithm of a likelihood ratio. A ratio of 10^x or more comes in
at most one of 10^x comparisons known to be false, and one of 10^-x or less in at most one of 10^x known to be
true (Good 1950, Probability and the Weighing of Evidence). Where a case's known comparisons break that, the
engine is too sure of itself, and all its scores of that sign are taken by the largest share that keeps the
bound. No ratio goes beyond the number of comparisons behind it (the idea of ELUB: Vergeer et al. 2016, Sci.
Justice 56).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Floats

LEAST_KNOWN = 20
"""Known comparisons without which nothing is calibrated: fewer cannot show a ratio of ten to be wrong."""
_EXCEEDING, _LEAST_EXCEEDING = 20, 6
"""Largest false claims from which larger ones are extrapolated, and how many there have to be."""
_LEAST_SLOPE = 0.05
"""An engine of which less may be believed says nothing: a score of ten would be a ratio of three."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Decimal log likelihood ratios are scores times a slope, within bounds."""

    slope_for: float
    """Of positive scores."""
    slope_against: float
    """Of negative ones."""
    lower: float
    upper: float
    heard: float = 0.0
    """log10 of the share of carried flows that an engine speaks of which speaks seldom: no more than that is
    its speaking worth."""

    def unbounded(self, score: Floats) -> Floats:
        """log10 likelihood ratios as the model has them, shape as ``score``; NaN stays NaN."""
        claim = np.maximum(self.slope_for * score + self.heard, 0.0)
        return np.where(score > 0, claim, self.slope_against * score)

    def llr(self, score: Floats) -> Floats:
        """log10 likelihood ratios that the case can carry."""
        return np.clip(self.unbounded(score), self.lower, self.upper)


def calibrate(true: Floats, *kinds_false: tuple[Floats, int], heard: float = 1.0) -> Calibration | str:
    """Calibration by known comparisons; or why there is none.

    Parameters
    ----------
    true : ndarray of float64
        Scores of pairs known to belong together; NaN where the engine was silent.
    *kinds_false : tuple of ndarray of float64 and int
        Scores of pairs known not to, and how many were compared in all: those without a score had nothing in
        common. Of several kinds the one counts by which chance scores most.
    heard : float
        Share of carried flows that the engine speaks of, where its silence means something.
    """
    kinds_false = tuple(kind for kind in kinds_false if kind[1] >= LEAST_KNOWN)
    if not kinds_false and len(true) < LEAST_KNOWN:
        return f"fewer than {LEAST_KNOWN} known pairs to calibrate it"
    slope_for = min((chance_slope(*kind, heard) for kind in kinds_false), default=0.0)
    slope_against = chance_slope(-true, len(true)) if len(true) >= LEAST_KNOWN else 0.0
    # Where pairs are known to be true, a sign that is right of none of those known is chance.
    slope_for *= len(true) < LEAST_KNOWN or bool((true > 0).any())
    slope_against *= any((false < 0).any() for false, _ in kinds_false)
    if max(slope_for, slope_against) == 0.0:
        return "it does not tell the case's known pairs apart"
    comparisons = max((compared for _, compared in kinds_false), default=0)
    return Calibration(slope_for, slope_against, *bounds(comparisons, len(true)), float(np.log10(heard)))


def chance_slope(llr: Floats, comparisons: int, heard: float = 1.0) -> float:
    """What share of log likelihood ratios chance allows to believe.

    Parameters
    ----------
    llr : ndarray of float64
        log10 likelihood ratios of comparisons for which they are wrong where positive; NaN counts as none.
    comparisons : int
        All of them.
    heard : float
        Factor that the ratios still have to be multiplied with.

    Returns
    -------
    float
        At most 1; 0 where next to nothing may be believed.
    """
    positive, bound = _bound_of(llr, comparisons)
    slope = float(((bound[1:] - np.log10(heard)) / positive).min(initial=1.0))
    return slope if slope >= _LEAST_SLOPE else 0.0


def chance_beyond(claim: Floats, false: Floats, comparisons: int) -> Floats:
    """What claims are worth, those far beyond all false ones as well.

    A claim is worth how many comparisons there are for each false one that claims as much (Good 1950), never
    more than it says. Beyond the twentieth of the false ones, how many claim as much is extrapolated: what
    exceeds a high threshold falls off exponentially (Pickands 1975, Ann. Statist. 3), by the mean of the
    excesses, which is taken to be larger by its standard error. One odd comparison of hundreds decides little
    then, where it decides everything by :func:`chance_slope`; what that leaves is believed in any case.

    Parameters
    ----------
    claim : ndarray of float64
        log10 odds, or ratios.
    false : ndarray of float64
        Of comparisons for which they are wrong where positive.
    comparisons : int
        All of them.
    """
    positive, by_slope = np.sort(false[false > 0])[::-1], chance_slope(false, comparisons) * claim
    if len(positive) < _LEAST_EXCEEDING:
        return by_slope
    many = min(_EXCEEDING, len(positive) - 1)
    high = positive[many]
    excess = float(np.mean(positive[:many] - high)) * (1.0 + many**-0.5)
    worth = np.log10((max(comparisons, len(positive)) + 1.0) / (many + 1.0))
    rate = np.log10(np.e) / max(excess, 1e-9)
    beyond = worth + rate * (claim - high)
    extrapolated = np.minimum(np.where(claim > high, beyond, claim * worth / high), claim)
    return np.asarray(np.where(claim > 0, np.maximum(extrapolated, by_slope), claim))


def chance_cap(llr: Floats, comparisons: int) -> float:
    """The largest log likelihood ratio that may be stated, of whatever is claimed.

    Claims of dozens of decades, right or wrong, are worth what claims so high are worth in this case: a few
    false ones bound it, and leave the lesser claims as they are. (A share of all logarithms that brings one
    false claim of forty decades down to four would bring right ones of ten down to one.)

    Parameters
    ----------
    llr, comparisons
        As :func:`chance_slope` takes them.
    """
    positive, bound = _bound_of(llr, comparisons)
    return float(bound[np.argmax(np.r_[positive, 0.0] < bound)])


def _bound_of(llr: Floats, comparisons: int) -> tuple[Floats, Floats]:
    """The positive ratios, descending, and what n of them may be at most, n from 0 on (Good 1950)."""
    positive = np.sort(llr[llr > 0])[::-1]
    of = max(comparisons, len(positive)) + 1.0
    return positive, np.log10(of) - np.log10(np.arange(len(positive) + 1) + 1.0)


def bounds(false: int, true: int) -> tuple[float, float]:
    """Least and largest log10 likelihood ratio that so many known comparisons can carry."""
    return -float(np.log10(max(true, 1))), float(np.log10(max(false, 1)))
