"""The kernels against slow obvious twins."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vpnforensics.align._kernels import (
    count_offsets,
    first_at_least_from,
    nearest_of_size,
    pairs_beside,
    pairs_within,
)

times = st.lists(st.integers(0, 500), min_size=1, max_size=30)


def _classes(rng: np.random.Generator, records: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes, each ascending in time: start and record times."""
    size_class = np.sort(rng.integers(0, 3, records))
    record_ns = np.concatenate(
        [np.sort(rng.integers(0, 500, int((size_class == c).sum()))) for c in range(3)]
    )
    return np.searchsorted(size_class, np.arange(4)).astype(np.int64), record_ns.astype(np.int64)


@settings(max_examples=80)
@given(st.integers(0, 2**32 - 1), times, st.integers(-80, 40), st.integers(0, 80))
def test_pairs_within(seed: int, egress: list[int], low: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    start, record_ns = _classes(rng, 25)
    egress_ns = np.sort(np.array(egress, np.int64))
    egress_class = rng.integers(-1, 3, len(egress_ns)).astype(np.int32)
    left, right = pairs_within(egress_ns, egress_class, start, record_ns, low, low + width, 10_000)
    expected = [
        (j, i)
        for j in range(len(egress_ns))
        if egress_class[j] >= 0
        for i in range(start[egress_class[j]], start[egress_class[j] + 1])
        if low <= egress_ns[j] - record_ns[i] <= low + width
    ]
    assert sorted(zip(left.tolist(), right.tolist(), strict=True)) == sorted(expected)
    few = pairs_within(egress_ns, egress_class, start, record_ns, low, low + width, 3)
    assert len(few[0]) == min(3, len(expected))


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), times)
def test_count_offsets(seed: int, egress: list[int]) -> None:
    rng = np.random.default_rng(seed)
    start, record_ns = _classes(rng, 25)
    egress_ns = np.array(egress, np.int64)
    egress_class = rng.integers(-1, 3, len(egress_ns)).astype(np.int32)
    weight = rng.random(len(egress_ns))
    found = count_offsets(egress_ns, egress_class, start, record_ns, weight, -500, 7, 150)
    expected = np.zeros(150)
    for j, c in enumerate(egress_class):
        for u in record_ns[start[c] : start[c + 1]] if c >= 0 else ():
            slot = (egress_ns[j] - u + 500) // 7
            if 0 <= slot < 150:
                expected[slot] += weight[j]
    np.testing.assert_allclose(found, expected)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 50), max_size=60), st.integers(0, 60), st.integers(-1, 51))
def test_a_place_is_found_from_anywhere(values: list[int], at: int, wanted: int) -> None:
    ascending = np.sort(np.array(values, np.int64))
    found = first_at_least_from(ascending, min(at, len(values)), 0, len(values), wanted)
    assert found == np.searchsorted(ascending, wanted)


@settings(max_examples=80)
@given(st.integers(0, 2**32 - 1), times, times, st.integers(0, 80))
def test_lookups_beside(seed: int, few: list[int], many: list[int], near: int) -> None:
    rng = np.random.default_rng(seed)
    few_ns, many_ns = np.array(few, np.int64), np.sort(np.array(many, np.int64))
    few_up, many_up = rng.random(len(few_ns)) < 0.5, rng.random(len(many_ns)) < 0.5
    few_size, many_size = rng.integers(0, 3, len(few_ns)), rng.integers(0, 3, len(many_ns))
    apart = np.abs(few_ns[:, None] - many_ns)
    same_way = few_up[:, None] == many_up
    left, right, looked_up = pairs_beside(few_ns, few_up, many_ns, many_up, near, 10_000)
    expected = np.argwhere(same_way & (apart <= near))
    assert np.array_equal(np.column_stack((left, right)), expected)
    assert looked_up == len(few_ns)
    left, right, looked_up = pairs_beside(few_ns, few_up, many_ns, many_up, near, 7)
    assert np.array_equal(np.column_stack((left, right)), expected[expected[:, 0] < looked_up])
    assert len(left) <= 7
    alike = same_way & (few_size[:, None] == many_size) & (apart <= near)
    nearest = np.where(alike, apart, near + 1).min(axis=1)
    got = nearest_of_size(few_ns, few_size, few_up, many_ns, many_size, many_up, near)
    assert np.array_equal(got, nearest)
