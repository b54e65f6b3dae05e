"""What groups of packets show, against a slow, obvious version of it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.groups import grouped
from vpnforensics.engines import grouped as k

SEEDS = range(8)


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
