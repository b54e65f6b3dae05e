"""What groups of packets show, against a slow, obvious version of it."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from vpnforensics.engines import grouped as k

SYN, ACK = 2, 16
SEEDS = range(8)


def grouped(rng, groups, most, ordered=True):
    """Bounds of groups of random sizes, some empty, and a time for each member."""
    start = np.r_[0, np.cumsum(rng.integers(0, most, groups))]
    times = [rng.integers(0, 20_000, stop - begin) for begin, stop in itertools.pairwise(start)]
    return start, np.concatenate([np.sort(t) if ordered else t for t in times])


@pytest.mark.parametrize("seed", SEEDS)
def test_windows_of_counters(seed):
    rng = np.random.default_rng(seed)
    window, slack, most = 1_000, 200, 15
    start, ts = grouped(rng, 5, 50)
    total = np.concatenate([np.cumsum(rng.integers(1, 4, b - a)) for a, b in itertools.pairwise(start)])
    group = np.sort(rng.integers(0, 5, 60))
    begin, needed = rng.integers(0, 18_000, 60), rng.integers(1, 12, 60)
    have, suffice, windows = k.windows_covered(group, begin, needed, start, ts, total, window, slack, most)
    for i in range(60):
        mine = slice(start[group[i]], start[group[i] + 1])
        t, sent = ts[mine], np.diff(total[mine], prepend=0)

        def advance(at, t=t, sent=sent):
            return sum(sent[(t >= at - slack) & (t < at + window + slack)])

        if not len(t) or begin[i] < t[0] or begin[i] + window > t[-1]:
            assert have[i] == -1
            continue
        usual = range(t[0], max(t[-1] - window, t[0] + 1), max(window, (t[-1] - t[0]) // most))
        assert have[i] == advance(begin[i])
        assert windows[i] == len(usual)
        assert suffice[i] == sum(advance(at) >= needed[i] for at in usual)


@pytest.mark.parametrize("seed", SEEDS)
def test_busiest_windows(seed):
    rng = np.random.default_rng(seed)
    start, ts = grouped(rng, 7, 60, ordered=False)
    wanted = rng.random(len(ts)) < 0.7
    flows = np.flatnonzero(np.diff(start) >= 5)
    expected = []
    for f in flows.tolist():
        mine = slice(start[f], start[f + 1])
        counts = Counter((ts[mine][wanted[mine]] // 300).tolist())
        for block in sorted({w // 8 for w in counts}):
            inside = sorted(w for w in counts if w // 8 == block)
            best = max(inside, key=lambda w: counts[w])
            expected.append((f, best, counts[best]))
    found = k.busiest_windows(flows, start, wanted, ts, 300, 8)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_values_of_groups(seed):
    rng = np.random.default_rng(seed)
    start, _ = grouped(rng, 9, 12)
    n = start[-1]
    group = np.repeat(np.arange(9), np.diff(start))
    up, value = rng.random(n) < 0.5, rng.integers(30, 60, n)
    longest = k.longest_packets(start, up, value)
    largest, times, size = k.largest_values(group, value, 9)
    low, high = k.extremes(group, value, up, 9)
    for g in range(9):
        mine = value[group == g].tolist()
        for way in (0, 1):
            top = sorted(value[(group == g) & (up == bool(way))].tolist())[-3:]
            assert longest[g, way].tolist() == [-1] * (3 - len(top)) + top
        assert (largest[g], size[g]) == (max(mine, default=-1), len(mine))
        assert times[g] == (mine.count(max(mine)) if mine else 0)
        picked = value[(group == g) & up].tolist()
        assert (low[g], high[g]) == (min(picked, default=256), max(picked, default=0))


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_between(seed):
    rng = np.random.default_rng(seed)
    start, ts = grouped(rng, 5, 40)
    group = rng.integers(0, 5, 50)
    first = rng.integers(0, 20_000, 50)
    last = first + rng.integers(0, 9_000, 50)
    found = k.count_between(start, ts, group, first, last)
    for i in range(50):
        mine = ts[start[group[i]] : start[group[i] + 1]]
        assert found[i] == sum((mine >= first[i]) & (mine < last[i]))
