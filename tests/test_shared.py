"""What is packed comes out the same, and what is done with it leaves the files as they are."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vpnforensics import scratch, shared
from vpnforensics.engines.case import ScoreTable
from vpnforensics.scratch import MEMORY, beside
from vpnforensics.shared import SharedScratch, pack, unpack

ANY = arrays.arrays(
    st.sampled_from([np.int32, np.int64, np.float64, np.bool_, np.uint8]),
    arrays.array_shapes(max_dims=2, max_side=30),
    elements=st.integers(0, 1),
)


@pytest.fixture
def small(monkeypatch):
    """Any array is large."""
    for module in (scratch, shared):
        monkeypatch.setattr(module, "_LEAST_BYTES", 1)


@pytest.fixture
def place(tmp_path, small):
    with_names = SharedScratch(tmp_path)
    yield with_names
    with_names.close()


@given(ANY, st.sampled_from([slice(None), slice(2, None, 3), slice(None, None, -1)]))
def test_arrays_come_out_the_same_wherever_they_lie(tmp_path_factory, array, part):
    with pytest.MonkeyPatch.context() as patch:
        for module in (scratch, shared):
            patch.setattr(module, "_LEAST_BYTES", 1)
        place = SharedScratch(tmp_path_factory.mktemp("shared"))
        lying = place.copy(array)
        found = unpack(pack((array[part], lying[part], 7), place.path / "value"))
        for each in found[:2]:
            assert each.dtype == array.dtype
            np.testing.assert_array_equal(each, array[part])
        place.close()


def test_an_array_in_a_file_travels_as_its_place(place):
    lying = place.full(100_000, 3, np.int64)
    packed = pack({"of": lying[10:]}, place.path / "value")
    assert len(packed.octets) < 1000
    assert not packed.path
    there = unpack(packed)["of"]
    assert beside(there) is MEMORY
    there[:] = 4
    assert (lying == 3).all()
    lying[10] = 5  # what is written here is seen by who looks then
    assert unpack(packed)["of"][0] == 5


def test_what_lies_in_memory_goes_to_one_file_with_all_that_is_long(place):
    table = ScoreTable(*(np.arange(5, dtype=of) for of in (np.int32, np.int32, np.float64, np.int32)))
    packed = pack((table, "x" * 10_000), place.path / "value")
    assert packed.path == str(place.path / "value")
    assert len(packed.octets) < 200
    back, text = unpack(pickle.loads(pickle.dumps(packed)))
    assert back.score.tolist() == table.score.tolist()
    assert text == "x" * 10_000
    assert [file.name for file in place.path.iterdir()] == ["value"]


def test_what_is_small_needs_no_file(tmp_path):
    packed = pack((np.arange(9), "text"), tmp_path / "value")
    assert not packed.path
    assert unpack(packed)[1] == "text"
    assert not any(tmp_path.iterdir())


def test_a_file_goes_with_its_arrays_and_all_with_the_folder(place, tmp_path):
    array, other = place.full(9, 1, np.int64), place.full(9, 2, np.int64)
    assert len(list(place.path.iterdir())) == 2
    del array
    assert len(list(place.path.iterdir())) == 1
    packed = pack(other, place.path / "value")
    place.close()
    assert not any(tmp_path.iterdir())
    assert other.tolist() == [2] * 9
    with pytest.raises(FileNotFoundError):
        unpack(packed)
    later = place.full(9, 3, np.int64)  # a scratch as any other
    assert beside(later) is place
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_said_with_its_folder(place, monkeypatch):
    class Full:
        def __init__(self, **_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shared.tempfile, "NamedTemporaryFile", Full)
    with pytest.raises(OSError, match="scratch files cannot be written: No space") as caught:
        pack(np.arange(9), place.path / "value")
    assert Path(caught.value.filename) == place.path
