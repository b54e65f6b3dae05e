"""Offset and drift between two capture clocks, from size-compatible packet pairs.

Theory of operation
-------------------
Every egress packet of a tunnel has one record of the right size, so the differences (egress time minus
record time) of all size-compatible pairs pile up at the clock offset, while wrong pairs spread over the
length of the captures. Rare sizes pile up best. The search goes from coarse to fine:

1. a histogram of all differences, rare sizes weighted up, gives the few offsets worth a closer look;
2. around each, the pile is sharpened over a grid of drifts, bins shrinking from 20 ms to 0.25 ms;
3. a robust line through the pairs of the sharpest pile gives offset and drift
   (:mod:`vpnforensics.align.line`).

An offset is identified only if its pile stands clear of the next best one found by the same search.

Known weakness: strictly periodic traffic repeats its pile at every period; it is reported as not
identifiable. Captures that share only a few packets are, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import count_offsets, pairs_within
from vpnforensics.align.alignment import Alignment
from vpnforensics.align.classes import SizeClasses
from vpnforensics.align.line import LEAST_PAIRS, Pile, fit_line

MAX_DRIFT_PPM = 120.0

_COARSE_PAIRS = 4_000_000
_COARSE_BIN_NS = 50_000_000
_COARSE_SPAN_S = 600.0
_PEAKS = 6
_SEPARATION_NS = 2_000_000_000  # piles nearer than this are one pile's burst structure
_FINE_POINTS = 20_000
_FINE_PAIRS = 400_000
_LEAST_FINE_POINTS = 1_000
_BURSTINESS = 4.0  # pairs stand closer together than their mean rate suggests
_FINE_BINS_NS = (20_000_000, 5_000_000, 1_000_000, 250_000)
_CLEAR_OF_NEXT = 1.6
_HOLDS_SHARE = 0.45
_SURELY = 3.0  # standard deviations


@dataclass(frozen=True, eq=False)
class EgressPackets:
    """Egress packets as the search sees them; one row for each length map they are looked up under."""

    ts_ns: npt.NDArray[np.int64]
    size_class: npt.NDArray[np.int32]
    up: npt.NDArray[np.bool_]

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> EgressPackets:
        """The packets at ``index``."""
        return EgressPackets(self.ts_ns[index], self.size_class[index], self.up[index])


def estimate_alignment(egress: EgressPackets, classes: SizeClasses, rng: np.random.Generator) -> Alignment:
    """Offset and drift of the egress clock against the ingress clock.

    Parameters
    ----------
    egress : EgressPackets
        All egress packets, each with its size class among ``classes`` or -1.
    classes : SizeClasses
    rng : numpy.random.Generator
        Thins packets where there are more than the search needs, and resamples for the intervals.

    Returns
    -------
    Alignment
        ``not_identifiable`` with the reason where no offset stands out.
    """
    reference_ns = int(egress.ts_ns.min()) if len(egress.ts_ns) else 0
    of_known_size = egress.size_class >= 0
    known = egress if of_known_size.all() else egress.take(of_known_size)
    if len(known.ts_ns) < LEAST_PAIRS:
        return Alignment(
            "not_identifiable",
            reason=f"only {len(known.ts_ns)} egress packets have a length that occurs at ingress",
        )
    offsets = _coarse_offsets(known, classes, rng)
    if not offsets:
        return Alignment("not_identifiable", reason="no size-compatible packet pairs")
    sample = _rarest(known, classes, _FINE_POINTS, rng)
    piles = [(offset, _sharpen(sample, classes, offset, reference_ns)) for offset in offsets]
    piles.sort(key=lambda pile: -pile[1].support)
    gathered, runner_up = piles[0][1].support, piles[1][1].support if len(piles) > 1 else 0.0
    clear = gathered >= max(_CLEAR_OF_NEXT * runner_up, runner_up + _SURELY * np.sqrt(gathered + runner_up))
    if not clear:
        # Wider bins gather more by chance: compare those that broke up early in the finest that held.
        finest = max(pile.held for _, pile in piles)
        piles.sort(key=lambda pile: -pile[1].support_in(finest))
        fine, *rest = (pile.support_in(finest) for _, pile in piles[:2])
        next_fine = rest[0] if rest else 0.0
        clear = fine >= _CLEAR_OF_NEXT * next_fine + _SURELY * np.sqrt(fine + next_fine)
    offset, best = piles[0]
    if best.support < LEAST_PAIRS or not clear:
        return Alignment(
            "not_identifiable",
            pairs=int(gathered),
            reason=f"the best offset gathers {gathered:.0f} packet pairs, the next best {runner_up:.0f}",
        )
    line = fit_line(best, offset, reference_ns, rng)
    if abs(line.drift_ppm) > 2 * MAX_DRIFT_PPM:
        return Alignment(
            "not_identifiable",
            pairs=line.pairs,
            reason=f"the pairs of the best offset drift by {line.drift_ppm:.0f} ppm, as no two clocks do",
        )
    return line


def _coarse_offsets(egress: EgressPackets, classes: SizeClasses, rng: np.random.Generator) -> list[int]:
    """Offsets with the most size-compatible pairs, best first."""
    span_ns = _COARSE_SPAN_S * 1e9
    if np.ptp(egress.ts_ns) > span_ns:
        egress = _busiest(egress, int(span_ns))
    counts = classes.counts
    span_in_ns = max(int(np.ptp(classes.ts_ns)), _COARSE_BIN_NS)
    per_bin = counts / (span_in_ns / _COARSE_BIN_NS)
    # A packet of a rare class tells as much as many of a common one; the cost of a class is its pairs.
    present = np.bincount(egress.size_class, minlength=len(counts))
    budget = max(_COARSE_PAIRS / max(1, int(np.count_nonzero(present))), 20_000)
    kept = (budget / np.maximum(counts * present, 1)).astype(np.float32)
    egress = egress.take(rng.random(len(egress.ts_ns), np.float32) <= kept[egress.size_class])
    if not len(egress.ts_ns):
        return []
    weight = 1.0 / (0.05 + per_bin[egress.size_class])
    low_ns = int(egress.ts_ns.min() - classes.ts_ns.max())
    bins = int((egress.ts_ns.max() - classes.ts_ns.min() - low_ns) // _COARSE_BIN_NS) + 1
    histogram = count_offsets(
        egress.ts_ns, egress.size_class, classes.start, classes.ts_ns, weight, low_ns, _COARSE_BIN_NS, bins
    )
    padded = np.pad(histogram, 1)
    pile = padded[:-2] + padded[1:-1] + padded[2:]  # an offset near a bin's edge, or drifting over it
    baseline = _running_mean(pile, 2 * (_SEPARATION_NS // _COARSE_BIN_NS) + 1)
    excess = pile - baseline
    found: list[int] = []
    apart = int(_SEPARATION_NS // _COARSE_BIN_NS)
    for _ in range(_PEAKS):
        top = int(np.argmax(excess))
        if not np.isfinite(excess[top]) or excess[top] <= 0:
            break
        found.append(low_ns + top * _COARSE_BIN_NS + _COARSE_BIN_NS // 2)
        excess[max(0, top - apart) : top + apart + 1] = -np.inf
    return found


def _running_mean(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    width = min(width | 1, len(values) - 1 + len(values) % 2)
    if width < 3:
        return np.zeros_like(values)
    total = np.cumsum(np.pad(values, (width // 2 + 1, width // 2)))
    return np.asarray((total[width:] - total[:-width]) / width)


def _busiest(egress: EgressPackets, span_ns: int) -> EgressPackets:
    """The packets of the busiest stretch of the given length: drift cannot smear the pile much in it."""
    since = egress.ts_ns - egress.ts_ns.min()
    slots = np.bincount(since // (span_ns // 4))
    start = int(np.argmax(np.convolve(slots, np.ones(4), "valid"))) if len(slots) >= 4 else 0
    first = start * (span_ns // 4)
    return egress.take((since >= first) & (since < first + span_ns))


def _rarest(
    egress: EgressPackets, classes: SizeClasses, wanted: int, rng: np.random.Generator
) -> EgressPackets:
    """At most ``wanted`` packets, those with the rarest sizes, spread over time.

    Fewer where their pairs would be too many: those of the commonest sizes would use up the room for all.
    """
    half_span_ns = (egress.ts_ns.max() - egress.ts_ns.min()) / 2
    in_reach = 2.0 * _reach_ns(half_span_ns) / max(int(np.ptp(classes.ts_ns)), 1)
    counts = classes.counts.astype(np.float32)
    # A packet's rank is at most twice its class's size: much commoner classes cannot be among the wanted.
    present = np.bincount(egress.size_class, minlength=len(counts))
    by_size = np.argsort(counts, kind="stable")
    enough = min(int(np.searchsorted(np.cumsum(present[by_size]), wanted)), len(by_size) - 1)
    row = np.flatnonzero((counts <= 2 * counts[by_size[enough]])[egress.size_class])
    counts = counts[egress.size_class[row]]
    rank = (1 + rng.random(len(row), np.float32)) * counts
    order = np.argpartition(rank, wanted)[:wanted] if len(rank) > wanted else np.arange(len(rank))
    order = order[np.lexsort((order, rank[order]))]
    pairs = np.cumsum(np.maximum(counts[order] * in_reach, 1.0))
    affordable = max(_LEAST_FINE_POINTS, int(np.searchsorted(pairs, _FINE_PAIRS / _BURSTINESS)))
    return egress.take(row[np.sort(order[:affordable])])


def _reach_ns(half_span_ns: float) -> int:
    """How far from a coarse offset its pairs may lie, for its bins' width and drift."""
    return int(2 * _COARSE_BIN_NS + 2 * MAX_DRIFT_PPM * 1e-6 * half_span_ns)


