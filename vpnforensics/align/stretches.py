"""Which stretch of the egress packets lies on which line of the two clocks.

A clock that is set while its capture runs leaves the packets before and after it on lines of their own, and
the search for one line finds that of the larger part. So each packet is asked for its record where a line
puts it: what is there, in units of what chance puts there, is evidence for the line. The stretches are those
of the path of most evidence in which every change of line costs as much as a few dozen packets that find
their record by luck. Packets on no line (a tunnel that is not in the capture, a file that is missing) are a
stretch of no line, in which another may be searched for.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import best_path, count_within, pairs_within
from vpnforensics.align.alignment import Alignment, Break
from vpnforensics.align.classes import SizeClasses
from vpnforensics.align.egress_packets import EgressPackets
from vpnforensics.align.line import Pile

_FOUND_SHARE = 0.3
"""Of the packets on the right line: many belong to no tunnel, or stand a little further off in a queue."""
_MOST_FOUND = 0.93
"""A queue may hold up dozens of packets, all beyond a line's width, and is no change of line."""
_SURELY_FOUND, _SURE_NATS = 0.7, 200.0
"""Share and evidence of a stretch that proves a line by itself: packets of a burst are not independent."""
_CHANGE_COSTS = 25.0  # nats
AROUND_NS = 2_000_000_000
"""Records so near say how often chance puts one of a size there: packets come in bursts."""
LEAST_STRETCH = 40
"""Packets; shorter ones are left as they are."""
LEAST_SPAN_NS = 1_000_000_000
"""Time; a queue of equal packets that fits elsewhere is a single coincidence, however many they are."""
LEAST_STEP_NS = 200_000_000
"""Lines nearer than this are none of a clock that was set: by so little, clocks are slewed, and recordings of
one program look like one another, warped by some tens of milliseconds here and there."""
_UNSURE = 3
"""Packets at either end of a stretch may be on their line by chance."""
_PAIRS_A_PACKET = 50


@dataclass(frozen=True, eq=False)
class Line:
    """A line, and how near to it a pair is on it."""

    alignment: Alignment
    width_ns: int

    @staticmethod
    def of(alignment: Alignment, width_ns: int) -> Line:
        """The line of a pile that held together in bins of ``width_ns``."""
        return Line(alignment, 2 * width_ns)

    @staticmethod
    def near(offset_ns: int, pile: Pile, reference_ns: int) -> Line:
        """A pile's line as it was found, not yet fitted."""
        found = Alignment(
            "aligned",
            offset_ns + round(pile.center_ns),
            drift_ppm=pile.drift * 1e6,
            reference_ns=reference_ns,
        )
        return Line.of(found, pile.width_ns)

    def offset_ns(self, egress_ns: int) -> int:
        """Egress minus ingress at a time of the egress clock."""
        return egress_ns - int(self.alignment.to_ingress(np.array([egress_ns], np.int64))[0])


@dataclass(frozen=True, eq=False)
class Stretch:
    """Egress packets in a row that lie on one line, or on none (-1)."""

    line: int
    rows: tuple[int, int]
    """First and last row of the egress packet table."""
    ends_ns: tuple[int, int]
    """Egress times of those rows."""
    packets: int
    """Of those looked at."""
    hit_rows: npt.NDArray[np.int64]
    """Egress rows of the packets with a record on the line, ascending."""
    hit_records: npt.NDArray[np.int64]
    """And rows of their records in the RecordTable."""

    @property
    def span_ns(self) -> int:
        """Time from its first to its last packet, on whatever clock they bear."""
        return abs(self.ends_ns[1] - self.ends_ns[0])


def stretches_of(sample: EgressPackets, classes: SizeClasses, lines: list[Line]) -> list[Stretch]:
    """Stretches in order of the file.

    Parameters
    ----------
    sample : EgressPackets
        In order of the file, which is that of true time whatever was done to the clock.
    classes : SizeClasses
    lines : list of Line
    """
    asked = [_asked(sample, classes, line) for line in lines]
    stretches = _path(sample, asked, _FOUND_SHARE)
    # Who is on a line finds as many records as others on theirs: a line that finds half of that is none.
    share = max((_found_share(asked, s, sample) for s in stretches if s.packets >= LEAST_STRETCH), default=0)
    return _path(sample, asked, float(np.clip(share, _FOUND_SHARE, _MOST_FOUND))) if asked else stretches


