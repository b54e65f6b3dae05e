"""What a set of likelihood ratios is worth: cost, its part that calibration explains, and where it misleads.

All log likelihood ratios are decimal. References: Brümmer & du Preez 2006 (Cllr and its parts, Computer
Speech and Language 20); Ramos & Gonzalez-Rodriguez 2013 (ECE, Forensic Sci. Int. 230); Vergeer et al. 2016
(NBE and ELUB, Sci. Justice 56) and 2021 (devPAV, Forensic Sci. Int. 321); Royall 2000 (misleading evidence,
J. Am. Stat. Assoc. 95).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.arrays import Bools, Floats
from vpnforensics.validation.tally import Tally, pav

_STEP = 0.01
"""Of thresholds for NBE, as its authors have it."""
MISLEADING_FROM = (0.0, 1.0, 2.0, 3.0, 4.0)
"""Decimal logarithms: from 1 on "moderate support", from 4 "very strong support" of what is wrong."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Cllr in bits: 0 perfect, 1 worthless."""

    cllr: float
    cllr_min: float
    """What is left after the best calibration in hindsight: discrimination."""
    cllr_cal: float
    """The difference: calibration."""
    devpav: float
    """Mean distance of the likelihood ratios from that calibration, decades; NaN where both kinds are fully
    apart, so that it is not defined."""


def cost(counted: Tally) -> Cost:
    """Cllr, its two parts and devPAV; NaN unless there are comparisons of both kinds."""
    if not counted.both:
        return Cost(np.nan, np.nan, np.nan, np.nan)
    best = pav(counted)
    whole, least = (cllr(x, x, counted.h1, counted.h2) for x in (counted.llr, best))
    return Cost(whole, least, whole - least, devpav(counted, best))


def cllr(h1: Floats, h2: Floats, weight_h1: Floats | None = None, weight_h2: Floats | None = None) -> float:
    """Cost of log likelihood ratios, in bits: 0 perfect, 1 worthless (Brümmer & du Preez 2006).

    Parameters
    ----------
    h1, h2 : ndarray of float64
        log10 likelihood ratios of pairs that belong together, and that do not.
    weight_h1, weight_h2 : ndarray of float64, optional
        How often each of them counts; all once by default.
    """
    ln10 = np.log(10.0)
    for_h1 = _average(np.logaddexp(0.0, -ln10 * h1), weight_h1)
    for_h2 = _average(np.logaddexp(0.0, ln10 * h2), weight_h2)
    return (for_h1 + for_h2) / (2 * float(np.log(2.0)))


def cost_parts(llr: Floats, h1: Bools) -> Floats:
    """What each comparison adds to Cllr, bits: their sum is Cllr.

    Parameters
    ----------
    llr : ndarray of float64, shape (n,)
        log10; NaN is silence, and adds nothing.
    h1 : ndarray of bool, shape (n,)
    """
    spoken = ~np.isnan(llr)
    parts = np.zeros(len(llr))
    for kind, sign in ((h1, -1.0), (~h1, 1.0)):
        mine = spoken & kind
        parts[mine] = np.logaddexp(0.0, sign * np.log(10.0) * llr[mine]) / max(int(mine.sum()), 1)
    return np.asarray(parts / (2 * np.log(2.0)))


def _average(values: Floats, weights: Floats | None) -> float:
    """0 of nothing; what counts never may be infinite."""
    if weights is not None:
        values, weights = values[weights > 0], weights[weights > 0]
    return float(np.average(values, weights=weights)) if len(values) else 0.0


def devpav(counted: Tally, best: Floats) -> float:
    """Area between the calibration ``best`` (of :func:`~vpnforensics.validation.tally.pav`) and the diagonal,
    over the width of the likelihood ratios where it is finite.
    """
    inside = np.isfinite(best) & (counted.h1 + counted.h2 > 0)
    x, off = counted.llr[inside], (best - counted.llr)[inside]
    if len(x) < 2:
        return abs(float(off[0])) if len(x) else float("nan")
    width, left, right = np.diff(x), np.abs(off[:-1]), np.abs(off[1:])
    with np.errstate(invalid="ignore"):
        crossing = width * (left**2 + right**2) / (2 * (left + right))
    crosses = off[:-1] * off[1:] < 0
    area = float(np.where(crosses, crossing, width * (left + right) / 2).sum())
    return area / float(x[-1] - x[0])


