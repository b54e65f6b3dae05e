"""The datagrams of a constant rate that carry nothing: one at each tick that no packet took.

They flow while the tunnel is there, from its first packet to its last, both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vpnforensics.audit.copies._kernels import DROPPED, Pace
from vpnforensics.audit.copies.belonging import Belonging, NoCopyError

if TYPE_CHECKING:
    from vpnforensics.audit.copies.pacing import Carried, Held

Ints = npt.NDArray[np.int64]

MOST_DATAGRAMS = 400_000
"""In a copy: all look alike, so that each may have carried each packet, and a case of more takes hours."""


@dataclass(frozen=True, eq=False)
class Filling:
    """Datagrams that carry nothing."""

    ts_ns: Ints
    tunnel: Ints
    up: npt.NDArray[np.bool_]


def refuse_too_many(known: Belonging, pace: Pace) -> None:
    """Refuse a rate that fills the memory.

    Raises
    ------
    NoCopyError
    """
    first, last = _ticks(known, pace)
    wanted = int(np.maximum(last - first + 1, 0).sum())
    if wanted > MOST_DATAGRAMS:
        raise NoCopyError(
            f"so many tunnels at a constant rate are {wanted:,} datagrams, more than the"
            f" {MOST_DATAGRAMS:,} that a copy may have; audit a shorter part of the capture, or a lower rate"
        )


def filling(known: Belonging, packets: Carried, held: Held, pace: Pace) -> Filling:
    """One datagram at each tick of each tunnel and direction that no packet left at.

    Parameters
    ----------
    known : Belonging
    packets : Carried
    held : Held
        When they left.
    pace : Pace
        Without ticks there is nothing to fill.
    """
    if not pace.tick_ns:
        none = np.zeros(0, np.int64)
        return Filling(none, none, none.astype(np.bool_))
    first, last = _ticks(known, pace)
    count = np.maximum(last - first + 1, 0)
    clock = np.repeat(np.arange(len(count)), count)
    tick = np.arange(len(clock)) - np.repeat(np.cumsum(count) - count, count) + first[clock]
    left = held.left_ns != DROPPED
    used_clock = (2 * packets.tunnel + packets.up)[left]
    used_tick = (held.left_ns[left] - pace.phase_ns[used_clock]) // pace.tick_ns
    inside = (used_tick >= first[used_clock]) & (used_tick <= last[used_clock])
    begin = np.cumsum(count) - count
    free = np.ones(len(tick), np.bool_)
    free[(begin[used_clock] + used_tick - first[used_clock])[inside]] = False
    clock, tick = clock[free], tick[free]
    up = clock % 2 == 1
    ts_ns = pace.phase_ns[clock] + tick * pace.tick_ns + np.where(up, 0, packets.down_ns)
    return Filling(ts_ns, clock // 2, up)


def _ticks(known: Belonging, pace: Pace) -> tuple[Ints, Ints]:
    """First and last tick of each clock (twice the tunnel, plus 1 for up); last before first for none."""
    count = 2 * len(known.tunnels)
    if not pace.tick_ns:
        return np.zeros(count, np.int64), np.full(count, -1)
    begin = np.repeat([t.first_ns for t in known.tunnels], 2)
    end = np.repeat([t.last_ns for t in known.tunnels], 2)
    first = -((pace.phase_ns - begin) // pace.tick_ns)
    last = (end - pace.phase_ns) // pace.tick_ns
    return first, np.where(np.repeat(known.mapped, 2), last, first - 1)
