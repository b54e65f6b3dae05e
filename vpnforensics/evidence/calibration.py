"""From an engine's scores to calibrated log10 likelihood ratios, and how good those are.

Two ways, for two kinds of engines. Where both propositions have known pairs, logistic regression with equal
prior weights (Brümmer & du Preez 2006, Computer Speech & Language 20): an affine map whose slope tells how
much the score is worth in this very case. Where only chance can be sampled (rotated copies), the share of
carried flows that are heard at all over the rate at which chance scores as high.

Neither goes beyond what the pairs behind it can carry: no ratio above the number of known H2 pairs, none
below one over the number of H1 pairs (the idea of ELUB: Vergeer et al. 2016, Sci. Justice 56).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEAST_KNOWN = 20
"""Known pairs of each proposition without which there is no calibration."""

_WORTHLESS = 0.95
"""Cllr on the known pairs above which a score is not taken for evidence."""

_RIDGE = 1.0
_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Calibration:
    """``llr = slope * score + intercept``, within bounds; all decimal logarithms."""

    slope: float
    intercept: float
    lower: float
    upper: float

    def llr(self, score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """log10 likelihood ratios, shape as ``score``; NaN stays NaN."""
        return np.asarray(np.clip(self.slope * score + self.intercept, self.lower, self.upper))


def calibrate(h1: npt.NDArray[np.float64], h2: npt.NDArray[np.float64]) -> Calibration | str:
    """Logistic calibration from the scores of known pairs; or why there is none.

    Parameters
    ----------
    h1, h2 : ndarray of float64
        Scores of pairs that are known to belong together, and not to.
    """
    if min(len(h1), len(h2)) < LEAST_KNOWN:
        return f"fewer than {LEAST_KNOWN} known pairs to calibrate it"
    score = np.concatenate([h1, h2])
    is_h1 = np.r_[np.ones(len(h1)), np.zeros(len(h2))]
    # Equal weight to both propositions: the regression's odds are then likelihood ratios.
    effective = min(len(h1), len(h2))
    weight = np.where(is_h1 == 1, effective / len(h1), effective / len(h2))
    slope = intercept = 0.0
    for _ in range(_ROUNDS):
        p = 1.0 / (1.0 + np.exp(-np.clip(slope * score + intercept, -30, 30)))
        error, curve = weight * (is_h1 - p), weight * p * (1 - p)
        gradient = np.array([np.sum(error * score) - _RIDGE * slope, np.sum(error)])
        a, b, c = np.sum(curve * score * score) + _RIDGE, np.sum(curve * score), np.sum(curve) + 1e-9
        step = np.linalg.solve(np.array([[a, b], [b, c]]), gradient)
        step *= min(1.0, 2.0 / float(np.abs(step).max() + 1e-12))  # Newton oversteps on separated classes
        slope, intercept = slope + float(step[0]), intercept + float(step[1])
        if float(np.abs(step).max()) < 1e-9:
            break
    ln10 = float(np.log(10.0))
    found = Calibration(slope / ln10, intercept / ln10, -float(np.log10(len(h1))), float(np.log10(len(h2))))
    if slope <= 0 or cllr(found.llr(h1), found.llr(h2)) > _WORTHLESS:
        return "it does not tell the case's known pairs apart"
    return found


def chance_slope(llr: npt.NDArray[np.float64], comparisons: int) -> float:
    """What share of log likelihood ratios chance allows to believe.

    A likelihood ratio of 10^x or more comes by chance in at most one of 10^x comparisons (Good 1950,
    Probability and the Weighing of Evidence). Where a model's ratios come oftener in comparisons known to
    be false, it is too sure of itself, and all its ratios are taken by the largest share of their logarithm
    that keeps the bound.

    Parameters
    ----------
    llr : ndarray of float64
        log10 likelihood ratios of comparisons known to be false; those that are left out are below 0.
    comparisons : int
        All of them.

    Returns
    -------
    float
        In (0, 1].
    """
    positive = np.sort(llr[llr > 0])
    as_high = len(positive) - np.arange(len(positive))
    bound = np.log10(max(comparisons, len(positive)) + 1.0) - np.log10(as_high + 1.0)
    return float(np.clip((bound / positive).min(initial=1.0), 0.05, 1.0))


def llr_by_chance(
    false_positive: npt.NDArray[np.float64], heard_share: float, comparisons: int
) -> npt.NDArray[np.float64]:
    """log10 likelihood ratios of scores whose rate under H2 is known.

    Parameters
    ----------
    false_positive : ndarray of float64
        P(score as high or higher | H2).
    heard_share : float
        Share of carried flows of which the engine speaks at all.
    comparisons : int
        Null comparisons behind the rate.
    """
    llr = np.log10(heard_share) - np.log10(false_positive)
    return np.asarray(np.minimum(llr, np.log10(comparisons)))


def cllr(h1: npt.NDArray[np.float64], h2: npt.NDArray[np.float64]) -> float:
    """Cost of log likelihood ratios, in bits: 0 perfect, 1 worthless (Brümmer & du Preez 2006).

    Parameters
    ----------
    h1, h2 : ndarray of float64
        log10 likelihood ratios of pairs that belong together, and that do not.
    """
    ln10 = np.log(10.0)
    for_h1 = np.logaddexp(0.0, -ln10 * h1).mean() if len(h1) else 0.0
    for_h2 = np.logaddexp(0.0, ln10 * h2).mean() if len(h2) else 0.0
    return float((for_h1 + for_h2) / (2 * np.log(2.0)))
