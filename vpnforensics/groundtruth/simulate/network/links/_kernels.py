"""Kernels: pseudo-random numbers, the event queue, links and the server's delay."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vpnforensics.kernels import inner_kernel

# Indexes into the state of one direction of one client's path.
BUSY = 0  # the link's own queue is busy until
LAST = 1  # last arrival: order is kept
CROSS = 2  # cross traffic still queued at ...
CROSS_AT = 3  # ... this moment
SERVED = 4  # last packet left the server
SLOT = 5  # last slot used by constant-rate cover traffic
SENT = 6  # last packet left the tunnel's own process
LINK_STATE = 7
# Columns of a link, in the order of Link's fields.
NS_PER_BYTE, DELAY, JITTER, LAW, LOSS, QUEUE, BURST_HZ, BURST, REORDER, REORDER_NS = range(10)
# The server's law in the order of ServerLaw's scalars; the client's own delay; loss beyond the server.
SERVICE, SIGMA, GAP, SERVER_LOSS, BATCH, SLOT_UP, SLOT_DOWN, CRYPTO, INTERNET_LOSS = range(9)

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@inner_kernel
def uniform(state: Any) -> Any:
    """Next number in [0, 1): SplitMix64 (Steele, Lea & Flood 2014), fixed here so that files never change."""
    state[0] += _GAMMA
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@inner_kernel
def exponential(state: Any, mean: float) -> Any:
    """Exponential variate."""
    return -mean * math.log(1.0 - uniform(state))


@inner_kernel
def lognormal(state: Any, median: float, sigma: float) -> Any:
    """Log-normal variate by Box and Muller."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(state)))
    return median * math.exp(sigma * radius * math.cos(2.0 * math.pi * uniform(state)))


@inner_kernel
def jitter(random: Any, law: Any, mean: float) -> Any:
    """A delay of the given mean: exponential, half-normal, uniform, or Pareto with exponent 2.5."""
    if mean <= 0.0:
        return 0.0
    if law == 0:
        return exponential(random, mean)
    if law == 1:
        radius = math.sqrt(-2.0 * math.log(1.0 - uniform(random)))
        return mean * math.sqrt(0.5 * math.pi) * abs(radius * math.cos(2.0 * math.pi * uniform(random)))
    if law == 2:
        return 2.0 * mean * uniform(random)
    return mean * 1.5 * ((1.0 - uniform(random)) ** -0.4 - 1.0)


@inner_kernel
def push(heap: Any, count: Any, when: Any, value: Any) -> None:
    """Add an event; events of one moment fire in the order they were pushed."""
    i = count[0]
    stamp = count[1]
    count[0] += 1
    count[1] += 1
    while i > 0:
        parent = (i - 1) >> 1
        if heap[parent, 0] <= when:
            break
        heap[i, 0] = heap[parent, 0]
        heap[i, 1] = heap[parent, 1]
        heap[i, 2] = heap[parent, 2]
        i = parent
    heap[i, 0] = when
    heap[i, 1] = stamp
    heap[i, 2] = value


@inner_kernel
def pop(heap: Any, count: Any) -> Any:
    """Remove and return the earliest event as (time, value)."""
    top_time = heap[0, 0]
    top_value = heap[0, 2]
    count[0] -= 1
    n = count[0]
    when = heap[n, 0]
    stamp = heap[n, 1]
    value = heap[n, 2]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and (
            heap[child + 1, 0] < heap[child, 0]
            or (heap[child + 1, 0] == heap[child, 0] and heap[child + 1, 1] < heap[child, 1])
        ):
            child += 1
        if heap[child, 0] > when or (heap[child, 0] == when and heap[child, 1] > stamp):
            break
        heap[i, 0] = heap[child, 0]
        heap[i, 1] = heap[child, 1]
        heap[i, 2] = heap[child, 2]
        i = child
    heap[i, 0] = when
    heap[i, 1] = stamp
    heap[i, 2] = value
    return top_time, top_value


@inner_kernel
def cross_traffic(link: Any, state: Any, now: Any, random: Any) -> Any:
    """Wait behind other people's packets at ``now`` (M/G/1 virtual waiting time), ns."""
    if link[BURST_HZ] <= 0.0:
        return 0.0
    gap_ns = 1e9 / link[BURST_HZ]
    # CROSS_AT is the moment of the next burst; CROSS the moment at which the queue runs empty.
    while state[CROSS_AT] <= now:
        empty = max(state[CROSS], state[CROSS_AT])
        state[CROSS] = empty + np.int64(exponential(random, link[BURST]))
        state[CROSS_AT] += np.int64(exponential(random, gap_ns)) + 1
    return max(0.0, float(state[CROSS] - now))


@inner_kernel
def cross(link: Any, state: Any, now: Any, size_bytes: Any, random: Any) -> Any:
    """Arrival time of a packet that enters the link at ``now``; -1 where it is lost."""
    start = max(now, state[BUSY])
    if start - now > link[QUEUE]:
        return np.int64(-1)
    state[BUSY] = start + np.int64(link[NS_PER_BYTE] * size_bytes)
    wait = cross_traffic(link, state, state[BUSY], random)
    arrival = state[BUSY] + np.int64(link[DELAY] + wait + jitter(random, link[LAW], link[JITTER]))
    if link[LOSS] > 0.0 and uniform(random) < link[LOSS]:
        return np.int64(-1)
    if link[REORDER] > 0.0 and uniform(random) < link[REORDER]:
        return arrival + np.int64(exponential(random, link[REORDER_NS]))
    arrival = max(arrival, state[LAST] + 200)
    state[LAST] = arrival
    return arrival


@inner_kernel
def serve(law: Any, stalls: Any, state: Any, now: Any, random: Any) -> Any:
    """When the server lets a packet go that it received at ``now``; -1 where it drops it."""
    ready = now
    # The last stall that began before `now`: binary search, because clients interleave.
    low = 0
    high = stalls.shape[1]
    while low < high:
        middle = (low + high) >> 1
        if stalls[0, middle] <= ready:
            low = middle + 1
        else:
            high = middle
    if low > 0 and stalls[1, low - 1] > ready:
        ready = stalls[1, low - 1]
    ready += np.int64(lognormal(random, law[SERVICE], law[SIGMA]))
    gap = np.int64(law[GAP])
    if law[BATCH] > 0.0:
        batch = np.int64(law[BATCH])
        ready = (ready + batch - 1) // batch * batch
        gap = np.int64(1500)
    ready = max(ready, state[SERVED] + gap)
    state[SERVED] = ready
    if law[SERVER_LOSS] > 0.0 and uniform(random) < law[SERVER_LOSS]:
        return np.int64(-1)
    return ready


@inner_kernel
def slotted(slot_ns: float, state: Any, now: Any) -> Any:
    """First free slot of a constant-rate sender at or after ``now``."""
    slot = np.int64(slot_ns)
    turn = max((now + slot - 1) // slot, state[SLOT] + 1)
    state[SLOT] = turn
    return turn * slot
