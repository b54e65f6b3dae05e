"""Rows by group and time."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.flows.grouping import changes, places, rows_in_time, runs


@pytest.mark.parametrize("late", [0, 5])
def test_rows_in_time(late):
    rng = np.random.default_rng(late)
    group = rng.integers(-1, 6, 200).astype(np.int32)
    t = np.sort(rng.integers(0, 120, 200)) - rng.integers(0, late + 1, 200)
    rows, start = rows_in_time(group, 6, t)
    for g in range(6):
        mine = sorted(np.flatnonzero(group == g).tolist(), key=lambda i: t[i])
        assert rows[start[g] : start[g + 1]].tolist() == mine


def test_where_any_column_changes():
    a, b = np.array([1, 1, 1, 2, 2]), np.array([5, 5, 6, 6, 6])
    assert changes(a).tolist() == [True, False, False, True, False]
    assert changes(a, b).tolist() == [True, False, True, True, False]
    assert changes(a[:1], b[:1]).tolist() == [True]
    assert changes(a[:0]).tolist() == []


def test_runs_of_rows_one_after_the_other():
    first, stop = np.array([3, 0, 5, 5]), np.array([5, 0, 8, 6])
    of, row = runs(first, stop)
    assert of.tolist() == [0, 0, 2, 2, 2, 3]
    assert row.tolist() == [3, 4, 5, 6, 7, 5]
    assert [len(found) for found in runs(first[:0], stop[:0])] == [0, 0]


def test_places_of_keys():
    assert places(np.array([7, 3, 5]), np.array([3, 4, 7, 9, 0])).tolist() == [1, -1, 0, -1, -1]
    assert places(np.zeros(0, np.int64), np.array([0, 1])).tolist() == [-1, -1]
