"""Each kernel of the header-field engines against a slow, obvious version of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.groups import grouped
from vpnforensics.features import _counter_kernels as k

SEEDS = range(8)


def totals(counter: np.ndarray, start: np.ndarray) -> np.ndarray:
    total = np.empty(len(counter), np.int64)
    k.counter_totals(counter, start, 64, 1 << 20, total)
    return total


@pytest.mark.parametrize("seed", SEEDS)
def test_totals_of_several_counters_are_those_of_each(seed):
    rng = np.random.default_rng(seed)
    start, _ = grouped(rng, 6, 40)
    counter = rng.integers(0, 2**40, 6).repeat(np.diff(start)) + rng.integers(0, 90, start[-1])
    alone = [totals(counter[a:b], np.array([0, b - a])) for a, b in itertools.pairwise(start)]
    assert totals(counter, start).tolist() == np.concatenate(alone).tolist()
