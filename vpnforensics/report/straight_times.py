"""Times of all frames of a capture whose clock was set, as if it had not been.

:mod:`vpnforensics.align.straight` does so for the packets of a case, by their rows, and keeps the clock of
the longest part. Here are frames in order of the file, those without IP among them, and a saved case knows
only a step's time and size: before which frame it was shows in how the times leap there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment, Role

Times = npt.NDArray[np.int64]


class _Stretch(NamedTuple):
    """Frames between two steps, and what takes their times to the common clock."""

    at_ns: int
    """Its first packet's time, as captured."""
    leap_ns: int
    """By how much the clock was set before it."""
    begin_ns: int
    offset_ns: int
    drift_ppm: float


class CommonClock:
    """Times of one side, batch by batch in order of the file, on the ingress clock as it stood longest.

    Parameters
    ----------
    alignment : Alignment
        Usable.
    role : {"ingress", "egress"}
    """

    def __init__(self, alignment: Alignment, role: Role) -> None:
        self._stretches = _of_ingress(alignment) if role == "ingress" else _of_egress(alignment)
        self._last_ns: int | None = None

    def of(self, ts_ns: Times) -> Times:
        """The next frames' times.

        Parameters
        ----------
        ts_ns : ndarray of int64, shape (n,)
            As captured.
        """
        made = np.empty_like(ts_ns)
        done = 0
        while done < len(ts_ns):
            after = self._ends(ts_ns, done)
            stretch, mine = self._stretches[0], ts_ns[done:after]
            drift = np.rint((mine - stretch.begin_ns) * (stretch.drift_ppm * 1e-6)).astype(np.int64)
            made[done:after] = mine - stretch.offset_ns - drift
            if after < len(ts_ns):
                self._stretches = self._stretches[1:]
            done = after
        if len(ts_ns):
            self._last_ns = int(ts_ns[-1])
        return made

    def _ends(self, ts_ns: Times, first: int) -> int:
        """Where the present stretch ends; behind these frames if it does not."""
        if len(self._stretches) < 2:
            return len(ts_ns)
        following = self._stretches[1]
        half = abs(following.leap_ns) // 2
        times = ts_ns[first:]
        if following.leap_ns > 0:
            found = times >= following.at_ns - half
        else:
            before = np.r_[times[0] if self._last_ns is None else self._last_ns, times[:-1]]
            if first:
                before[0] = ts_ns[first - 1]
            found = (before - times > half // 2) & (np.abs(times - following.at_ns) <= half)
        return first + int(np.argmax(found)) if found.any() else len(ts_ns)


def _of_ingress(alignment: Alignment) -> list[_Stretch]:
    sizes = [step.size_ns for step in alignment.steps if step.role == "ingress"]
    ahead_ns = _ingress_ahead_ns(alignment, sizes)
    stretches = [_Stretch(0, 0, 0, ahead_ns, 0.0)]
    for step in alignment.steps:
        if step.role == "ingress":
            ahead_ns += step.size_ns
            stretches.append(_Stretch(step.at_ns, step.size_ns, 0, ahead_ns, 0.0))
    return stretches


def _ingress_ahead_ns(alignment: Alignment, sizes: Sequence[int]) -> int:
    """By how much the ingress clock was ahead at first of that of its longest part.

    The first part's offset says so but for its own error, which is far smaller than any step.
    """
    if not sizes:
        return 0
    first = alignment.parts[0]
    about_ns = alignment.offset_ns - first.offset_ns + _egress_ahead_ns(alignment)
    return min((-int(total) for total in np.cumsum([0, *sizes])), key=lambda ns: abs(ns - about_ns))


def _egress_ahead_ns(alignment: Alignment) -> int:
    """Likewise of the egress clock: the line's reference is the first packet's time put straight."""
    return alignment.parts[0].first_ns - alignment.reference_ns if alignment.parts else 0


def _of_egress(alignment: Alignment) -> list[_Stretch]:
    ahead_ns = _egress_ahead_ns(alignment)

    def stretch(at_ns: int, leap_ns: int) -> _Stretch:
        begin_ns = alignment.reference_ns + ahead_ns
        return _Stretch(at_ns, leap_ns, begin_ns, alignment.offset_ns + ahead_ns, alignment.drift_ppm)

    stretches = [stretch(0, 0)]
    for step in alignment.steps:
        if step.role == "egress":
            ahead_ns += step.size_ns
            stretches.append(stretch(step.at_ns, step.size_ns))
    return stretches
