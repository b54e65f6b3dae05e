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
