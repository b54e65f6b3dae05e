"""Rate error of a clock seen through a queue.

Theory of operation
-------------------
The offset o = TSval/Hz - t of a packet is pushed down, never up, by whatever delays the packet, and by the
truncation to whole ticks. The clock is the upper edge of the points (t, o). Three estimates of its slope:

*Upper hull*: the line above all points with the least sum of distances is the edge of the upper convex
hull over the mean time (Moon, Skelly & Towsley 1999; Kohno, Broido & claffy 2005).

*Theil-Sen* on the maxima of blocks of 5 to 10 s: the median of the slopes between all pairs, with Kendall's
interval (Sen 1968). Robust, less sharp.

*Rank estimate* on the same maxima: the slope at which the residuals, ranked, have no trend in time. The
ranks are scored by u**8, u = rank/(n + 1), so that blocks that saw an undelayed packet decide and others
hardly count. It is about as exact as the hull, and its interval needs no law of delay: under the true slope
the residuals of the blocks are exchangeable, so the trend statistic has mean 0 and the known variance of a
linear rank statistic; the interval is all slopes that it does not reject (Hájek & Šidák 1967). A bootstrap
would not do: it is inconsistent for estimates that rest on extremes, whatever the blocks.

The rank estimate with its interval is the figure reported; ``agree`` says whether the hull lies in three
times that interval and Theil-Sen's interval overlaps it.

Assumptions: blocks are alike and independent, so no delay trend over the whole span and no queue that
stands for longer than a few blocks; a constant rate. Fails, and shows it by disagreement or a wide
interval, where a queue stands for most of the capture, where the rate wanders, and where the path changes
its shortest delay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.errors import InsufficientDataError
from vpnforensics.features._kernels import upper_hull

Floats = npt.NDArray[np.float64]

BLOCK_S, LONG_BLOCK_S = 5.0, 10.0
_MOST_BLOCKS = 400
LEAST_BLOCKS = 8
_SCORE_POWER = 8
_Z95 = 1.959964
_WIDEST = 0.1
"""Slopes are looked for within ten percent."""
WIDEST_PPM = _WIDEST * 1e6 - 0.01
"""An interval that reaches so far ends where the search does: it has no bound on that side."""


@dataclass(frozen=True, eq=False)
class ClockFit:
    """Slope of the upper edge; slopes are dimensionless, s/s."""

    slope: float
    interval: tuple[float, float]
    """95 %."""
    hull: float
    theil_sen: float
    agree: bool
    level_s: float
    """Upper edge at the mean time ``at_s``."""
    at_s: float
    block_s: Floats
    """Time of each block's maximum."""
    residual_s: Floats
    """Each block's maximum above (+) or below (-) the line: the drift curve."""


def fit_upper_edge(t_s: Floats, offset_s: Floats) -> ClockFit:
    """Fit the line that bounds the points from above.

    Parameters
    ----------
    t_s : ndarray of float64, shape (n,)
        Seconds since the first packet, ascending.
    offset_s : ndarray of float64, shape (n,)
        Clock minus capture time, relative to the first packet.

    Returns
    -------
    ClockFit

    Raises
    ------
    InsufficientDataError
        Fewer than eight blocks of 5 s have packets.
    """
    at, top = block_maxima(t_s, offset_s)
    if len(at) < LEAST_BLOCKS:
        raise InsufficientDataError(f"packets in fewer than {LEAST_BLOCKS} blocks of {BLOCK_S:g} s")
    slope, interval = rank_slope(at, top)
    median, kendall = theil_sen(at, top)
    hull, at_s = hull_slope(t_s, offset_s)
    level = float(np.max(offset_s - slope * (t_s - at_s)))
    width = interval[1] - interval[0]
    near = interval[0] - width <= hull <= interval[1] + width
    agree = near and kendall[0] <= interval[1] and interval[0] <= kendall[1]
    return ClockFit(
        slope, interval, hull, median, agree, level, at_s, at, top - (level + slope * (at - at_s))
    )


def block_maxima(t_s: Floats, offset_s: Floats) -> tuple[Floats, Floats]:
    """Time and offset of the highest packet of each block that has one."""
    span_s = float(t_s[-1] - t_s[0])
    # Longer blocks depend on each other less; in a short capture there must be enough of them.
    width = max(min(max(BLOCK_S, span_s / 60), LONG_BLOCK_S), span_s / _MOST_BLOCKS)
    block = np.floor((t_s - t_s[0]) / width).astype(np.int64)
    order = np.lexsort((offset_s, block))
    last = np.flatnonzero(np.r_[np.diff(block[order]) > 0, True])
    highest = order[last]
    return t_s[highest], offset_s[highest]


def hull_slope(t_s: Floats, offset_s: Floats) -> tuple[float, float]:
    """Slope of the upper hull's edge over the mean time, and that time."""
    mean = float(t_s.mean())
    hull = upper_hull(t_s, offset_s)
    if len(hull) < 2:
        return 0.0, mean
    right = int(np.clip(np.searchsorted(t_s[hull], mean), 1, len(hull) - 1))
    a, b = hull[right - 1], hull[right]
    return float((offset_s[b] - offset_s[a]) / (t_s[b] - t_s[a])), mean


def theil_sen(x: Floats, y: Floats) -> tuple[float, tuple[float, float]]:
    """Median of the pairwise slopes, with the 95 % interval that Kendall's tau gives (Sen 1968)."""
    i, j = np.triu_indices(len(x), 1)
    slopes = np.sort((y[j] - y[i]) / (x[j] - x[i]))
    n = len(x)
    reach = _Z95 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    # As many slopes lie below the interval as above it.
    beyond = round((len(slopes) - reach) / 2)
    low, high = max(0, beyond - 1), min(len(slopes) - 1, len(slopes) - beyond)
    return float(np.median(slopes)), (float(slopes[low]), float(slopes[high]))


def rank_slope(x: Floats, y: Floats) -> tuple[float, tuple[float, float]]:
    """Slope at which top-weighted ranks of the residuals have no trend, with its 95 % interval.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n,)

    Returns
    -------
    slope : float
    interval : (float, float)
        Cut at ten percent either way.
    """
    n = len(x)
    score = (np.arange(1, n + 1) / (n + 1)) ** _SCORE_POWER
    score -= score.mean()
    centred = x - x.mean()
    sd = float(np.sqrt((score**2).sum() * (centred**2).sum() / (n - 1)))

    def trend(slope: float) -> float:
        order = np.argsort(y - slope * x, kind="stable")
        return float((score * centred[order]).sum()) / sd

    def crossing(level: float) -> float:
        # The statistic falls as the slope rises.
        low, high = -_WIDEST, _WIDEST
        while high - low > 1e-11:
            middle = (low + high) / 2
            if trend(middle) > level:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    return crossing(0.0), (crossing(_Z95), crossing(-_Z95))
