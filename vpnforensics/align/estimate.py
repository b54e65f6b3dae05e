"""Offset and drift between two capture clocks, from size-compatible packet pairs.

Theory of operation
-------------------
Every egress packet of a tunnel has one record of the right size, so the differences (egress time minus
record time) of all size-compatible pairs pile up at the clock offset, while wrong pairs spread over the
length of the captures. Rare sizes pile up best. The search goes from coarse to fine:

1. a histogram of the differences in a stretch of the egress capture rich in rare sizes, these weighted up,
   gives the few offsets worth a closer look;
2. around each, the pile is sharpened over a grid of drifts, bins shrinking from 20 ms (more in captures so
   long that the grid would be large) to 0.25 ms;
3. a robust line through the pairs of the sharpest pile gives offset and drift
   (:mod:`vpnforensics.align.line`).

An offset is identified only if its pile stands clear of the next best one found by the same search.

Known weakness: strictly periodic traffic repeats its pile at every period; it is reported as not
identifiable. Captures that share only a few packets are, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import count_offsets, count_within, list_offsets, pairs_within
from vpnforensics.align.alignment import MOST_DRIFT_PPM, Alignment, ClockPart
from vpnforensics.align.classes import SizeClasses
from vpnforensics.align.line import LEAST_PAIRS, Pile, fit_line
from vpnforensics.align.resume import InFile, likely_sizes, resumed
from vpnforensics.align.strays import not_stray
from vpnforensics.align.stretches import (
    LEAST_SPAN_NS,
    LEAST_STRETCH,
    Line,
    Stretch,
    apart,
    breaks_between,
    joined,
    stretches_beside,
    stretches_of,
    surest,
    within_one,
)

MAX_DRIFT_PPM = 120.0

_COARSE_PAIRS = 4_000_000
_COARSE_BIN_NS = 50_000_000
_COARSE_SPAN_S = 600.0
_TOLD_BY = 1_000_000  # packets enough to choose that stretch
_FEW_BINS, _DENSE_BINS = 1 << 16, 1 << 22  # 58 h; of longer captures most bins would be empty
_PEAKS = 6
_SEPARATION_NS = 2_000_000_000  # piles nearer than this are one pile's burst structure
_APART = _SEPARATION_NS // _COARSE_BIN_NS
_FINE_POINTS = 20_000
_FINE_PAIRS = 400_000
_FINE_WORK = 10_000_000  # pairs times drifts tried on them, for each pile
_LEAST_FINE_POINTS = 1_000
_PAUSE_NS = 1_000_000_000
_BURSTINESS = 4.0  # pairs stand closer together than their mean rate suggests
_FINE_BINS_NS = (20_000_000, 5_000_000, 1_000_000, 250_000)
_MOST_DRIFT_STEPS = 64
_CLEAR_OF_NEXT = 1.6
_HOLDS_SHARE = 0.45
_SURELY = 3.0  # standard deviations
_MOST_STEPS, _MOSTLY = 4, 0.6  # more, or on no line for most of the time: two programs alike, not clocks set
_MOST_LINES, _LEAST_SHARE = 6, 0.02  # searches for further ones; packets that are worth one over all offsets


@dataclass(frozen=True, eq=False)
class EgressPackets:
    """Egress packets as the search sees them; one row for each length map they are looked up under."""

    ts_ns: npt.NDArray[np.int64]
    size_class: npt.NDArray[np.int32]
    up: npt.NDArray[np.bool_]
    row: npt.NDArray[np.int32]
    """Row of the egress packet table."""

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> EgressPackets:
        """The packets at ``index``."""
        return EgressPackets(self.ts_ns[index], self.size_class[index], self.up[index], self.row[index])


def estimate_alignment(
    egress: EgressPackets,
    classes: SizeClasses,
    rng: np.random.Generator,
    *,
    row_of_record: npt.NDArray[np.int32] | None = None,
    begins_at: Sequence[int] = (),
) -> Alignment:
    """Offset and drift of the egress clock against the ingress clock.

    Parameters
    ----------
    egress : EgressPackets
        All egress packets, each with its size class among ``classes`` or -1.
    classes : SizeClasses
    rng : numpy.random.Generator
        Thins packets where there are more than the search needs, and resamples for the intervals.
    row_of_record : ndarray of int32, optional
        Row of the ingress packet table, of each record; without it, records are in order of the file.
    begins_at : sequence of int, ascending
        Egress rows at which parts of their own begin, because a clock was set there: their times have been
        put straight, but each is given its own interval.

    Returns
    -------
    Alignment
        ``not_identifiable`` with the reason where no offset stands out. With ``breaks`` where it is that of a
        part of the packets only, others being on another line.
    """
    in_time = not_stray(egress.ts_ns)
    if not in_time.all():
        egress = egress.take(in_time)
    records_in_time = not_stray(classes.ts_ns)
    if not records_in_time.all():
        classes = classes.keep(records_in_time)
    of_known_size = egress.size_class >= 0
    known = egress if of_known_size.all() else egress.take(of_known_size)
    found = _search(known, classes, int(egress.ts_ns.min()) if len(egress.ts_ns) else 0, rng)
    if not found.piles:
        return found.line
    if row_of_record is None:
        row_of_record = np.arange(int(classes.record.max()) + 1, dtype=np.int32)
    line = _followed(found, known, classes, row_of_record, rng)
    if begins_at and line.usable:
        return replace(line, parts=_parts(found, line, egress, begins_at, rng))
    return line


@dataclass(frozen=True, eq=False)
class _Found:
    """What a search came to."""

    line: Alignment
    sample: EgressPackets
    """Those that it looked at most closely."""
    piles: tuple[tuple[int, Pile], ...] = ()
    """Coarse offset and pairs of the offsets tried, best first."""
    reference_ns: int = 0


def _search(
    known: EgressPackets, classes: SizeClasses, reference_ns: int, rng: np.random.Generator
) -> _Found:
    """The one line that most packets lie on."""
    if len(known.ts_ns) < LEAST_PAIRS:
        reason = f"only {len(known.ts_ns)} egress packets have a length that occurs at ingress"
        return _Found(Alignment("not_identifiable", reason=reason), known)
    offsets = _coarse_offsets(known, classes, rng)
    if not offsets:
        return _Found(Alignment("not_identifiable", reason="no size-compatible packet pairs"), known)
    sample = _rarest(known, classes, _FINE_POINTS, rng)
    piles = [(offset, _sharpen(sample, classes, offset, reference_ns)) for offset in offsets]
    piles.sort(key=lambda pile: -pile[1].support)
    piles = _distinct(piles, float(sample.ts_ns.max() - reference_ns))
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
        line = Alignment(
            "not_identifiable",
            pairs=int(gathered),
            reason=f"the best offset gathers {gathered:.0f} packet pairs, the next best {runner_up:.0f}",
        )
    else:
        line = fit_line(best, offset, reference_ns, rng)
        if abs(line.drift_ppm) > MOST_DRIFT_PPM:
            line = Alignment(
                "not_identifiable",
                pairs=line.pairs,
                reason=f"the pairs of the best offset drift by {line.drift_ppm:.0f} ppm, as no two clocks do",
            )
    return _Found(line, sample, tuple(piles), reference_ns)


def _followed(
    found: _Found,
    known: EgressPackets,
    classes: SizeClasses,
    row_of_record: npt.NDArray[np.int32],
    rng: np.random.Generator,
) -> Alignment:
    """The line found, with breaks where packets before or after those on it are on lines of their own."""
    order = np.argsort(found.sample.row, kind="stable")
    sample, rng = found.sample.take(order), rng.spawn(1)[0]
    lines = [Line.of(found.line, found.piles[0][1].width_ns)] if found.line.usable else []
    # Without a line, perhaps each of several is that of a part: look at the part of each alone.
    rivals = [Line.near(offset, pile, found.reference_ns) for offset, pile in found.piles]
    proved = None if lines else surest(sample, classes, rivals)
    if proved is not None:
        lines = _of_stretch(found, proved, rng)
    stretches = stretches_of(sample, classes, lines or rivals)
    files = InFile.of(sample.row, sample.ts_ns), InFile.of(row_of_record[classes.record], classes.ts_ns)
    tried: list[tuple[int, int]] = []
    least = _LEAST_SHARE * len(sample.ts_ns)
    while len(tried) < _MOST_LINES:
        open_ones = [s for s in stretches if (s.line < 0 or not lines) and s.rows not in tried]
        largest = max(open_ones, key=lambda s: s.packets, default=None)
        if largest is None or not LEAST_STRETCH <= largest.packets < len(sample.ts_ns):
            break
        tried.append(largest.rows)
        further: list[Line] = []
        around = stretches_beside(stretches, largest)
        if lines:
            part = sample.take((sample.row >= largest.rows[0]) & (sample.row <= largest.rows[1]))
            for beside in around:
                sizes = likely_sizes(beside, largest, *files, row_of_record)
                resumes = (resumed(lines[beside.line], size, part, classes) for size in sizes)
                further += [line for line in resumes if line is not None and apart(line, lines, part)]
        better = _best_of(further, lines, sample, classes, largest.packets / 2)
        # Between two of one line it takes two steps to be on another: those would show.
        if better is None and not within_one(around) and largest.packets >= least:
            part = known.take((known.row >= largest.rows[0]) & (known.row <= largest.rows[1]))
            alone = _search(part, classes, found.reference_ns, rng)
            further = [Line.of(alone.line, alone.piles[0][1].width_ns)] if alone.line.usable else []
            further = [line for line in further if apart(line, lines, part)]
            better = _best_of(further, lines, sample, classes, least)
        if better:
            lines.append(better)
            stretches = stretches_of(sample, classes, lines)
    if not lines:
        return found.line
    on_lines = joined(stretches, lines)
    if not on_lines:
        return found.line
    explained = sum(s.packets for s in on_lines)
    if len(on_lines) > 1 + _MOST_STEPS or (proved is not None and explained < _MOSTLY * len(sample.ts_ns)):
        if not found.line.usable:
            return found.line
        stretches = stretches_of(sample, classes, lines[:1])  # warped, not set: what is on none is astray
        on_lines = joined(stretches, lines[:1]) or on_lines[:1]
    longest = max(on_lines, key=lambda s: s.packets)
    breaks = breaks_between(on_lines, lines)
    astray = tuple(
        s.rows
        for s in stretches
        if s.line < 0 and s.packets >= LEAST_STRETCH and not within_one(stretches_beside(stretches, s))
    )
    line = lines[longest.line].alignment if breaks or not found.line.usable else found.line
    return replace(line, breaks=breaks, astray=astray)


def _of_stretch(found: _Found, stretch: Stretch, rng: np.random.Generator) -> list[Line]:
    """The line of a stretch's own packets, from the pile that it is on."""
    offset, pile = found.piles[stretch.line]
    row = found.sample.row[pile.packet]
    mine = np.flatnonzero((row >= stretch.rows[0]) & (row <= stretch.rows[1]))
    line = fit_line(pile.take(mine, 0), offset, found.reference_ns, rng)
    return [Line.of(line, pile.width_ns)] if line.usable and line.pairs >= LEAST_PAIRS else []


