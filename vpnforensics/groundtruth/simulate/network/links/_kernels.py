"""Kernels: pseudo-random numbers, the event queue, links and the server's delay."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

# Indexes into the state of one direction of one client's path.
BUSY = 0  # the link's own queue is busy until
LAST = 1  # last arrival: order is kept
CROSS = 2  # cross traffic still queued at ...
CROSS_AT = 3  # ... this moment
SERVED = 4  # last packet left the server
SLOT = 5  # last slot used by constant-rate cover traffic
SENT = 6  # last packet left the tunnel's own process
LINK_STATE = 7

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@njit(cache=True)
def uniform(state: Any) -> Any:
    """Next number in [0, 1): SplitMix64 (Steele, Lea & Flood 2014), fixed here so that files never change."""
    state[0] += _GAMMA
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def exponential(state: Any, mean: float) -> Any:
    """Exponential variate."""
    return -mean * math.log(1.0 - uniform(state))


@njit(cache=True)
def lognormal(state: Any, median: float, sigma: float) -> Any:
    """Log-normal variate by Box and Muller."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(state)))
    return median * math.exp(sigma * radius * math.cos(2.0 * math.pi * uniform(state)))


@njit(cache=True)
def push(times: Any, order: Any, values: Any, count: Any, when: int, value: int) -> None:
    """Add an event; events of one moment fire in the order they were pushed."""
    i = count[0]
    stamp = count[1]
    count[0] += 1
    count[1] += 1
    while i > 0:
        parent = (i - 1) >> 1
        if times[parent] <= when:
            break
        times[i] = times[parent]
        order[i] = order[parent]
        values[i] = values[parent]
        i = parent
    times[i] = when
    order[i] = stamp
    values[i] = value


@njit(cache=True)
def pop(times: Any, order: Any, values: Any, count: Any) -> Any:
    """Remove and return the earliest event as (time, value)."""
    top_time = times[0]
    top_value = values[0]
    count[0] -= 1
    n = count[0]
    when = times[n]
    stamp = order[n]
    value = values[n]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and (
            times[child + 1] < times[child]
            or (times[child + 1] == times[child] and order[child + 1] < order[child])
        ):
            child += 1
        if times[child] > when or (times[child] == when and order[child] > stamp):
            break
        times[i] = times[child]
        order[i] = order[child]
        values[i] = values[child]
        i = child
    times[i] = when
    order[i] = stamp
    values[i] = value
    return top_time, top_value


@njit(cache=True)
def cross_traffic(link: Any, state: Any, now: int, random: Any) -> Any:
    """Wait behind other people's packets at ``now`` (M/G/1 virtual waiting time), ns."""
    if link.burst_hz <= 0.0:
        return 0.0
    gap_ns = 1e9 / link.burst_hz
    # CROSS_AT is the moment of the next burst; CROSS the moment at which the queue runs empty.
    while state[CROSS_AT] <= now:
        empty = max(state[CROSS], state[CROSS_AT])
        state[CROSS] = empty + np.int64(exponential(random, link.burst_ns))
        state[CROSS_AT] += np.int64(exponential(random, gap_ns)) + 1
    return max(0.0, float(state[CROSS] - now))


@njit(cache=True)
def cross(link: Any, state: Any, now: int, size_bytes: int, random: Any) -> Any:
    """Arrival time of a packet that enters the link at ``now``; -1 where it is lost."""
    start = max(now, state[BUSY])
    if start - now > link.queue_ns:
        return np.int64(-1)
    state[BUSY] = start + np.int64(link.ns_per_byte * size_bytes)
    wait = cross_traffic(link, state, state[BUSY], random)
    arrival = state[BUSY] + np.int64(link.delay_ns + wait + exponential(random, link.jitter_ns))
    if link.loss > 0.0 and uniform(random) < link.loss:
        return np.int64(-1)
    if link.reorder > 0.0 and uniform(random) < link.reorder:
        return arrival + np.int64(exponential(random, link.reorder_ns))
    arrival = max(arrival, state[LAST] + 200)
    state[LAST] = arrival
    return arrival


@njit(cache=True)
def serve(server: Any, state: Any, now: int, random: Any) -> Any:
    """When the server lets a packet go that it received at ``now``; -1 where it drops it."""
    ready = now
    # The last stall that began before `now`: binary search, because clients interleave.
    low = 0
    high = len(server.stall_start_ns)
    while low < high:
        middle = (low + high) >> 1
        if server.stall_start_ns[middle] <= ready:
            low = middle + 1
        else:
            high = middle
    if low > 0 and server.stall_end_ns[low - 1] > ready:
        ready = server.stall_end_ns[low - 1]
    ready += np.int64(lognormal(random, server.service_ns, server.sigma))
    ready = max(ready, state[SERVED] + np.int64(server.gap_ns))
    if server.batch_ns > 0.0:
        batch = np.int64(server.batch_ns)
        ready = max((ready + batch - 1) // batch * batch, state[SERVED] + 1500)
    state[SERVED] = ready
    if server.loss > 0.0 and uniform(random) < server.loss:
        return np.int64(-1)
    return ready


@njit(cache=True)
def slotted(slot_ns: float, state: Any, now: int) -> Any:
    """First free slot of a constant-rate sender at or after ``now``."""
    slot = np.int64(slot_ns)
    turn = max((now + slot - 1) // slot, state[SLOT] + 1)
    state[SLOT] = turn
    return turn * slot
