"""The datagrams of a constant rate that carry nothing: one at each tick that no packet took.

They flow while the tunnel is there, from its first packet to its last, both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vpnforensics.arrays import Bools, Ints
from vpnforensics.audit.copies._kernels import DROPPED, Pace
from vpnforensics.audit.copies.belonging import Belonging, NoCopyError

if TYPE_CHECKING:
    from vpnforensics.audit.copies.pacing import Carried, Held


MOST_DATAGRAMS = 400_000
"""In a copy: all look alike, so that each may have carried each packet, and a case of more takes hours."""

LATE_NS = 1_000_000.0
"""Mean of the exponential law by which a tick is late: timers of event loops are a millisecond coarse, and a
path adds its jitter. Each record has one of its own, so that clients' records do not stand on one lattice."""


@dataclass(frozen=True, eq=False)
class Filling:
    """Datagrams that carry nothing."""

    ts_ns: Ints
    tunnel: Ints
    up: Bools


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


@dataclass(frozen=True, eq=False)
class Ticks:
    """The ticks of each clock (twice the tunnel, plus 1 for up), and when their datagrams are really seen."""

    first: Ints
    begin: Ints
    """Where each clock's ticks begin in ``seen_ns``; one more than clocks."""
    seen_ns: Ints

    def at(self, clock: Ints, tick: Ints) -> Ints:
        """Place of ticks in ``seen_ns``; of those after the last, that of the last."""
        place = self.begin[clock] + tick - self.first[clock]
        return np.asarray(np.clip(place, self.begin[clock], self.begin[clock + 1] - 1))


def ticks_of(known: Belonging, pace: Pace, rng: np.random.Generator) -> Ticks:
    """The ticks, each late by chance; the server's are the same for all its tunnels.

    Parameters
    ----------
    known : Belonging
    pace : Pace
        With ticks.
    rng : numpy.random.Generator
    """
    first, last = _ticks(known, pace)
    count = np.maximum(last - first + 1, 0)
    begin = np.r_[0, np.cumsum(count)]
    lowest = int(first.min())
    of_server = rng.exponential(LATE_NS, max(int(last.max()) - lowest + 1, 0))
    seen = []
    for clock, (low, many) in enumerate(zip(first.tolist(), count.tolist(), strict=True)):
        late = rng.exponential(LATE_NS, many) if clock % 2 else of_server[low - lowest : low - lowest + many]
        at_ns = pace.phase_ns[clock] + (low + np.arange(many)) * pace.tick_ns + np.rint(late).astype(np.int64)
        seen.append(np.maximum.accumulate(at_ns) if many else at_ns)  # datagrams keep their order
    return Ticks(first, begin, np.concatenate([np.zeros(0, np.int64), *seen]))


def seen_at(packets: Carried, held: Held, pace: Pace, ticks: Ticks) -> Ints:
    """When packets that leave at ticks are seen to leave; ``DROPPED`` as before."""
    clock = 2 * packets.tunnel + packets.up
    left = held.left_ns != DROPPED
    tick = (held.left_ns - pace.phase_ns[clock]) // pace.tick_ns
    place = ticks.at(clock, tick)
    # After the last tick of a tunnel the clock goes on for what still waits.
    after = np.maximum(held.left_ns - pace.phase_ns[clock] - _last_ns(ticks, pace, clock), 0)
    return np.where(left, ticks.seen_ns[place] + after, DROPPED)


def _last_ns(ticks: Ticks, pace: Pace, clock: Ints) -> Ints:
    """When the last tick of a clock is due, less its phase."""
    return (ticks.first[clock] + np.diff(ticks.begin)[clock] - 1) * pace.tick_ns


def filling(known: Belonging, packets: Carried, held: Held, pace: Pace, ticks: Ticks) -> Filling:
    """One datagram at each tick of each tunnel and direction that no packet left at.

    Parameters
    ----------
    known : Belonging
    packets : Carried
    held : Held
        When they left.
    pace : Pace
    ticks : Ticks
    """
    count = np.diff(ticks.begin)
    clock = np.repeat(np.arange(len(count)), count)
    left = held.left_ns != DROPPED
    used_clock = (2 * packets.tunnel + packets.up)[left]
    used_tick = (held.left_ns[left] - pace.phase_ns[used_clock]) // pace.tick_ns
    inside = (used_tick >= ticks.first[used_clock]) & (
        used_tick < ticks.first[used_clock] + count[used_clock]
    )
    free = np.ones(len(clock), np.bool_)
    free[ticks.at(used_clock, used_tick)[inside]] = False
    up = clock[free] % 2 == 1
    return Filling(ticks.seen_ns[free] + np.where(up, 0, packets.down_ns), clock[free] // 2, up)


def nothing() -> Filling:
    """No datagrams, where there is no constant rate."""
    none = np.zeros(0, np.int64)
    return Filling(none, none, none.astype(np.bool_))


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
