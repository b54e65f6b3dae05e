"""Several engines' likelihood ratios into one, without counting the same thing twice.

Engines look at the same packets, so their ratios must not simply be multiplied. The engines are taken in
order of strength, how far apart they hold the case's known pairs of the two propositions; each counts for
what the stronger ones have not said already. For two normal scores of separations ``a >= b`` and correlation
``r`` the weaker one's share in the joint ratio is ``(1 - r a / b) / (1 - r^2)``; used here is its numerator,
which is less, and never below 0: a weak echo of a strong voice adds nothing. Where too few pairs are known to
measure r, it is taken as one half.

An engine that is silent on a pair adds nothing to it, and a silent engine is not a ratio of 1. The fused
ratio stays within the widest bounds of the engines that spoke: what many engines repeat is not thereby
backed by more observations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.evidence.calibration import LEAST_KNOWN

UNKNOWN_CORRELATION = 0.5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Dependence:
    """How much engines repeat each other."""

    order: npt.NDArray[np.intp]
    """The engines, strongest first."""
    said: Floats
    """Shape (engines, engines): ``said[i, j]`` of what j says, the stronger i has said already; in [0, 1]."""


def dependence(
    llr: Floats, known: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]], same: tuple[int, int] | None = None
) -> Dependence:
    """Measure strength and correlations on known pairs.

    Parameters
    ----------
    llr : ndarray of float64, shape (engines, pairs)
        NaN where an engine is silent.
    known : tuple of two ndarrays of intp
        Indices of the pairs known to belong together, and of those known not to.
    same : tuple of int, optional
        Two engines that see the same thing by construction.
    """
    engines = len(llr)
    strength = np.array([_separation(one, known) for one in llr])
    said = np.zeros((engines, engines))
    for i in range(engines):
        for j in range(engines):
            if i != j:
                r = 1.0 if same in ((i, j), (j, i)) else _correlation(llr[i], llr[j], known)
                ratio = strength[i] / strength[j] if strength[j] > 0 else 1.0
                said[i, j] = min(1.0, r * max(1.0, ratio))
    return Dependence(np.argsort(-strength, kind="stable"), said)


def fuse(llr: Floats, dependence: Dependence, lower: Floats, upper: Floats) -> Floats:
    """One log10 likelihood ratio a pair.

    Parameters
    ----------
    llr : ndarray of float64, shape (engines, pairs)
        NaN where an engine is silent.
    dependence : Dependence
    lower, upper : ndarray of float64, shape (engines, pairs)
        Bounds of each engine's ratios.

    Returns
    -------
    ndarray of float64, shape (pairs,)
        NaN where every engine is silent.
    """
    spoken = np.isfinite(llr)
    total = np.zeros(llr.shape[1])
    for place, engine in enumerate(dependence.order.tolist()):
        share = np.ones(llr.shape[1])
        for before in dependence.order[:place].tolist():
            share *= np.where(spoken[before], 1.0 - dependence.said[before, engine], 1.0)
        total += np.where(spoken[engine], share * llr[engine], 0.0)
    low = np.where(spoken, lower, np.inf).min(axis=0, initial=np.inf)
    high = np.where(spoken, upper, -np.inf).max(axis=0, initial=-np.inf)
    return np.where(spoken.any(axis=0), np.minimum(np.maximum(total, low), high), np.nan)


def _separation(llr: Floats, known: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]) -> float:
    """Distance of the means of the two propositions, in the standard deviations that such a ratio would have.

    A calibrated ratio of normal scores d apart has means of ``+-d^2 / 2`` (natural logarithm).
    """
    means = [float(np.mean(x)) for pairs in known if len(x := llr[pairs][np.isfinite(llr[pairs])])]
    if not means:
        return 0.0
    apart = means[0] - means[1] if len(means) == 2 else abs(means[0])
    return float(np.sqrt(max(apart, 0.0) * np.log(10.0)))


def _correlation(one: Floats, other: Floats, known: tuple[npt.NDArray[np.intp], ...]) -> float:
    """Within propositions, the larger of the two; 0 where the engines disagree."""
    measured = []
    for pairs in known:
        both = pairs[np.isfinite(one[pairs]) & np.isfinite(other[pairs])]
        x, y = one[both], other[both]
        if len(both) >= LEAST_KNOWN and x.std() > 0 and y.std() > 0:
            measured.append(float(np.corrcoef(x, y)[0, 1]))
    return max(0.0, *measured) if measured else UNKNOWN_CORRELATION
