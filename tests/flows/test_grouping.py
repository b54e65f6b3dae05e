"""Rows by group and time."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.flows.grouping import rows_in_time


@pytest.mark.parametrize("late", [0, 5])
def test_rows_in_time(late):
    rng = np.random.default_rng(late)
    group = rng.integers(-1, 6, 200).astype(np.int32)
    t = np.sort(rng.integers(0, 120, 200)) - rng.integers(0, late + 1, 200)
    rows, start = rows_in_time(group, 6, t)
    for g in range(6):
        mine = sorted(np.flatnonzero(group == g).tolist(), key=lambda i: t[i])
        assert rows[start[g] : start[g + 1]].tolist() == mine
