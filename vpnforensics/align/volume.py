"""Two clocks from how much goes by on either side, moment by moment.

Whatever becomes of sizes, what a server passes on goes by on both of its sides within milliseconds: busy and
quiet moments are the same. The two sides' volumes are cross-correlated, each direction by itself, and summed:
bytes or packets per 20 ms give a rough offset, those per millisecond in short stretches of either direction,
near that, the line. Square roots keep one bulk transfer from drowning everything else.

Known weaknesses: traffic at one constant rate; captures of an hour and more, over which clocks drift by bins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment
from vpnforensics.align.line import LEAST_PAIRS, align_pairs
from vpnforensics.arrays import Bools, Columns, Floats, Ints

_BINS = 1 << 21
"""Of either side, at most: of a longer capture, the busiest stretch."""
_MOMENT_NS, _APART_NS = 20_000_000, 200_000_000
_STRONG, _CLEAR_OF_NEXT = 10.0, 2.0
"""Right offsets of half a minute of a dozen kinds of relays and tunnels had 15 and more, and 2.7 times what
the next had; the best of 572 pairs of captures that do not belong together 9.5, and 1.7 times."""
SURE_WITHIN_NS = _MOMENT_NS
"""How far the right offset may be from one that is sure."""
_FINE_NS = (1_000_000, 4_000_000)
_STRETCH_NS, _STRETCHES, _MOST_STRETCHES = (500_000_000, 2_500_000_000), 24, 400
"""Least and most of a stretch; how many a short capture is parted into; how many of a long one are asked."""
_SEARCHED_NS, _KEPT_NS, _STANDS_OUT = 150_000_000, 60_000_000, 6.0
"""Of a stretch, so far around the rough offset: what is near it counts, the rest says what chance does."""
_LOCAL_BINS = 20
"""A moment is busy beside those so near, on either hand: that some minutes are busier, all captures have."""


@dataclass(frozen=True, eq=False)
class Volume(Columns):
    """What one side passed, packet by packet, ascending in time."""

    ts_ns: Ints
    amount: Floats
    """Packets or bytes."""
    up: Bools


@dataclass(frozen=True, slots=True)
class Peak:
    """An offset at which the two sides vary together."""

    offset_ns: int
    """Egress clock minus ingress clock."""
    strength: float
    """Sum over both directions; what other offsets have is 1 (root mean square)."""


def sure_offset(ingress: Volume, egress: Volume) -> int | None:
    """The offset at which both sides are busy together, clearly more than at any other; None without one."""
    peaks = volume_peaks(ingress, egress, 2, _MOMENT_NS, _APART_NS)
    if not peaks or peaks[0].strength < _STRONG:
        return None
    clear = len(peaks) < 2 or peaks[0].strength >= _CLEAR_OF_NEXT * peaks[1].strength
    return peaks[0].offset_ns if clear else None


def align_by_volume(
    ingress: Volume, egress: Volume, offset_ns: int, rng: np.random.Generator
) -> Alignment | None:
    """The line near a rough offset, if many stretches of both directions have a lag that stands out.

    Parameters
    ----------
    ingress, egress : Volume
    offset_ns : int
        As :func:`sure_offset` gives it.
    rng : numpy.random.Generator
        Resamples for the intervals.
    """
    stretch_ns = int(np.clip(np.ptp(egress.ts_ns) // _STRETCHES, *_STRETCH_NS))
    first = np.unique(egress.ts_ns // stretch_ns) * stretch_ns
    first = first[:: -(-len(first) // _MOST_STRETCHES)]
    for bin_ns in _FINE_NS:
        found: list[tuple[int, int, bool]] = []
        for up in (True, False):
            inside = ingress.take(np.flatnonzero(ingress.up == up))
            outside = egress.take(np.flatnonzero(egress.up == up))
            lags = (
                (at_ns, _lag(inside, outside, (at_ns, at_ns + stretch_ns), offset_ns, bin_ns))
                for at_ns in first.tolist()
            )
            found += [(at_ns, at_ns - lag_ns, up) for at_ns, lag_ns in lags if lag_ns is not None]
        if len(found) < LEAST_PAIRS or len({up for *_, up in found}) < 2:
            continue
        egress_ns, ingress_ns, way = (np.array(column) for column in zip(*found, strict=True))
        line = align_pairs(egress_ns + stretch_ns // 2, ingress_ns + stretch_ns // 2, way, rng)
        if line.usable:
            low_ns, high_ns = line.offset_interval_ns  # and where in a bin packets stand, is not known
            return replace(line, offset_interval_ns=(low_ns - bin_ns // 2, high_ns + bin_ns // 2))
    return None


def _lag(
    ingress: Volume, egress: Volume, between_ns: tuple[int, int], offset_ns: int, bin_ns: int
) -> int | None:
    """Egress minus ingress clock, by one stretch of one direction; None where no moment stands out."""
    begin_ns, end_ns = between_ns
    reach, bins = _SEARCHED_NS // bin_ns, (end_ns - begin_ns) // bin_ns
    series = []
    for side, low_ns, count in (
        (egress, begin_ns, bins),
        (ingress, begin_ns - offset_ns - _SEARCHED_NS, bins + 2 * reach),
    ):
        rows = slice(*np.searchsorted(side.ts_ns, (low_ns, low_ns + count * bin_ns)).tolist())
        place = (side.ts_ns[rows] - low_ns) // bin_ns
        series.append(_beside_those_around(np.sqrt(np.bincount(place, side.amount[rows], count))))
    together = np.correlate(series[1], series[0], "valid")  # one for each lag from the latest ingress on
    top = int(np.argmax(together))
    near = np.abs(np.arange(len(together)) - top) <= _LOCAL_BINS
    noise = float(np.sqrt(np.mean(together[~near] ** 2)))
    if abs(top - reach) * bin_ns > _KEPT_NS or together[top] < _STANDS_OUT * max(noise, 1e-12):
        return None
    peak = slice(max(top - 2, 0), top + 3)
    weight = np.maximum(together[peak] - together[top] / 2, 0.0)
    middle = float(np.average(np.arange(len(together))[peak], weights=weight))
    return offset_ns - int((middle - reach) * bin_ns)


def volume_peaks(ingress: Volume, egress: Volume, wanted: int, bin_ns: int, apart_ns: int) -> list[Peak]:
    """The offsets at which the two sides' volumes vary together most, best first.

    Parameters
    ----------
    ingress, egress : Volume
    wanted : int
        At most so many.
    bin_ns : int
    apart_ns : int
        Offsets nearer than this to a better one are the same.
    """
    if not len(ingress) or not len(egress):
        return []
    ingress, egress = (side.take(_busiest(side.ts_ns, bin_ns)) for side in (ingress, egress))
    low_in, low_out = int(ingress.ts_ns[0]), int(egress.ts_ns[0])
    bins_in = int((ingress.ts_ns[-1] - low_in) // bin_ns) + 1
    bins_out = int((egress.ts_ns[-1] - low_out) // bin_ns) + 1
    length = 1 << int(np.ceil(np.log2(bins_in + bins_out)))
    total = np.zeros(length)
    for up in (True, False):
        a = _moments(ingress, up, low_in, bin_ns, bins_in)
        b = _moments(egress, up, low_out, bin_ns, bins_out)
        spectrum = np.conj(np.fft.rfft(a, length)) * np.fft.rfft(b, length)
        together = np.fft.irfft(spectrum, length)
        total += together / max(float(np.sqrt(np.mean(together**2))), 1e-12)
    total /= np.sqrt(2.0)
    apart = -(-apart_ns // bin_ns)
    found = []
    for _ in range(wanted):
        lag = int(np.argmax(total))
        if not np.isfinite(total[lag]) or total[lag] <= 0:
            break
        signed = lag if lag < bins_out else lag - length
        found.append(Peak(low_out - low_in + signed * bin_ns, float(total[lag])))
        total[np.arange(lag - apart, lag + apart + 1) % length] = -np.inf
    return found


def _moments(side: Volume, up: bool, low_ns: int, bin_ns: int, bins: int) -> Floats:
    """How much busier each moment is than those around it."""
    mine = side.up == up
    return _beside_those_around(
        np.sqrt(np.bincount((side.ts_ns[mine] - low_ns) // bin_ns, side.amount[mine], bins))
    )


def _beside_those_around(busy: Floats) -> Floats:
    total = np.r_[0.0, np.cumsum(busy)]
    at = np.arange(len(busy))
    first, after = np.maximum(at - _LOCAL_BINS, 0), np.minimum(at + _LOCAL_BINS + 1, len(busy))
    return np.asarray(busy - (total[after] - total[first]) / (after - first))


def _busiest(ts_ns: Ints, bin_ns: int) -> npt.NDArray[np.intp]:
    """The rows of the stretch of at most ``_BINS`` bins that holds most packets."""
    stop = np.searchsorted(ts_ns, ts_ns + _BINS * bin_ns)
    first = int(np.argmax(stop - np.arange(len(ts_ns))))
    return np.arange(first, int(stop[first]))
