"""Arrays in files: the same values, the same result, and nothing left of the files."""

from __future__ import annotations

import errno
import os
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import vpnforensics as vf
from vpnforensics import samples, scratch
from vpnforensics.flows.grouping import count_in_groups
from vpnforensics.scratch import MEMORY, Scratch, ascending, beside, concatenated, counted, rows_where

NUMBERS = arrays.arrays(np.int32, st.integers(0, 40), elements=st.integers(0, 9))


@pytest.fixture(scope="module")
def small():
    """Any array is large, and a block is a few rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "_LEAST_BYTES", 1)
        patch.setattr(scratch, "_BLOCK", 7)
        yield


@pytest.fixture(scope="module")
def here(tmp_path_factory, small):
    return Scratch(tmp_path_factory.mktemp("scratch"))


def test_what_is_derived_lies_beside_its_source(here):
    array = here.full((5, 2), 3, np.int16)
    for derived in (array[1:], here.taken(array, np.array([4, 0])), concatenated([array, np.ones((1, 2))])):
        assert beside(derived) is here
    assert beside(np.ones(3)) is beside(array + 1) is beside(here.empty(0, np.int64)) is MEMORY
    assert array.flags.writeable
    assert not any(here.folder.iterdir())


def test_what_is_released_stays(here):
    array = here.copy(np.arange(9000))
    array[3] = 7
    here.release()
    assert array[3] == 7
    assert array.sum() == 9000 * 8999 // 2 + 4


@given(NUMBERS, st.data())
def test_block_by_block_is_as_at_once(here, numbers, data):
    rows = (
        data.draw(arrays.arrays(np.int64, 9, elements=st.integers(0, len(numbers) - 1)))
        if len(numbers)
        else []
    )
    rows = np.asarray(rows, np.int64)
    for where in (here, MEMORY):
        assert np.array_equal(where.taken(numbers, rows), numbers[rows])
        assert np.array_equal(where.taken(numbers, numbers > 4), numbers[numbers > 4])
        assert np.array_equal(
            where.filled(len(numbers), np.int32, lambda some: numbers[some] + 1), numbers + 1
        )
    assert np.array_equal(counted(numbers, 4), np.bincount(numbers, minlength=4))
    assert np.array_equal(
        rows_where(len(numbers), lambda some: numbers[some] > 4), np.flatnonzero(numbers > 4)
    )
    assert ascending(numbers) == (list(numbers) == sorted(numbers))
    both = concatenated([numbers, numbers.astype(np.int64)])
    assert np.array_equal(both, np.concatenate([numbers, numbers]))
    assert both.dtype == np.int64


@given(st.lists(NUMBERS, max_size=9))
def test_groups_and_parts_are_put_together(here, parts):
    sizes = [len(part) for part in parts]
    values, start = np.arange(len(parts), dtype=np.int32), np.r_[0, np.cumsum(sizes, dtype=np.int64)]
    for where in (here, MEMORY):
        assert np.array_equal(where.repeated(values, start), np.repeat(values, sizes))
        growing = where.growing(np.int64)
        for part in parts:
            growing.append(part)
        whole = growing.whole()
        assert whole.dtype == np.int64
        assert np.array_equal(whole, np.concatenate([[], *parts]))
    numbers = np.concatenate([*parts, [1, -1]])
    groups = np.r_[0, np.flatnonzero(np.diff(numbers)) + 1, len(numbers)]
    found = np.array([(numbers[a:b] >= 0).sum() for a, b in pairwise(groups)])
    assert np.array_equal(count_in_groups(numbers, groups), found)


def test_a_full_disk_is_one_error(here, monkeypatch):
    def full(descriptor, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="scratch files cannot be written: No space left") as said:
        here.empty(9, np.int64)
    assert said.value.filename == str(here.folder)


@pytest.mark.parametrize(
    ("name", "least", "block"),
    [
        ("openvpn-tcp", 1, 997),
        ("shadowsocks", 1, 997),
        ("two-clocks", 1, 997),
        ("wireguard", 1, 997),
        ("wireguard", 5_000, 1 << 18),
    ],
)
def test_any_file_and_any_block_give_the_same_case(name, least, block, tmp_path, monkeypatch):
    sample = samples.load(name)
    sides = sample.ingress, sample.egress
    wanted = vf.correlate(*sides).to_dict()
    monkeypatch.setattr(scratch, "_LEAST_BYTES", least)
    monkeypatch.setattr(scratch, "_BLOCK", block)
    found = vf.correlate(*sides, scratch=tmp_path).to_dict()
    del wanted["tool"], found["tool"]
    assert found == wanted
    assert not any(tmp_path.iterdir())


@given(arrays.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 9)), st.integers(1, 30))
def test_parts_cover_all_groups_and_are_about_even(sizes, least):
    start = 5 + np.r_[0, np.cumsum(sizes)]
    parts = scratch.parts_of(start, least)
    assert [g for part in parts for g in range(part.start, part.stop)] == list(range(len(sizes)))
    count = max(1, min(64, int(sizes.sum()) // least))
    assert len(parts) <= count
    rows = [int(sizes[part].sum()) for part in parts]
    assert max(rows) <= sizes.sum() / count + sizes.max()


def test_no_groups_have_no_parts_and_many_rows_no_more_than_64():
    assert scratch.parts_of(np.array([3]), 1) == []
    assert len(scratch.parts_of(np.arange(1001), 1)) == 64


def test_results_come_in_the_order_of_the_parts_whatever_the_threads():
    def less(part, subtrahend):
        return part - subtrahend

    assert list(MEMORY.each(less, range(50), 1)) == list(range(-1, 49))
    assert list(MEMORY.each(less, [3], 0)) == [3]
    assert list(MEMORY.each(less, [], 0)) == []


def test_no_more_threads_than_processors_and_never_more_than_eight():
    assert min(8, os.cpu_count() or 1) == scratch._THREADS