def _best_of(
    candidates: Sequence[Line],
    lines: Sequence[Line],
    sample: EgressPackets,
    classes: SizeClasses,
    least: float,
) -> Line | None:
    """The candidate that most packets are on that are on no line yet; ``None`` where they are too few."""
    best: tuple[float, Line | None] = (least, None)
    for line in candidates:
        stretches = stretches_of(sample, classes, [*lines, line])
        gained = sum(s.packets for s in stretches if s.line == len(lines) and s.span_ns >= LEAST_SPAN_NS)
        if gained >= best[0]:
            best = (gained, line)
    return best[1]


def _parts(
    found: _Found,
    of_all: Alignment,
    egress: EgressPackets,
    begins_at: Sequence[int],
    rng: np.random.Generator,
) -> tuple[ClockPart, ...]:
    """Each part with the line of its own packets; with that of all where they are too few."""
    offset, pile = min(found.piles, key=lambda pile: abs(pile[0] - of_all.offset_ns))
    row = found.sample.row[pile.packet]
    parts = []
    for first, after in pairwise([0, *begins_at, int(egress.row.max()) + 1]):
        times = egress.ts_ns[(egress.row >= first) & (egress.row < after)]
        first_ns, last_ns = (int(times.min()), int(times.max())) if len(times) else (found.reference_ns,) * 2
        mine = np.flatnonzero((row >= first) & (row < after))
        line = of_all
        if len(mine) >= LEAST_PAIRS and abs(offset - of_all.offset_ns) < _SEPARATION_NS:
            own = fit_line(pile.take(mine, first_ns - found.reference_ns), offset, first_ns, rng)
            line = own if own.usable and own.pairs >= LEAST_PAIRS else line
        at_begin = Line.of(line, pile.width_ns).offset_ns(first_ns)
        low, high = (at_begin + edge - line.offset_ns for edge in line.offset_interval_ns)
        parts.append(ClockPart(first_ns, last_ns, at_begin, (low, high), len(times)))
    return tuple(parts)