def _sharpen(egress: EgressPackets, classes: SizeClasses, offset_ns: int, reference_ns: int) -> Pile:
    """Search drift and offset around a coarse offset, bins shrinking while the pile holds together."""
    half_span_ns = (egress.ts_ns.max() - egress.ts_ns.min()) / 2
    reach_ns = _reach_ns(half_span_ns)
    left, right = pairs_within(
        egress.ts_ns,
        egress.size_class,
        classes.start,
        classes.ts_ns,
        offset_ns - reach_ns,
        offset_ns + reach_ns,
        _FINE_PAIRS,
    )
    t = (egress.ts_ns[left] - reference_ns).astype(np.float64)
    residual = (egress.ts_ns[left] - classes.ts_ns[right] - offset_ns).astype(np.float64)
    # A packet with many candidates in reach says little about each.
    weight = 1.0 / np.bincount(left, minlength=len(egress.ts_ns))[left] if len(left) else np.zeros(0)
    middle = half_span_ns + float(egress.ts_ns.min() - reference_ns)
    center, drift, width = 0.0, 0.0, _FINE_BINS_NS[0]
    supports: list[float] = []
    held = 0
    reach, drift_reach = float(reach_ns), MAX_DRIFT_PPM * 1e-6
    for bin_ns in _FINE_BINS_NS:
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
        # Finer bins must keep most of the pile: a jittery path has no sharper truth to find.
        supports.append(best[0])
        if held and best[0] < _HOLDS_SHARE * supports[-2]:
            break
        held, width = held + 1, bin_ns
        _, drift, center = best
        reach, drift_reach = 8.0 * bin_ns, 3 * step
    line = (center - drift * middle, drift)
    return Pile(*line, width, tuple(supports), held, t, residual, egress.up[left], left, right)
