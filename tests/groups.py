"""Groups of random sizes, for the kernels that walk them."""

from __future__ import annotations

import itertools

import numpy as np


def grouped(rng, groups, most, ordered=True):
    """Bounds of groups of random sizes, some empty, and a time for each member."""
    start = np.r_[0, np.cumsum(rng.integers(0, most, groups))]
    times = [rng.integers(0, 20_000, stop - begin) for begin, stop in itertools.pairwise(start)]
    return start, np.concatenate([np.sort(t) if ordered else t for t in times])