def surest(sample: EgressPackets, classes: SizeClasses, rivals: list[Line]) -> Stretch | None:
    """The longest stretch whose packets nearly all find their record on one line, and on no rival; or none.

    Where each of several lines holds for a part, none of them gathers clearly more packets than what chance
    does elsewhere. In its own part it does: there the others have no more than chance.
    """
    asked = [_asked(sample, classes, line) for line in rivals]
    found: list[Stretch] = []
    for stretch in _path(sample, asked, _MOST_FOUND):
        if stretch.line < 0 or _found_share(asked, stretch, sample) < _SURELY_FOUND:
            continue
        first, last = np.searchsorted(sample.row, stretch.rows)
        nats = [float(_nats(one, _MOST_FOUND)[first : last + 1].sum()) for one in asked]
        mine = nats.pop(stretch.line)
        if mine - max([0.0, *nats]) >= _SURE_NATS:
            found.append(stretch)
    return max(found, key=lambda stretch: stretch.packets, default=None)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What each packet finds where a line puts its record."""

    record: npt.NDArray[np.int64]
    """Row of its record in the RecordTable, or -1."""
    chance: npt.NDArray[np.float64]
    """That one of its size is there anyhow."""


def _asked(sample: EgressPackets, classes: SizeClasses, line: Line) -> _Asked:
    n = len(sample.ts_ns)
    expected_ns = line.alignment.to_ingress(sample.ts_ns)
    sizes = sample.size_class, classes.start, classes.ts_ns
    packet, at = pairs_within(expected_ns, *sizes, -line.width_ns, line.width_ns, _PAIRS_A_PACKET * n)
    record = np.full(n, -1, np.int64)
    record[packet] = classes.record[at]
    around = count_within(expected_ns, *sizes, AROUND_NS) - (record >= 0)
    return _Asked(record, chance_of_one(around, line.width_ns))


def chance_of_one(around: npt.NDArray[np.int64], width_ns: int) -> npt.NDArray[np.float64]:
    """That a record is within ``width_ns`` of a moment, from how many others are around it."""
    return np.clip((around + 0.2) * width_ns / AROUND_NS, 1e-6, 0.9)


def _found_share(asked: list[_Asked], stretch: Stretch, sample: EgressPackets) -> float:
    """Share of a stretch's packets that find their record, less chance."""
    if stretch.line < 0:
        return 0.0
    first, last = np.searchsorted(sample.row, stretch.rows)
    line = asked[stretch.line]
    hit, chance = line.record[first : last + 1] >= 0, line.chance[first : last + 1]
    return float((hit - chance).sum() / (1 - chance).sum())


def _nats(asked: _Asked, share: float) -> npt.NDArray[np.float64]:
    """Evidence for a line of each packet, if so large a share finds its record on the right one."""
    there = np.log(1 - share + share / asked.chance)
    return np.where(asked.record >= 0, there, np.log(1 - share))


def _path(sample: EgressPackets, asked: list[_Asked], share: float) -> list[Stretch]:
    """The stretches if so large a share of packets finds its record on the right line."""
    n = len(sample.ts_ns)
    evidence = np.zeros((1 + len(asked), n))
    for k, line in enumerate(asked, 1):
        evidence[k] = _nats(line, share)
    path = best_path(evidence, _CHANGE_COSTS)
    cuts = np.flatnonzero(np.diff(path)) + 1
    found = []
    for first, after in zip(np.r_[0, cuts].tolist(), np.r_[cuts, n].tolist(), strict=True):
        k = int(path[first]) - 1
        record = asked[k].record[first:after] if k >= 0 else np.full(after - first, -1)
        hits = np.flatnonzero(record >= 0)
        found.append(
            Stretch(
                k,
                (int(sample.row[first]), int(sample.row[after - 1])),
                (int(sample.ts_ns[first]), int(sample.ts_ns[after - 1])),
                after - first,
                sample.row[first + hits].astype(np.int64),
                record[hits],
            )
        )
    return found


def stretches_beside(stretches: list[Stretch], one: Stretch) -> list[Stretch]:
    """Those on a line right before and after one of the stretches."""
    at = next(n for n, stretch in enumerate(stretches) if stretch is one)
    around = stretches[max(at - 1, 0) : at] + stretches[at + 1 : at + 2]
    return [s for s in around if s.line >= 0 and len(s.hit_rows)]


def apart(line: Line, lines: list[Line], part: EgressPackets) -> bool:
    """Whether a line is far enough from all others, at the time of these packets, to be there by a step."""
    at_ns = int(part.ts_ns[0])
    return all(abs(line.offset_ns(at_ns) - other.offset_ns(at_ns)) >= LEAST_STEP_NS for other in lines)


def within_one(beside: list[Stretch]) -> bool:
    """Whether the stretches before and after one are on the same line: then no step need be between them."""
    return len(beside) == 2 and beside[0].line == beside[1].line


def joined(stretches: list[Stretch], lines: list[Line]) -> list[Stretch]:
    """The stretches on lines, those that follow one another on the same line as one."""
    one: list[Stretch] = []
    for stretch in stretches:
        if stretch.line < 0 or not len(stretch.hit_rows):
            continue
        if one and abs(_size_ns(one[-1], stretch, lines)) < max(
            LEAST_STEP_NS, lines[one[-1].line].width_ns, lines[stretch.line].width_ns
        ):
            last = one.pop()
            stretch = Stretch(
                last.line if last.packets >= stretch.packets else stretch.line,
                (last.rows[0], stretch.rows[1]),
                (last.ends_ns[0], stretch.ends_ns[1]),
                last.packets + stretch.packets,
                np.r_[last.hit_rows, stretch.hit_rows],
                np.r_[last.hit_records, stretch.hit_records],
            )
        one.append(stretch)
    return one


def breaks_between(stretches: list[Stretch], lines: list[Line]) -> tuple[Break, ...]:
    """Where a line gives way to the next."""
    breaks = []
    for before, after in pairwise(stretches):
        last, first = max(-_UNSURE, -len(before.hit_rows)), min(_UNSURE, len(after.hit_rows)) - 1
        breaks.append(
            Break(
                _size_ns(before, after, lines),
                (int(before.hit_rows[last]), int(after.hit_rows[first])),
                (int(before.hit_records[last]), int(after.hit_records[first])),
            )
        )
    return tuple(breaks)


def _size_ns(before: Stretch, after: Stretch, lines: list[Line]) -> int:
    """By how much egress minus ingress changes, each line at its own end: the clock may have leapt years."""
    return lines[after.line].offset_ns(after.ends_ns[0]) - lines[before.line].offset_ns(before.ends_ns[1])
