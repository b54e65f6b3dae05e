"""When packets leave a queue that lets them go in batches, or one at each tick of a clock."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.kernels import kernel

Ints = npt.NDArray[np.int64]

DROPPED = -1


class Arrivals(NamedTuple):
    """Packets at their queues; those of one conversation stand together, in order."""

    at_ns: Ints
    """When each came, in the recording."""
    next: Ints
    """The next packet of its conversation, or -1."""
    cause: Ints
    """An earlier one of its conversation that it answers, or -1."""
    answer_ns: Ints
    """Least time from that one's departure to this one's arrival."""
    before: Ints
    """An earlier one of its conversation and direction that has to be acknowledged first, or -1."""
    around_ns: Ints
    """Least time from that one's departure to this one's arrival: a whole round trip."""
    queue: Ints
    """Which end holds it back."""
    slot: Ints
    """Which clock's tick it waits for: that of a tunnel and a direction."""


class Pace(NamedTuple):
    """How the queues let packets go."""

    batch_ns: np.int64
    """Held together from the first one's arrival on; 0 for none."""
    tick_ns: np.int64
    """Between ticks; 0 for none."""
    most_queued: np.int64
    """Packets that may wait for their tick; the newest are dropped."""
    phase_ns: Ints
    """A tick of each clock."""


@kernel
def departures(arrivals, pace, heads, queues, depart, arrive):  # type: ignore[no-untyped-def]
    """Departure of each packet, taking the packets of all queues in the order in which they then come.

    A packet comes no earlier than in the recording, than the one before it of its conversation came, and than
    the answer time after the departure of the packet that it answers, than a round trip after that of the one
    that its window waits for.

    Parameters
    ----------
    arrivals : Arrivals
    pace : Pace
    heads : ndarray of int64
        The first packet of each conversation, in any order.
    queues : ndarray of int64, shape (queues,)
        Scratch, zeros: until when each queue gathers.
    depart, arrive : ndarray of int64, shape (packets,)
        Filled: ns, ``DROPPED`` for a packet that found its queue full; and when each came.
    """
    size = len(heads)
    heap_at = np.empty(size, np.int64)
    heap_packet = np.empty(size, np.int64)
    count = 0
    for i in range(size):
        _push(heap_at, heap_packet, count, arrivals.at_ns[heads[i]], heads[i])
        count += 1
    last_tick = np.full(len(pace.phase_ns), np.iinfo(np.int64).min)
    while count > 0:
        at = heap_at[0]
        packet = heap_packet[0]
        count -= 1
        _pop(heap_at, heap_packet, count)
        arrive[packet] = at
        leaves = at
        if pace.batch_ns > 0:
            queue = arrivals.queue[packet]
            if at > queues[queue]:
                queues[queue] = at + pace.batch_ns
            leaves = queues[queue]
        if pace.tick_ns > 0:
            slot = arrivals.slot[packet]
            earliest = -((pace.phase_ns[slot] - leaves) // pace.tick_ns)
            tick = (
                max(earliest, last_tick[slot] + 1) if last_tick[slot] > np.iinfo(np.int64).min else earliest
            )
            if tick - earliest >= pace.most_queued:
                leaves = DROPPED
            else:
                last_tick[slot] = tick
                leaves = pace.phase_ns[slot] + tick * pace.tick_ns
        depart[packet] = leaves
        following = arrivals.next[packet]
        if following >= 0:
            comes = max(at, arrivals.at_ns[following])
            cause = arrivals.cause[following]
            if cause >= 0 and depart[cause] != DROPPED:
                comes = max(comes, depart[cause] + arrivals.answer_ns[following])
            before = arrivals.before[following]
            if before >= 0 and depart[before] != DROPPED:
                comes = max(comes, depart[before] + arrivals.around_ns[following])
            _push(heap_at, heap_packet, count, comes, following)
            count += 1


@kernel
def _push(at, packet, count, when, which):  # type: ignore[no-untyped-def]
    """Into a heap of ``count``, the earliest first; of one time the lowest number first."""
    place = count
    while place > 0:
        above = (place - 1) // 2
        if at[above] < when or (at[above] == when and packet[above] <= which):
            break
        at[place] = at[above]
        packet[place] = packet[above]
        place = above
    at[place] = when
    packet[place] = which


@kernel
def _pop(at, packet, count):  # type: ignore[no-untyped-def]
    """Take the first out of a heap that had ``count + 1``."""
    when = at[count]
    which = packet[count]
    place = 0
    while True:
        below = 2 * place + 1
        if below >= count:
            break
        right = below + 1
        if right < count and (
            at[right] < at[below] or (at[right] == at[below] and packet[right] < packet[below])
        ):
            below = right
        if when < at[below] or (when == at[below] and which <= packet[below]):
            break
        at[place] = at[below]
        packet[place] = packet[below]
        place = below
    at[place] = when
    packet[place] = which