def _coarse_offsets(egress: EgressPackets, classes: SizeClasses, rng: np.random.Generator) -> list[int]:
    """Offsets with the most size-compatible pairs, best first."""
    span_ns = _COARSE_SPAN_S * 1e9
    if np.ptp(egress.ts_ns) > span_ns:
        egress = _most_telling(egress, int(span_ns))
    counts = classes.counts
    span_in_ns = max(int(np.ptp(classes.ts_ns)), _COARSE_BIN_NS)
    per_bin = counts / (span_in_ns / _COARSE_BIN_NS)
    low_ns = int(egress.ts_ns.min() - classes.ts_ns.max())
    bins = int((egress.ts_ns.max() - classes.ts_ns.min() - low_ns) // _COARSE_BIN_NS) + 1
    # A packet of a rare class tells as much as many of a common one; the cost of a class is its pairs.
    present = np.bincount(egress.size_class, minlength=len(counts))
    budget = _COARSE_PAIRS / max(1, int(np.count_nonzero(present)))
    if bins <= _DENSE_BINS:
        budget = max(budget, 20_000)
    kept = (budget / np.maximum(counts * present, 1)).astype(np.float32)
    egress = egress.take(rng.random(len(egress.ts_ns), np.float32) <= kept[egress.size_class])
    if not len(egress.ts_ns):
        return []
    weight = 1.0 / (0.05 + per_bin[egress.size_class])
    pairs = (egress.ts_ns, egress.size_class, classes.start, classes.ts_ns, weight, low_ns, _COARSE_BIN_NS)
    dense = bins <= min(_DENSE_BINS, max(_FEW_BINS, int(counts[egress.size_class].sum())))
    at, excess = _excess(count_offsets(*pairs, bins)) if dense else _sparse_excess(*list_offsets(*pairs))
    return [low_ns + int(top) * _COARSE_BIN_NS + _COARSE_BIN_NS // 2 for top in _peaks(at, excess)]


def _excess(histogram: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Every bin, and what it and its neighbours hold beyond the bins around."""
    padded = np.pad(histogram, 1)
    pile = padded[:-2] + padded[1:-1] + padded[2:]  # an offset near a bin's edge, or drifting over it
    return np.arange(len(pile)), pile - _running_mean(pile, 2 * _APART + 1)


def _sparse_excess(
    slot: npt.NDArray[np.int64], weight: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """:func:`_excess` of the bins that hold anything, from the bin and weight of each pair."""
    order = np.argsort(slot)
    slot = slot[order]
    total = np.r_[0.0, np.cumsum(weight[order])]

    def within(bins: int) -> npt.NDArray[np.float64]:
        return np.asarray(
            total[np.searchsorted(slot, at + bins, "right")] - total[np.searchsorted(slot, at - bins)]
        )

    at = slot[np.r_[True, slot[1:] != slot[:-1]]]
    around = (
        within(_APART - 1) + within(_APART) + within(_APART + 1)
    )  # each bin in three piles but at the ends
    return at, within(1) - around / (2 * _APART + 1)


def _peaks(at: npt.NDArray[np.int64], excess: npt.NDArray[np.float64]) -> list[int]:
    """The bins of the largest excess, none near a larger."""
    found: list[int] = []
    for _ in range(_PEAKS):
        top = int(np.argmax(excess))
        if not np.isfinite(excess[top]) or excess[top] <= 0:
            break
        found.append(int(at[top]))
        near = np.searchsorted(at, [at[top] - _APART, at[top] + _APART + 1])
        excess[near[0] : near[1]] = -np.inf
    return found


def _running_mean(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    width = min(width | 1, len(values) - 1 + len(values) % 2)
    if width < 3:
        return np.zeros_like(values)
    total = np.cumsum(np.pad(values, (width // 2 + 1, width // 2)))
    return np.asarray((total[width:] - total[:-width]) / width)


def _most_telling(egress: EgressPackets, span_ns: int) -> EgressPackets:
    """The packets of the stretch that holds most of the rare sizes: drift cannot smear the pile much in it.

    Not of the busiest: that may be one transfer of equal sizes. All packets of a size together weigh as much
    as those of any other.
    """
    some = slice(None, None, -(-len(egress.ts_ns) // _TOLD_BY))
    order = np.argsort(egress.ts_ns[some], kind="stable")
    ts_ns, size_class = egress.ts_ns[some][order], egress.size_class[some][order]
    told = np.r_[0.0, np.cumsum(1.0 / np.maximum(np.bincount(size_class), 1)[size_class])]
    from_ns = np.unique(ts_ns // (span_ns // 4)) * (span_ns // 4)
    gained = told[np.searchsorted(ts_ns, from_ns + span_ns)] - told[np.searchsorted(ts_ns, from_ns)]
    first_ns = from_ns[np.argmax(gained)]
    return egress.take((egress.ts_ns >= first_ns) & (egress.ts_ns < first_ns + span_ns))


def _rarest(
    egress: EgressPackets, classes: SizeClasses, wanted: int, rng: np.random.Generator
) -> EgressPackets:
    """At most ``wanted`` packets, those with the rarest sizes, spread over time.

    Fewer where their pairs would be too many: those of the commonest sizes would use up the room for all.
    """
    half_span_ns = (egress.ts_ns.max() - egress.ts_ns.min()) / 2
    in_reach = min(1.0, 2.0 * _reach_ns(half_span_ns) / max(_covered_ns(classes.ts_ns), 1))
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
    most = min(_FINE_PAIRS / _BURSTINESS, _FINE_WORK / _drifts_tried(half_span_ns))
    affordable = max(_LEAST_FINE_POINTS, int(np.searchsorted(pairs, most)))
    return egress.take(row[np.sort(order[:affordable])])


def _covered_ns(ts_ns: npt.NDArray[np.int64]) -> int:
    """How long the packets go on, without the long pauses between them."""
    some = -(-len(ts_ns) // _TOLD_BY)
    gap_ns = np.diff(np.sort(ts_ns[::some]))
    return int(np.minimum(gap_ns, some * _PAUSE_NS).sum())


def _reach_ns(half_span_ns: float) -> int:
    """How far from a coarse offset its pairs may lie, for its bins' width and drift."""
    return int(2 * _COARSE_BIN_NS + 2 * MAX_DRIFT_PPM * 1e-6 * half_span_ns)


def _sharpen(egress: EgressPackets, classes: SizeClasses, offset_ns: int, reference_ns: int) -> Pile:
    """Search drift and offset around a coarse offset, bins shrinking while the pile holds together."""
    half_span_ns = (egress.ts_ns.max() - egress.ts_ns.min()) / 2
    reach_ns = _reach_ns(half_span_ns)
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


def _distinct(piles: list[tuple[int, Pile]], until_ns: float) -> list[tuple[int, Pile]]:
    """The piles but for those that are a better one found again: drift widens the search around an offset."""
    found: list[tuple[int, Pile]] = []
    lines: list[npt.NDArray[np.float64]] = []
    for offset, pile in piles:
        line = offset + pile.center_ns + pile.drift * np.array([0.0, until_ns])
        if all(np.abs(line - other).max() > _SEPARATION_NS / 2 for other in lines):
            found.append((offset, pile))
            lines.append(line)
    return found


def _drifts_tried(half_span_ns: float) -> int:
    """How many drifts :func:`_sharpen` tries, one for each step of finer bins."""
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
