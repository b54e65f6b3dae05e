"""The queues, against a slow twin that keeps all arrivals in Python's own heap."""

from __future__ import annotations

import heapq

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.audit.copies._kernels import DROPPED, Arrivals, Pace, departures


def slow(arrivals: Arrivals, pace: Pace, heads: list[int]) -> list[int]:
    depart: dict[int, int] = {}
    until: dict[int, int] = {}
    last: dict[int, int] = {}
    heap = [(int(arrivals.at_ns[h]), h) for h in heads]
    heapq.heapify(heap)
    while heap:
        at, packet = heapq.heappop(heap)
        leaves = at
        if pace.batch_ns:
            queue = int(arrivals.queue[packet])
            if at > until.get(queue, 0):
                until[queue] = at + int(pace.batch_ns)
            leaves = until[queue]
        if pace.tick_ns:
            slot, tick_ns = int(arrivals.slot[packet]), int(pace.tick_ns)
            phase = int(pace.phase_ns[slot])
            tick = earliest = -(-(leaves - phase) // tick_ns)
            if slot in last:
                tick = max(tick, last[slot] + 1)
            if tick - earliest < pace.most_queued:
                last[slot] = tick
                leaves = phase + tick * tick_ns
            else:
                leaves = DROPPED
        depart[packet] = leaves
        following = int(arrivals.next[packet])
        if following >= 0:
            comes, cause = max(at, int(arrivals.at_ns[following])), int(arrivals.cause[following])
            if cause >= 0 and depart[cause] != DROPPED:
                comes = max(comes, depart[cause] + int(arrivals.answer_ns[following]))
            before = int(arrivals.before[following])
            if before >= 0 and depart[before] != DROPPED:
                comes = max(comes, depart[before] + int(arrivals.around_ns[following]))
            heapq.heappush(heap, (comes, following))
    return [depart[i] for i in range(len(depart))]


@given(st.integers(0, 2**32), st.sampled_from([(0, 0), (700, 0), (0, 90), (400, 60)]), st.integers(1, 30))
def test_departures_are_those_of_the_slow_twin(seed: int, pace_ns: tuple[int, int], most: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, 12)
    start = np.r_[0, np.cumsum(sizes)]
    count = int(start[-1])
    conversation = np.repeat(np.arange(len(sizes)), sizes)
    at_ns = rng.integers(1, 5000, count)
    at_ns = at_ns[np.lexsort((at_ns, conversation))]
    following = np.where(np.r_[conversation[1:] == conversation[:-1], False], np.arange(1, count + 1), -1)
    cause = np.where(rng.random(count) < 0.5, np.arange(count) - 1, -1)
    cause[start[:-1]] = -1
    before = np.where(rng.random(count) < 0.3, start[:-1][conversation], -1)
    before[start[:-1]] = -1
    arrivals = Arrivals(
        at_ns,
        following,
        cause,
        rng.integers(0, 300, count),
        before,
        rng.integers(0, 900, count),
        rng.integers(0, 3, count),
        rng.integers(0, 4, count),
    )
    pace = Pace(np.int64(pace_ns[0]), np.int64(pace_ns[1]), np.int64(most), rng.integers(0, 90, 4))
    left, came = np.zeros(count, np.int64), np.zeros(count, np.int64)
    departures(arrivals, pace, start[:-1], np.zeros(3, np.int64), left, came)
    assert left.tolist() == slow(arrivals, pace, start[:-1].tolist())
    assert (came >= at_ns).all()
    assert (left[left != DROPPED] >= came[left != DROPPED]).all()
