"""Where a line goes on after a clock was set, looked for near where the captures themselves put it.

A clock set back makes a packet come before the one before it; one set forward leaves a pause. So the size of
a step is known, but for the true pause between two packets, before any pair of packets is looked at, and a
bulk transfer of equal packets, in which no search over all offsets finds anything, is enough to prove it.
Steps no larger than ordinary pauses are looked for around the line itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import count_within, pairs_within
from vpnforensics.align.classes import SizeClasses
from vpnforensics.align.egress_packets import EgressPackets
from vpnforensics.align.line import LEAST_PAIRS
from vpnforensics.align.stretches import AROUND_NS, Line, Stretch, chance_of_one

_REACH_NS = 400_000_000
"""True pauses beside a step, and steps without a pause that shows, are shorter than this."""
_ROOM = 400_000
_ROUNDS = 4
_ROWS_BESIDE = 200
_ANYWHERE = 2
_UNSURE = 3


@dataclass(frozen=True, eq=False)
class InFile:
    """Times of one side in order of its file, which is that of true time whatever was done to the clock."""

    row: npt.NDArray[np.int64]
    """Ascending; of the egress packet table, or of the ingress one for records."""
    ts_ns: npt.NDArray[np.int64]

    @staticmethod
    def of(row: npt.NDArray[np.integer[Any]], ts_ns: npt.NDArray[np.int64]) -> InFile:
        """From rows in any order."""
        order = np.argsort(row, kind="stable")
        return InFile(row[order].astype(np.int64), ts_ns[order])

    def leaps_ns(self, first: int, last: int) -> list[int]:
        """The largest leaps back and ahead between rows ``first`` and ``last``, and in the whole file.

        A line that goes on by chance, among packets that come at a steady rate, hides where it ends.
        """
        low, high = np.searchsorted(self.row, [first, last + 1])
        leap, any_leap = np.diff(self.ts_ns[low:high]), np.sort(np.diff(self.ts_ns))
        here = [int(leap.min()), int(leap.max())] if len(leap) else []
        ends = np.r_[any_leap[:_ANYWHERE], any_leap[-_ANYWHERE:]]
        return [*here, *map(int, ends)]


def likely_sizes(
    line: Stretch, open_one: Stretch, egress: InFile, ingress: InFile, row_of_record: npt.NDArray[np.int32]
) -> list[int]:
    """By how much egress minus ingress may change from a stretch on a line to one beside it that is on none.

    Parameters
    ----------
    line, open_one : Stretch
        Neighbours, in either order.
    egress, ingress : InFile
    row_of_record : ndarray of int32
        Ingress row of each record.
    """
    goes_on = line.rows[1] < open_one.rows[0]
    edge = -min(_UNSURE, len(line.hit_rows)) if goes_on else min(_UNSURE, len(line.hit_rows)) - 1
    here, there = int(line.hit_rows[edge]), open_one.rows[0] if goes_on else open_one.rows[1]
    first, last = sorted((here, there))
    record_row = int(row_of_record[line.hit_records[edge]])
    beside = _ROWS_BESIDE + 4 * (last - first)
    zone = (record_row, record_row + beside) if goes_on else (record_row - beside, record_row)
    leaps = egress.leaps_ns(first - 1, last + 1) + [-leap for leap in ingress.leaps_ns(*zone)]
    sign = 1 if goes_on else -1
    # Leaps nearer to each other than the reach are looked for around one of them.
    every = {leap // (_REACH_NS // 2): leap for leap in reversed(leaps) if abs(leap) > _REACH_NS / 3}
    return [0, *(sign * size for size in every.values())]


def resumed(line: Line, size_ns: int, part: EgressPackets, classes: SizeClasses) -> Line | None:
    """The line as it goes on in a part of the packets, near so far from where it was; ``None`` without pairs.

    Parameters
    ----------
    line : Line
    size_ns : int
    part : EgressPackets
    classes : SizeClasses
    """
    width_ns = line.width_ns
    # The drift of the line counts in its own time, which a leap of years is not.
    expected_ns = line.alignment.to_ingress(part.ts_ns - size_ns)
    pairs = int(count_within(expected_ns, part.size_class, classes.start, classes.ts_ns, _REACH_NS).sum())
    some = np.arange(0, len(expected_ns), max(1, -(-pairs // _ROOM)))
    part, expected_ns = part.take(some), expected_ns[some]
    sizes = part.size_class, classes.start, classes.ts_ns
    packet, at = pairs_within(expected_ns, *sizes, -_REACH_NS, _REACH_NS, 2 * _ROOM)
    if len(packet) < LEAST_PAIRS:
        return None
    residual_ns = expected_ns[packet] - classes.ts_ns[at]
    chance = chance_of_one(count_within(expected_ns, *sizes, AROUND_NS), width_ns)
    weight = np.log(1 / chance)[packet]
    bin_ns = max(width_ns // 2, 1)
    slot = (residual_ns + _REACH_NS) // bin_ns
    pile = np.bincount(slot, weight, minlength=int(2 * _REACH_NS // bin_ns) + 4)
    wide = pile[:-3] + pile[1:-2] + pile[2:-1] + pile[3:]
    center_ns = (int(np.argmax(wide)) + 2) * bin_ns - _REACH_NS
    # Whoever sets a clock leaves its rate: only the level is new, halfway between the two directions'.
    for _ in range(_ROUNDS):
        near = np.abs(residual_ns - center_ns) <= width_ns
        sides = [residual_ns[near & (part.up[packet] == side)] for side in (True, False)]
        if near.sum() < LEAST_PAIRS:
            return None
        center_ns = round(float(np.mean([np.median(side) for side in sides if len(side)])))
    before = line.alignment
    moved = replace(
        before,
        offset_ns=before.offset_ns + size_ns + center_ns,
        reference_ns=before.reference_ns + size_ns,
        pairs=int(near.sum()),
    )
    return replace(line, alignment=moved)
