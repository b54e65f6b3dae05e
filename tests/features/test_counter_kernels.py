"""Each kernel of the header-field engines against a slow, obvious version of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vpnforensics.features import _counter_kernels as k

SEEDS = range(8)


def grouped(rng, groups, most, ordered=True):
    """Bounds of groups of random sizes, some empty, and a time for each member."""
    start = np.r_[0, np.cumsum(rng.integers(0, most, groups))]
    times = [rng.integers(0, 20_000, stop - begin) for begin, stop in itertools.pairwise(start)]
    return start, np.concatenate([np.sort(t) if ordered else t for t in times])


@pytest.mark.parametrize("seed", SEEDS)
def test_totals_of_several_counters_are_those_of_each(seed):
    rng = np.random.default_rng(seed)
    start, _ = grouped(rng, 6, 40)
    counter = rng.integers(0, 2**40, 6).repeat(np.diff(start)) + rng.integers(0, 90, start[-1])
    alone = [
        k.counter_totals(counter[a:b], np.array([0, b - a]), 64, 1 << 20)
        for a, b in itertools.pairwise(start)
    ]
    assert k.counter_totals(counter, start, 64, 1 << 20).tolist() == np.concatenate(alone).tolist()
