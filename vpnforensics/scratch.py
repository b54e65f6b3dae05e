"""Large arrays in files instead of memory: what is derived from a column that lies in a file lies beside it.

Functions that make an array as long as a capture ask the array that they make it from where it is to be
(:func:`beside`), and are the same for both. The files have no names, so that nothing is left of them however
the process ends. Their pages are the kernel's to keep or to write out: of what lies there, memory holds what
was last looked at.

What is as long as a capture only while it is computed, is computed block by block (:meth:`Scratch.filled`):
for what is done element by element, the result is the same to the last bit.

What is computed of some flows after the others is computed where the arrays lie that it is computed from
(:meth:`Scratch.each`): in threads here, or by the workers of a cluster (:mod:`vpnforensics.workers`).
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import IO, Any, TypeVar
from weakref import WeakSet, ref

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_Part = TypeVar("_Part")
_Result = TypeVar("_Result")

_LEAST_BYTES = 1 << 20
"""Smaller arrays stay in memory: a file each would cost more time than it saves memory."""
_BLOCK = 1 << 18
"""Rows of a block: their temporary arrays stay in the cache."""
_MOST_PARTS = 64
"""Of what is computed part by part."""
_THREADS = max(1, min(8, os.cpu_count() or 1))
"""Of the kernels, which run outside the interpreter's lock; more than eight wait for memory."""


_IN_FILES: WeakSet[Scratch] = WeakSet()
"""All of this process, whose memory they share."""


class Mapping(mmap.mmap):
    """A mapped file that knows to which scratch it belongs."""

    scratch: Scratch
    path: str = ""
    """The file's, where others are to map it, too."""


class Scratch:
    """Where large arrays are put.

    Parameters
    ----------
    folder : str or Path, optional
        For files without names; memory, without it.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = folder
        self._mappings: list[ref[Mapping]] = []
        self._lock = Lock()
        if folder is not None:
            _IN_FILES.add(self)

    def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array of undefined content.

        Raises
        ------
        OSError
            The disk is full.
        """
        kind = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, int) else shape
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if self.folder is None or size < max(_LEAST_BYTES, 1):
            return np.empty(shape, kind)
        with self.file() as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise full(error, self.folder) from error
            return self.map(file).view(kind).reshape(shape)

    def file(self) -> IO[bytes]:
        """A new file, to be mapped; it needs a folder."""
        return tempfile.TemporaryFile(dir=self.folder)

    def map(self, file: IO[bytes]) -> npt.NDArray[np.uint8]:
        """The bytes of an open file, which must not be empty; they stay when it is closed."""
        file.flush()
        mapping = Mapping(file.fileno(), 0)
        mapping.scratch = self
        with self._lock:
            self._mappings = [known for known in self._mappings if known() is not None]
            self._mappings.append(ref(mapping))
        return np.frombuffer(mapping, np.uint8)

    def full(self, shape: int | tuple[int, ...], value: Any, dtype: npt.DTypeLike) -> Array:
        """An array of one value."""
        array = self.empty(shape, dtype)
        array[...] = value
        return array

    def filled(self, length: int, dtype: npt.DTypeLike, block: Callable[[slice], Array]) -> Array:
        """An array computed block by block.

        Parameters
        ----------
        length : int
        dtype : dtype
        block : callable
            Gives the values of some rows.
        """
        array = self.empty(length, dtype)
        for rows in blocks(length):
            array[rows] = block(rows)
        return array

    def taken(self, array: Array, index: Array) -> Array:
        """``array[index]``, of rows or marks (bool), one after the other."""
        marks = index.dtype == np.bool_
        length = int(np.count_nonzero(index)) if marks else len(index)
        found = self.empty((length, *array.shape[1:]), array.dtype)
        end = 0
        for rows in blocks(len(index)):
            part = array[rows][index[rows]] if marks else array[index[rows]]
            found[end : end + len(part)] = part
            end += len(part)
        return found

    def copy(self, array: Array) -> Array:
        """The same values."""
        copied = self.empty(array.shape, array.dtype)
        copied[...] = array
        return copied

    def repeated(self, values: Array, start: npt.NDArray[np.int64]) -> Array:
        """Each value as often as its group has rows, ``start[g]:start[g + 1]`` being those of group g."""
        array = self.empty(int(start[-1] - start[0]), values.dtype)
        for groups in blocks(len(values)):
            sizes = np.diff(start[groups.start : groups.stop + 1])
            array[start[groups.start] : start[groups.stop]] = np.repeat(values[groups], sizes)
        return array

    def growing(self, dtype: npt.DTypeLike) -> Growing:
        """An array that is made part by part."""
        return Growing(self, dtype)

    def each(
        self, function: Callable[..., _Result], parts: Sequence[_Part], *given: object
    ) -> Iterator[_Result]:
        """``function(part, *given)`` of every part, in the order of the parts.

        Of threads, only a few parts are ahead of who takes the results: all may be more than memory holds.

        Parameters
        ----------
        function : callable
            Of a module, by its name: another process may have to find it. What counts is what it returns:
            what it writes into arrays that it is given may be lost, and is looked at by no other part.
        parts : sequence
        *given : object
            The same for all.
        """
        ahead: deque[Future[_Result]] = deque()
        for part in parts:
            if len(parts) < 2:
                yield function(part, *given)
                return
            ahead.append(_threads().submit(function, part, *given))
            if len(ahead) > 2 * _THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def release(self) -> None:
        """Let go of what memory holds of the files; they are read again when looked at."""
        with self._lock:
            known = [mapping() for mapping in self._mappings]
        for mapping in known:
            if mapping is not None:
                mapping.madvise(mmap.MADV_DONTNEED)  # shared: what was written stays in its file

    def flush(self) -> None:
        """Have what was written to the files reach other machines that see them."""
        with self._lock:
            known = [mapping() for mapping in self._mappings]
        for mapping in known:
            if mapping is not None:
                mapping.flush()


