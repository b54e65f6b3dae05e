"""Stacks and paths as arrays: what the estimators are tested against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Path:
    """Poisson packets through an M/M/1 queue of cross-traffic bursts, with exponential jitter."""

    packets_hz: float = 12.0
    burst_hz: float = 6.0
    burst_s: float = 0.1
    jitter_s: float = 0.0005
    delay_s: float = 0.02


def queueing(t_s, path, rng):
    """Waiting time at each time: the workload that bursts have left."""
    count = max(1, rng.poisson((t_s[-1] - t_s[0] + 30) * path.burst_hz))
    at = np.sort(t_s[0] - 30 + rng.random(count) * (t_s[-1] - t_s[0] + 30))
    work = np.cumsum(rng.exponential(path.burst_s, count))
    # Lindley: workload just after burst k is the largest surplus of work over time since any burst.
    after = work - at + np.maximum.accumulate(at - np.r_[0.0, work[:-1]])
    k = np.searchsorted(at, t_s, side="right") - 1
    return np.where(k >= 0, np.maximum(0.0, after[np.maximum(k, 0)] - (t_s - at[np.maximum(k, 0)])), 0.0)


def clock_packets(
    seconds, skew_ppm, rng, path=Path(), hz=1000, start=None, epoch_ns=1_790_000_000_000_000_000
):
    """Arrival times (int64 ns) and TSvals (uint32) of one sender, both in order of arrival."""
    sent = np.sort(rng.random(max(2, rng.poisson(seconds * path.packets_hz))) * seconds)
    arrival = sent + path.delay_s + queueing(sent, path, rng) + rng.exponential(path.jitter_s, len(sent))
    arrival = np.maximum.accumulate(arrival)
    base = int(rng.integers(0, 1 << 32)) if start is None else start
    ticks = np.floor((sent * (1 + skew_ppm * 1e-6) + rng.random()) * hz).astype(np.int64) + base
    return epoch_ns + np.rint(arrival * 1e9).astype(np.int64), (ticks & 0xFFFFFFFF).astype(np.uint32)


PERSONALITIES = (
    "zero",
    "constant",
    "global",
    "per_destination",
    "per_flow",
    "bucket",
    "byte_swapped",
    "random",
)


def ip_id_packets(kind, rng, *, packets=60, flows=6, destinations=3, loss=0.2, seconds=60.0, other_hz=3.0):
    """Time (ns), ID, flow and destination of what a tap sees of one host's packets, some of them lost."""
    sent = rng.integers(packets * 5 // 4, packets * 2)
    # Conversations come one after the other and overlap; packets come in bursts.
    flow = rng.integers(0, flows, sent)
    begin = np.sort(rng.random(flows)) * seconds * 0.6
    t = np.sort(begin[flow] + rng.exponential(seconds * 0.1, sent)) + rng.exponential(0.002, sent)
    t = np.sort(t)
    t_ns = np.rint(t * 1e9).astype(np.int64)
    destination = flow % destinations
    ids = np.empty(sent, np.int64)
    if kind == "zero":
        ids[:] = 0
    elif kind == "constant":
        ids[:] = rng.integers(1, 65536)
    elif kind == "random":
        ids = rng.integers(0, 65536, sent)
    elif kind in ("global", "byte_swapped"):
        ids = rng.integers(0, 65536) + np.cumsum(1 + rng.poisson(np.diff(t, prepend=t[0]) * other_hz))
    else:
        key = flow if kind == "per_flow" else destination
        for k in np.unique(key):
            mine = key == k
            jump = 0
            if kind == "bucket":
                idle = np.maximum(np.diff(t_ns[mine] // 4_000_000, prepend=t_ns[mine][0] // 4_000_000), 0)
                jump = np.floor(rng.random(mine.sum()) * idle).astype(np.int64)
            ids[mine] = rng.integers(0, 65536) + np.cumsum(1 + np.broadcast_to(jump, mine.sum()))
    ids &= 0xFFFF
    if kind == "byte_swapped":
        ids = (ids >> 8) | (ids & 0xFF) << 8
    kept = rng.random(sent) >= loss
    return t_ns[kept], ids[kept].astype(np.int32), flow[kept], destination[kept]
