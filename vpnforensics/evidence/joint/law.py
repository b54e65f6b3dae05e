"""The delay law while the model runs: first the engine's, then learned from what the model explains.

The engine learns its law from packets of rare sizes without a rival; in a busy capture those are few, and
of one direction there may be none. The packets that the model has given their records are many more.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Floats
from vpnforensics.engines.delay_law import decreasing

_FLOOR = 0.001
"""Share of a law spread evenly over its reach: no delay within it is impossible."""
_FINEST, _GROWTH = 400, 1.15
"""Bins of an arm at the mode are this part of it, and grow by this factor away from it."""


def widened(density: Floats, room: int, step_ns: int) -> Floats:
    """A tabulated density with ``room`` more bins at either end.

    Parameters
    ----------
    density : ndarray of float64, shape (n,)
        1/ns, in bins of ``step_ns``.
    room : int
    step_ns : int

    Returns
    -------
    ndarray of float64, shape (n + 2 * room,)
    """
    return _with_floor(np.r_[np.zeros(room), density, np.zeros(room)], step_ns)


def unimodal(mass: Floats, step_ns: int) -> Floats:
    """Density that rises to its mode and falls behind it (Grenander's estimator either side).

    Parameters
    ----------
    mass : ndarray of float64, shape (bins,)
        Delays seen, by bin.
    step_ns : int
        Width of a bin.

    Returns
    -------
    ndarray of float64, shape (bins,)
        1/ns.
    """
    bins = len(mass)
    sums = np.r_[0.0, np.cumsum(mass)]
    # The mode: the middle of the shortest span that holds a third.
    end = np.searchsorted(sums, sums[:-1] + mass.sum() / 3)
    span = np.where(end <= bins, end - np.arange(bins), 2 * bins)
    first = int(np.argmin(span))
    last = int(min(first + span[first], bins))
    mode = int(np.clip(np.searchsorted(sums, (sums[first] + sums[last]) / 2), 1, bins - 1))
    return _with_floor(np.r_[_arm(mass[:mode][::-1])[::-1], _arm(mass[mode:])], step_ns)


def _arm(mass: Floats) -> Floats:
    edges, step = [0], max(1.0, len(mass) / _FINEST)
    while edges[-1] < len(mass):
        edges.append(min(len(mass), edges[-1] + int(step)))
        step *= _GROWTH
    width = np.diff(edges)
    mean = np.add.reduceat(mass, edges[:-1]) / width
    return np.repeat(decreasing(mean, width.astype(np.float64)), width)


def _with_floor(density: Floats, step_ns: int) -> Floats:
    density = density / (density.sum() * step_ns)
    return np.asarray((1 - _FLOOR) * density + _FLOOR / (len(density) * step_ns))
