"""A scratch folder that several processes see: what they are given and give back are names of files.

Large arrays lie in files that have names here, and a value that holds such arrays is packed as where they
lie. So a case of any size travels in a few kilobytes, and whoever unpacks it maps of the files what it looks
at. Arrays that lie in memory are put into one file for each value that is packed.

Whoever unpacks gets a private mapping: what is written there is seen by nobody else, and the files stay as
they are. So a task can be run again, or twice at once, with the same result. A file of a packed value is
written once, under another name first: one that is there is whole.
"""

from __future__ import annotations

import io
import mmap
import pickle
import shutil
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from vpnforensics.scratch import Array, Scratch, full, mapping_of

_LEAST_BYTES = 1 << 14
"""Smaller arrays are packed as they are."""
_MOST_BYTES = 1 << 12
"""Of a packed value: what is larger is put into its file, too."""
_ALIGNED = 64


class Packed(NamedTuple):
    """A value, as it travels."""

    octets: bytes
    """Its pickle, which may be nothing but where it is in a file."""
    path: str = ""
    """File of its own, or none."""


class SharedScratch(Scratch):
    """A scratch whose files have names, until it is closed; from then on it is one as any other.

    Parameters
    ----------
    folder : str or Path
        In which a folder of its own is made, which is removed when it is closed, or when the process ends as
        it should.

    Raises
    ------
    OSError
        It is no folder, or cannot be written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path: Path | None = Path(tempfile.mkdtemp(prefix="vpnforensics-", dir=folder))
        super().__init__(folder)
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def close(self) -> None:
        """Take the names away; arrays stay as they are."""
        self.path = None
        self._remove()

    def file(self) -> IO[bytes]:
        """A new file, to be mapped."""
        if self.path is None:
            return super().file()
        return tempfile.NamedTemporaryFile(dir=self.path, delete=False)

    def map(self, file: IO[bytes]) -> Array:
        """As of any scratch; the file goes with the arrays that lie in it."""
        array = super().map(file)
        mapping = mapping_of(array)
        if self.path is not None and mapping is not None:
            mapping.path = file.name
            weakref.finalize(mapping, _forget, file.name)
        return array


def pack(value: object, path: Path) -> Packed:
    """A value for another process; what of it is large and lies in no named file goes to the file ``path``.

    Raises
    ------
    OSError
        The file cannot be written: the disk is full.
    """
    apart: list[Array] = []
    octets = _pickled(value, str(path), apart)
    if not apart and len(octets) <= _MOST_BYTES:
        return Packed(octets)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            for array in apart:
                file.write(array.data)
                file.write(bytes(-file.tell() % _ALIGNED))
            begin = file.tell()
            file.write(octets)
            file.flush()
        Path(file.name).replace(path)
    except OSError as error:
        raise full(error, path.parent) from error
    return Packed(pickle.dumps((str(path), begin, len(octets))), str(path))


def unpack(packed: Packed) -> Any:
    """The value, its arrays in private mappings of their files.

    Raises
    ------
    FileNotFoundError
        A file has gone.
    """
    opened: dict[str, mmap.mmap] = {}

    def mapped(path: str) -> mmap.mmap:
        if path not in opened:
            with Path(path).open("rb") as file:
                opened[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return opened[path]

    octets: bytes = packed.octets
    if packed.path:
        path, begin, size = pickle.loads(octets)  # noqa: S301 - ours
        octets = mapped(path)[begin : begin + size]
    return _Unpickler(io.BytesIO(octets), mapped).load()


class _Place(NamedTuple):
    """Where an array lies."""

    path: str
    offset: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Pickler(pickle.Pickler):
    """Arrays by their place where they have one, and large ones aside."""

    def __init__(self, file: IO[bytes], path: str, apart: list[Array]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._path, self._apart, self._end = path, apart, 0

    def persistent_id(self, value: Any) -> _Place | None:
        """Its place, of an array that has one; otherwise None."""
        if type(value) is not np.ndarray or value.dtype.hasobject or value.dtype.fields:
            return None
        mapping = mapping_of(value)
        if mapping is not None and mapping.path:
            offset = _address(value) - _address(np.frombuffer(mapping, np.uint8))
            return _Place(mapping.path, offset, value.dtype.str, value.shape, value.strides)
        if value.nbytes < _LEAST_BYTES:
            return None
        array = np.ascontiguousarray(value)
        self._apart.append(array)
        begin = self._end
        self._end += array.nbytes + -array.nbytes % _ALIGNED
        return _Place(self._path, begin, array.dtype.str, array.shape, array.strides)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], mapped: Callable[[str], mmap.mmap]) -> None:
        super().__init__(file)
        self._mapped = mapped

    def persistent_load(self, place: Any) -> Array:
        path, offset, dtype, shape, strides = place
        return np.ndarray(shape, dtype, self._mapped(path), offset, strides)


def _pickled(value: object, path: str, apart: list[Array]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, path, apart).dump(value)
    return file.getvalue()


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _forget(path: str) -> None:
    with suppress(OSError):  # it may have gone with its folder
        Path(path).unlink()