def ece(counted: Tally, log_odds: Floats) -> tuple[Floats, Floats, Floats]:
    """Empirical cross-entropy, bits, at each decimal logarithm of the prior odds.

    Returns
    -------
    tuple of ndarray of float64
        Of the likelihood ratios; of them after the best calibration; of none at all.
    """
    kinds = counted.llr, pav(counted), np.zeros(len(counted.llr))
    given, calibrated, none = (
        np.array([_entropy(replace(counted, llr=x), at) for at in log_odds]) for x in kinds
    )
    return given, calibrated, none


def _entropy(counted: Tally, log_odds: float) -> float:
    """Cllr's two parts, weighed by the priors and with them in the odds."""
    prior = 1 / (1 + 10.0**-log_odds)
    odds = counted.llr + log_odds
    none = np.zeros(0)
    of_h1 = 2 * cllr(odds, none, counted.h1)
    of_h2 = 2 * cllr(none, odds, None, counted.h2)
    return float(prior * of_h1 + (1 - prior) * of_h2)


def thresholds(counted: Tally) -> Floats:
    """Decimal logarithms at which :func:`nbe` is looked at: as far as so many comparisons can tell."""
    low = max(counted.llr[0], -np.log10(counted.true + 1))
    high = min(counted.llr[-1], np.log10(counted.false + 1))
    first, last = min(0, int(low // _STEP)), max(0, int(high // _STEP) + 1)
    return np.linspace(first * _STEP, last * _STEP, last - first + 1)


def nbe(counted: Tally, at: Floats, misleading: int = 1) -> Floats:
    """By how many decades deciding by likelihood ratios costs less than deciding without, at each threshold.

    Parameters
    ----------
    counted : Tally
    at : ndarray of float64
        Thresholds, decimal logarithms.
    misleading : int
        Comparisons added to either kind that mislead at any threshold, so that nothing rests on there being
        none yet. Below 0 the likelihood ratios do harm.
    """
    rank = np.searchsorted(counted.llr, at, side="right")
    above = [np.r_[np.cumsum(counts[::-1])[::-1], 0.0][rank] for counts in (counted.h1, counted.h2)]
    missed = 1 - above[0] / (counted.true + misleading)
    accepted = (above[1] + misleading) / (counted.false + misleading)
    neutral = np.where(at < 0, 10.0**at, 1.0)
    return np.asarray(np.log10(neutral) - np.log10(missed + 10.0**at * accepted))


def elub(counted: Tally) -> tuple[float, float]:
    """Empirical lower and upper bound of log10 likelihood ratios (Vergeer et al. 2016)."""
    at = thresholds(counted)
    harmful = nbe(counted, at) < 0
    low, high = harmful & (at <= 0), harmful & (at >= 0)
    lower = np.max(at[low] + _STEP, initial=at[0])
    upper = np.min(at[high] - _STEP, initial=at[-1])
    return float(min(lower, 0.0)), float(max(upper, 0.0))


def misleading(counted: Tally) -> list[tuple[float, float, float]]:
    """How often evidence misleads by so much and more.

    Returns
    -------
    list of tuple of float
        Decimal logarithm; true comparisons that it speaks against, and false ones that it speaks for.
        From 0 on: those that it speaks the wrong way at all.
    """
    found = []
    for least in MISLEADING_FROM:
        against = counted.llr <= -least if least else counted.llr < 0
        for_it = counted.llr >= least if least else counted.llr > 0
        found.append((least, float(counted.h1[against].sum()), float(counted.h2[for_it].sum())))
    return found