def release_all() -> None:
    """Let go of what memory holds of any scratch file of this process; any thread may, at any time."""
    for scratch in list(_IN_FILES):
        scratch.release()


class Growing:
    """An array whose length is known when its last part is."""

    def __init__(self, scratch: Scratch, dtype: npt.DTypeLike) -> None:
        self._scratch, self._dtype = scratch, np.dtype(dtype)
        self._parts: list[Array] = []
        self._file: IO[bytes] | None = None

    def append(self, part: Array) -> None:
        """Values more.

        Raises
        ------
        OSError
            The disk is full.
        """
        self._parts.append(part.astype(self._dtype, copy=False))
        if self._scratch.folder is not None and sum(part.nbytes for part in self._parts) >= _LEAST_BYTES:
            if self._file is None:
                self._file = self._scratch.file()
            try:
                for kept in self._parts:
                    self._file.write(np.ascontiguousarray(kept).data)
            except OSError as error:
                raise full(error, self._scratch.folder) from error
            self._parts = []

    def whole(self) -> Array:
        """All of it; nothing may be appended after."""
        rest = np.concatenate([np.zeros(0, self._dtype), *self._parts])
        if self._file is None:
            return rest
        with self._file as file:
            file.write(rest.data)
            return self._scratch.map(file).view(self._dtype)


@cache
def _threads() -> ThreadPoolExecutor:
    """One pool for all: a case makes hundreds of short calls."""
    return ThreadPoolExecutor(_THREADS)


os.register_at_fork(after_in_child=_threads.cache_clear)  # threads do not survive a fork

MEMORY = Scratch()


def mapping_of(array: Array) -> Mapping | None:
    """The file that an array lies in, or None."""
    base: Any = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, Mapping) else None


def beside(array: Array) -> Scratch:
    """Where an array lies, and what is derived from it is to be."""
    mapping = mapping_of(array)
    return MEMORY if mapping is None else mapping.scratch


def concatenated(arrays: Sequence[Array]) -> Array:
    """One array after the other, beside the longest."""
    longest = max(arrays, key=len)
    length = sum(map(len, arrays))
    joined = beside(longest).empty((length, *longest.shape[1:]), np.result_type(*arrays))
    return np.concatenate(arrays, out=joined)


def blocks(length: int) -> Iterator[slice]:
    """All rows, block by block."""
    return (slice(begin, min(begin + _BLOCK, length)) for begin in range(0, length, _BLOCK))


def parts_of(start: npt.NDArray[np.integer[Any]], least: int) -> list[slice]:
    """Groups in parts of about as many rows each, ``start[g]:start[g + 1]`` being those of group g.

    They depend on nothing but the groups: sums of floating-point numbers by part are the same everywhere.

    Parameters
    ----------
    start : ndarray of int
    least : int
        Rows that are worth a part of their own.
    """
    groups, rows = len(start) - 1, int(start[-1] - start[0])
    count = max(1, min(_MOST_PARTS, rows // least))
    edges = np.searchsorted(start, start[0] + rows * np.arange(1, count) / count)
    edges = np.r_[0, np.minimum(edges, groups), groups]
    return [slice(begin, end) for begin, end in pairwise(edges.tolist()) if end > begin]


def rows_where(length: int, block: Callable[[slice], npt.NDArray[np.bool_]]) -> npt.NDArray[np.int64]:
    """The rows at which something holds that is asked block by block."""
    found = [np.flatnonzero(block(rows)) + rows.start for rows in blocks(length)]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def counted(numbers: npt.NDArray[np.integer[Any]], least: int = 0) -> npt.NDArray[np.int64]:
    """How often each number from 0 on occurs, of ``least`` numbers at least: :func:`numpy.bincount`, which
    makes a copy of all.
    """
    counts = np.zeros(max(least, int(numbers.max(initial=-1)) + 1), np.int64)
    for rows in blocks(len(numbers)):
        counts += np.bincount(numbers[rows], minlength=len(counts))
    return counts


def ascending(values: Array) -> bool:
    """Whether no value is less than the one before it."""
    pairs = (values[rows.start : rows.stop + 1] for rows in blocks(len(values)))
    return all(bool((some[1:] >= some[:-1]).all()) for some in pairs)


def full(error: OSError, folder: str | Path) -> OSError:
    """That scratch files cannot be written, as an error that says where."""
    return OSError(error.errno, f"scratch files cannot be written: {error.strerror}", str(folder))
