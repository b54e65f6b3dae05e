"""Likelihood ratios of true and of false comparisons, counted: what every figure and curve is made from.

Sorted once; all that follows is linear in the distinct values. Weights instead of counts make the resamples
of a bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Floats
from vpnforensics.features._kernels import upper_hull


@dataclass(frozen=True, eq=False)
class Tally:
    """Distinct log10 likelihood ratios (or scores), ascending, and how often each came."""

    llr: Floats
    h1: Floats
    """Of comparisons that are true."""
    h2: Floats
    """Of those that are false."""

    @property
    def true(self) -> float:
        """How many."""
        return float(self.h1.sum())

    @property
    def false(self) -> float:
        """How many."""
        return float(self.h2.sum())

    @property
    def both(self) -> bool:
        """Whether there are some of either kind: without, nothing can be said."""
        return self.true > 0 and self.false > 0

    def at_least(self) -> tuple[Floats, Floats]:
        """Shares of the true and of the false ones that reach each value."""
        return _from_above(self.h1), _from_above(self.h2)


def tally(llr: Floats, h1: Bools, weight: Floats | None = None) -> Tally:
    """Count likelihood ratios.

    Parameters
    ----------
    llr : ndarray of float64, shape (n,)
        NaN is silence, and is left out.
    h1 : ndarray of bool, shape (n,)
        Whether each comparison is true.
    weight : ndarray of float64, shape (n,), optional
    """
    spoken = ~np.isnan(llr)
    distinct, number = np.unique(llr[spoken], return_inverse=True)
    counts = np.ones(int(spoken.sum())) if weight is None else weight[spoken]
    true = h1[spoken]
    return Tally(
        distinct,
        np.asarray(np.bincount(number[true], counts[true], len(distinct)), np.float64),
        np.asarray(np.bincount(number[~true], counts[~true], len(distinct)), np.float64),
    )


def pav(counted: Tally) -> Floats:
    """The best calibration that keeps the order: log10 likelihood ratio of each distinct value.

    Pool adjacent violators (Zadrozny & Elkan 2002; Brümmer & du Preez 2006). The pooled shares are the slopes
    of the greatest convex minorant of the cumulative counts, so that one hull finds them.

    Returns
    -------
    ndarray of float64, shape (distinct values,)
        Infinite at the ends where only one kind is.
    """
    if not counted.both:
        return np.full(len(counted.llr), np.nan)
    every, true = (np.r_[0.0, np.cumsum(x)] for x in (counted.h1 + counted.h2, counted.h1))
    corner = upper_hull(every, -true)
    # Weightless values stand on a corner's abscissa: they take the pool to their right.
    pool = np.clip(np.searchsorted(every[corner], every[1:]) - 1, 0, len(corner) - 2)
    of_h1 = np.diff(true[corner]) / counted.true
    of_h2 = np.diff(every[corner] - true[corner]) / counted.false
    # Differences of sums leave crumbs where weights are no whole numbers.
    of_h1, of_h2 = (np.where(x < 1e-12, 0.0, x) for x in (of_h1, of_h2))
    with np.errstate(divide="ignore"):
        return np.asarray((np.log10(of_h1) - np.log10(of_h2))[pool])


def _from_above(counts: Floats) -> Floats:
    total = counts.sum()
    return np.cumsum(counts[::-1])[::-1] / total if total else np.zeros(len(counts))
