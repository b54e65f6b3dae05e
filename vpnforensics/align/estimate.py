"""Offset and drift between two capture clocks, from size-compatible packet pairs.

Theory of operation
-------------------
Every egress packet of a tunnel has one record of the right size, so the differences (egress time minus
record time) of all size-compatible pairs pile up at the clock offset, while wrong pairs spread over the
length of the captures. Rare sizes pile up best. The search goes from coarse to fine:

1. a histogram of the differences in a stretch of the egress capture rich in rare sizes, these weighted up,
   gives the few offsets worth a closer look (:mod:`vpnforensics.align.coarse`);
2. around each, the pile is sharpened over a grid of drifts, bins shrinking from 20 ms (more in captures so
   long that the grid would be large) to 0.25 ms (:mod:`vpnforensics.align.sharpen`);
3. a robust line through the pairs of the sharpest pile gives offset and drift
   (:mod:`vpnforensics.align.line`).

An offset is identified only if its pile stands clear of the next best one found by the same search.

Known weakness: strictly periodic traffic repeats its pile at every period; it is reported as not
identifiable. Captures that share only a few packets are, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import MOST_DRIFT_PPM, Alignment, ClockPart
from vpnforensics.align.classes import SizeClasses
from vpnforensics.align.coarse import SEPARATION_NS, coarse_offsets
from vpnforensics.align.egress_packets import EgressPackets
from vpnforensics.align.line import LEAST_PAIRS, Pile, fit_line
from vpnforensics.align.resume import InFile, likely_sizes, resumed
from vpnforensics.align.sharpen import AROUND_NS, FINE_POINTS, rarest, sharpen
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
from vpnforensics.scratch import beside

_CLEAR_OF_NEXT = 1.6
_SURELY = 3.0  # standard deviations
_MOST_STEPS, _MOSTLY = 4, 0.6  # more, or on no line for most of the time: two programs alike, not clocks set
_MOST_LINES, _LEAST_SHARE = 6, 0.02  # searches for further ones; packets that are worth one over all offsets


def estimate_alignment(
    egress: EgressPackets,
    classes: SizeClasses,
    rng: np.random.Generator,
    *,
    row_of_record: npt.NDArray[np.int32] | None = None,
    begins_at: Sequence[int] = (),
    near: tuple[int, int] | None = None,
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
    near : tuple of int, optional
        A rough offset that is known, and how far from it the right one may be.

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
    size_class = egress.size_class
    of_known_size = beside(size_class).filled(len(egress), np.bool_, lambda rows: size_class[rows] >= 0)
    known = egress if of_known_size.all() else egress.take(of_known_size)
    found = _search(known, classes, int(egress.ts_ns.min()) if len(egress.ts_ns) else 0, rng, near)
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
    known: EgressPackets,
    classes: SizeClasses,
    reference_ns: int,
    rng: np.random.Generator,
    near: tuple[int, int] | None = None,
) -> _Found:
    """The one line that most packets lie on."""
    if len(known.ts_ns) < LEAST_PAIRS:
        reason = f"only {len(known.ts_ns)} egress packets have a length that occurs at ingress"
        return _Found(Alignment("not_identifiable", reason=reason), known)
    offsets, around_ns = ([near[0]], near[1]) if near else (coarse_offsets(known, classes, rng), AROUND_NS)
    if not offsets:
        return _Found(Alignment("not_identifiable", reason="no size-compatible packet pairs"), known)
    sample = rarest(known, classes, FINE_POINTS, rng)
    piles = [(offset, sharpen(sample, classes, offset, reference_ns, around_ns)) for offset in offsets]
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

    @cache
    def files() -> tuple[InFile, InFile]:  # for few captures
        return InFile.of(sample.row, sample.ts_ns), InFile.of(row_of_record[classes.record], classes.ts_ns)

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
            for neighbour in around:
                sizes = likely_sizes(neighbour, largest, *files(), row_of_record)
                resumes = (resumed(lines[neighbour.line], size, part, classes) for size in sizes)
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
        if len(mine) >= LEAST_PAIRS and abs(offset - of_all.offset_ns) < SEPARATION_NS:
            own = fit_line(pile.take(mine, first_ns - found.reference_ns), offset, first_ns, rng)
            line = own if own.usable and own.pairs >= LEAST_PAIRS else line
        at_begin = Line.of(line, pile.width_ns).offset_ns(first_ns)
        low, high = (at_begin + edge - line.offset_ns for edge in line.offset_interval_ns)
        parts.append(ClockPart(first_ns, last_ns, at_begin, (low, high), len(times)))
    return tuple(parts)


def _distinct(piles: list[tuple[int, Pile]], until_ns: float) -> list[tuple[int, Pile]]:
    """The piles but for those that are a better one found again: drift widens the search around an offset."""
    found: list[tuple[int, Pile]] = []
    lines: list[npt.NDArray[np.float64]] = []
    for offset, pile in piles:
        line = offset + pile.center_ns + pile.drift * np.array([0.0, until_ns])
        if all(np.abs(line - other).max() > SEPARATION_NS / 2 for other in lines):
            found.append((offset, pile))
            lines.append(line)
    return found
