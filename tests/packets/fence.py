"""A buffer that ends where memory does: behind its last byte stands a page that cannot be read."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import numpy.typing as npt

_PROT_NONE = 0


class FencedBuffer:
    """Room for a frame in front of an unreadable page."""

    def __init__(self, size: int = 1 << 17) -> None:
        self._map = mmap.mmap(-1, size + mmap.PAGESIZE)
        whole = np.frombuffer(self._map, np.uint8)
        library = ctypes.CDLL(None, use_errno=True)
        result = library.mprotect(
            ctypes.c_void_p(whole.ctypes.data + size), ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE
        )
        assert result == 0
        self._room = whole[:size]

    def holding(self, data: bytes) -> npt.NDArray[np.uint8]:
        """The buffer with these bytes at its very end."""
        if data:
            self._room[-len(data) :] = np.frombuffer(data, np.uint8)
        return self._room


FENCED = FencedBuffer()
