"""The closer look at one offset: its pile of pairs, sharpened over a grid of drifts in ever finer bins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import count_within, pairs_within
from vpnforensics.align.classes import SizeClasses
from vpnforensics.align.coarse import COARSE_BIN_NS, TOLD_BY
from vpnforensics.align.egress_packets import EgressPackets
from vpnforensics.align.line import Pile
from vpnforensics.scratch import counted, rows_where

MAX_DRIFT_PPM = 120.0
AROUND_NS = 2 * COARSE_BIN_NS
"""How far from an offset of the first look the right one may be."""
_FINE_PAIRS = 400_000
_FINE_WORK = 10_000_000  # pairs times drifts tried on them, for each pile
_LEAST_FINE_POINTS = 1_000
_PAUSE_NS = 1_000_000_000
_BURSTINESS = 4.0  # pairs stand closer together than their mean rate suggests
_FINE_BINS_NS = (20_000_000, 5_000_000, 1_000_000, 250_000)
_MOST_DRIFT_STEPS = 64
_HOLDS_SHARE = 0.45
FINE_POINTS = 20_000


def rarest(
    egress: EgressPackets, classes: SizeClasses, wanted: int, rng: np.random.Generator
) -> EgressPackets:
    """At most ``wanted`` packets, those with the rarest sizes, spread over time.

    Fewer where their pairs would be too many: those of the commonest sizes would use up the room for all.
    """
    half_span_ns = (egress.ts_ns.max() - egress.ts_ns.min()) / 2
    in_reach = min(1.0, 2.0 * _reach_ns(half_span_ns) / max(_covered_ns(classes.ts_ns), 1))
    counts = classes.counts.astype(np.float32)
    # A packet's rank is at most twice its class's size: much commoner classes cannot be among the wanted.
    present = counted(egress.size_class, len(counts))
    by_size = np.argsort(counts, kind="stable")
    enough = min(int(np.searchsorted(np.cumsum(present[by_size]), wanted)), len(by_size) - 1)
    is_rare, size_class = counts <= 2 * counts[by_size[enough]], egress.size_class
    row = rows_where(len(egress), lambda rows: is_rare[size_class[rows]])
    counts = counts[egress.size_class[row]]
    rank = (1 + rng.random(len(row), np.float32)) * counts
    order = np.argpartition(rank, wanted)[:wanted] if len(rank) > wanted else np.arange(len(rank))
    order = order[np.lexsort((order, rank[order]))]
    pairs = np.cumsum(np.maximum(counts[order] * in_reach, 1.0))
    most = min(_FINE_PAIRS / _BURSTINESS, _FINE_WORK / drifts_tried(half_span_ns))
    affordable = max(_LEAST_FINE_POINTS, int(np.searchsorted(pairs, most)))
    return egress.take(row[np.sort(order[:affordable])])


def _covered_ns(ts_ns: npt.NDArray[np.int64]) -> int:
    """How long the packets go on, without the long pauses between them."""
    some = -(-len(ts_ns) // TOLD_BY)
    gap_ns = np.diff(np.sort(ts_ns[::some]))
    return int(np.minimum(gap_ns, some * _PAUSE_NS).sum())


def _reach_ns(half_span_ns: float, around_ns: int = AROUND_NS) -> int:
    """How far from a coarse offset its pairs may lie, for its bins' width and drift."""
    return int(around_ns + 2 * MAX_DRIFT_PPM * 1e-6 * half_span_ns)


def sharpen(
    egress: EgressPackets,
    classes: SizeClasses,
    offset_ns: int,
    reference_ns: int,
    around_ns: int = AROUND_NS,
) -> Pile:
    """Search drift and offset so far around a coarse offset, bins shrinking while the pile holds together."""
    half_span_ns = (egress.ts_ns.max() - egress.ts_ns.min()) / 2
    reach_ns = _reach_ns(half_span_ns, around_ns)
    # Where there is no room for all pairs, those of some packets from all over the capture.
    sizes = classes.start, classes.ts_ns
    total = int(count_within(egress.ts_ns - offset_ns, egress.size_class, *sizes, reach_ns).sum())
    some = np.arange(0, len(egress.ts_ns), max(1, -(-total // _FINE_PAIRS)))
    left, right = pairs_within(
        egress.ts_ns[some],
        egress.size_class[some],
        *sizes,
        offset_ns - reach_ns,
        offset_ns + reach_ns,
        2 * _FINE_PAIRS,
    )
    left = some[left]
    t = (egress.ts_ns[left] - reference_ns).astype(np.float64)
    residual = (egress.ts_ns[left] - classes.ts_ns[right] - offset_ns).astype(np.float64)
    # A packet with many candidates in reach says little about each.
    weight = 1.0 / np.bincount(left, minlength=len(egress.ts_ns))[left] if len(left) else np.zeros(0)
    middle = half_span_ns + float(egress.ts_ns.min() - reference_ns)
    reach, drift_reach = float(reach_ns), MAX_DRIFT_PPM * 1e-6
    bins_ns = _fine_bins_ns(drift_reach * half_span_ns)
    center, drift, width = 0.0, 0.0, _FINE_BINS_NS[0]
    supports: list[float] = []
    held = 0
    for bin_ns in bins_ns:
        step = bin_ns / max(half_span_ns, 1.0)
        steps = int(np.ceil(drift_reach / step))
        best = (-1.0, 0.0, 0.0)
        for k in range(-steps, steps + 1):
            slope = drift + k * step
            if abs(slope) > MAX_DRIFT_PPM * 1e-6:
                continue
            shifted = residual - slope * (t - middle) - center
            inside = np.abs(shifted) < reach
            slot = ((shifted[inside] + reach) // bin_ns).astype(np.int64)
            pile = np.bincount(slot, weight[inside], minlength=int(2 * reach // bin_ns) + 2)
            wide = pile[:-2] + pile[1:-1] + pile[2:]
            top = int(np.argmax(wide))
            chance = float(wide.sum() / len(wide))
            if wide[top] - chance > best[0]:
                best = (float(wide[top]) - chance, slope, center - reach + (top + 1.5) * bin_ns)
        if bin_ns <= _FINE_BINS_NS[0]:  # wider ones only lead there
            # Finer bins must keep most of the pile: a jittery path has no sharper truth to find.
            supports.append(best[0])
            if held and best[0] < _HOLDS_SHARE * supports[-2]:
                break
            held, width = held + 1, bin_ns
        _, drift, center = best
        reach, drift_reach = 8.0 * bin_ns, 3 * step
    line = (center - drift * middle, drift)
    return Pile(*line, width, tuple(supports), held, t, residual, egress.up[left], left, right)


def drifts_tried(half_span_ns: float) -> int:
    """How many drifts :func:`sharpen` tries, one for each step of finer bins."""
    reach, tried = MAX_DRIFT_PPM * 1e-6 * half_span_ns, 0
    for bin_ns in _fine_bins_ns(reach):
        tried += 2 * int(np.ceil(reach / bin_ns)) + 1
        reach = 3.0 * bin_ns
    return tried


def _fine_bins_ns(drifted_ns: float) -> list[int]:
    """Bins from so wide that few drifts need trying, whatever the captures' length, to the finest."""
    bins_ns = list(_FINE_BINS_NS)
    while drifted_ns > _MOST_DRIFT_STEPS * bins_ns[0]:
        bins_ns.insert(0, 4 * bins_ns[0])
    return bins_ns
