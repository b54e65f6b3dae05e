"""Several engines' likelihood ratios into one, without counting the same thing twice.

Engines look at the same packets, so their ratios must not simply be multiplied. For each pair the engines
are taken in order of how much they say; each next one counts for the part it does not share with those
before it: its ratio times ``1 - r`` for each of them, r the correlation of the two engines' ratios among
known pairs of the same proposition. Where too few pairs are known to measure r it is taken as one half.

An engine that is silent on a pair adds nothing to it, and a silent engine is not a ratio of 1. The fused
ratio stays within the widest bounds of the engines that spoke: what many engines repeat is not thereby
backed by more observations.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.evidence.calibration import LEAST_KNOWN

UNKNOWN_CORRELATION = 0.5

Floats = npt.NDArray[np.float64]


def dependence(llr: Floats, known: list[npt.NDArray[np.intp]]) -> Floats:
    """How much engines repeat each other: correlations within propositions, 0 where they disagree.

    Parameters
    ----------
    llr : ndarray of float64, shape (engines, pairs)
        NaN where an engine is silent.
    known : list of ndarrays of intp
        Indices of the pairs of each proposition.

    Returns
    -------
    ndarray of float64, shape (engines, engines)
        In [0, 1]; the larger of the propositions'.
    """
    engines = len(llr)
    shared = np.eye(engines)
    for i in range(engines):
        for j in range(i):
            measured = []
            for pairs in known:
                both = pairs[np.isfinite(llr[i, pairs]) & np.isfinite(llr[j, pairs])]
                x, y = llr[i, both], llr[j, both]
                if len(both) >= LEAST_KNOWN and x.std() > 0 and y.std() > 0:
                    measured.append(float(np.corrcoef(x, y)[0, 1]))
            r = max(0.0, *measured) if measured else UNKNOWN_CORRELATION
            shared[i, j] = shared[j, i] = r
    return shared


def fuse(llr: Floats, shared: Floats, lower: Floats, upper: Floats) -> Floats:
    """One log10 likelihood ratio a pair.

    Parameters
    ----------
    llr : ndarray of float64, shape (engines, pairs)
        NaN where an engine is silent.
    shared : ndarray of float64, shape (engines, engines)
        From :func:`dependence`.
    lower, upper : ndarray of float64, shape (engines, pairs)
        Bounds of each engine's ratios.

    Returns
    -------
    ndarray of float64, shape (pairs,)
        NaN where every engine is silent.
    """
    engines, pairs = llr.shape
    spoken = np.isfinite(llr)
    loudness = np.where(spoken, np.abs(llr), -1.0)
    order = np.argsort(-loudness, axis=0, kind="stable")
    column = np.arange(pairs)
    total = np.zeros(pairs)
    for place in range(engines):
        engine = order[place]
        share = np.ones(pairs)
        for before in range(place):
            share *= np.where(spoken[order[before], column], 1.0 - shared[engine, order[before]], 1.0)
        total += np.where(spoken[engine, column], share * llr[engine, column], 0.0)
    low = np.where(spoken, lower, np.inf).min(axis=0, initial=np.inf)
    high = np.where(spoken, upper, -np.inf).max(axis=0, initial=-np.inf)
    heard = spoken.any(axis=0)
    return np.where(heard, np.minimum(np.maximum(total, low), high), np.nan)
