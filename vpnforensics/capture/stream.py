"""The bytes of a stored capture, decompressed, as a succession of windows of bounded size.

A file is read rather than mapped: a mapped capture that is truncated while it is being read (a
rotating ``tcpdump -W``) kills the process, and reading into a buffer that stays in the cache is as
fast. A helper thread reads (and decompresses) ahead while kernels, which release the GIL, decode.
Bytes that belong to a record not yet whole are carried to the front of the next window.
"""

from __future__ import annotations

import hashlib
import os
import queue
import stat
import sys
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import zstandard

from vpnforensics.capture.source import StoredFile
from vpnforensics.errors import CaptureError

CARRY_BYTES = (1 << 20) + 64
"""Room for the unfinished record in front of a window."""
WINDOW_BYTES = 1 << 20
_BUFFERS = 3

Stored = str | Path | BinaryIO
"""What a capture can be read from."""

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = frozenset(bytes([low, 0x2A, 0x4D, 0x18]) for low in range(0x50, 0x60))
_GZIP_INPUT_BYTES = 1 << 16
_ZSTD_INPUT_BYTES = 1 << 13
"""Small: what comes out of one piece of input is not bounded otherwise."""


@dataclass(slots=True)
class Window:
    """``buf[start:end]`` are the bytes of the capture from ``offset`` on."""

    buf: npt.NDArray[np.uint8]
    start: int
    end: int
    offset: int

    def offset_of(self, pos: int) -> int:
        """Byte offset in the (decompressed) capture of a position in the buffer."""
        return self.offset + pos - self.start


class _Input(Protocol):
    """Where decompressed bytes come from."""

    fault: str

    def readinto(self, view: memoryview) -> int:
        """Fill some of ``view``; 0 at the end, which ``fault`` explains if it came too early."""


class _Stored:
    """The bytes as stored: counted, hashed where they cannot be read twice."""

    def __init__(self, file: BinaryIO, first: bytes, rehash: bool) -> None:
        self.file = file
        self.first = first
        self.consumed = 0
        self.digest = hashlib.sha256() if rehash else None
        self.fault = ""

    def readinto(self, view: memoryview) -> int:
        if self.first:
            count = min(len(view), len(self.first))
            view[:count] = self.first[:count]
            self.first = self.first[count:]
        else:
            count = self.file.readinto(view) or 0  # type: ignore[attr-defined]
        self.consumed += count
        if self.digest is not None:
            self.digest.update(view[:count])
        return int(count)

    def read(self, limit: int) -> bytes:
        piece = bytearray(limit)
        count = self.readinto(memoryview(piece))
        return bytes(piece[:count])


class _Gzip:
    """Members of a gzip file, one after the other (RFC 1952)."""

    def __init__(self, stored: _Stored) -> None:
        self.stored = stored
        self.member: Any = None
        self.pending = b""
        self.fault = ""

    def readinto(self, view: memoryview) -> int:
        while not self.fault:
            if not self.pending:
                self.pending = self.stored.read(_GZIP_INPUT_BYTES)
            if self.member is None or self.member.eof:
                if self.member is not None and not self.pending.strip(b"\0"):
                    if self.pending:  # padding, as tapes and some writers leave it
                        self.pending = b""
                        continue
                    return 0
                self.member = zlib.decompressobj(wbits=31)
            ended = not self.pending
            before = self.member.copy()
            try:
                out = self.member.decompress(self.pending, len(view))
            except zlib.error as error:
                self.fault = f"the gzip data are corrupt ({error})"
                out = self._until_corrupt(before)[: len(view)]
                view[: len(out)] = out
                return len(out)
            self.pending = self.member.unused_data if self.member.eof else self.member.unconsumed_tail
            if out:
                view[: len(out)] = out
                return len(out)
            if ended and not self.member.eof:
                self.fault = "the gzip data end early (an unfinished copy or download?)"
        return 0

    def _until_corrupt(self, member: Any) -> bytes:
        """What the pending input holds before its fault, which a failed call keeps to itself."""
        out = b""
        try:
            for byte in self.pending:
                out += member.decompress(bytes([byte]))
        except zlib.error:
            pass
        return out


class _Zstd:
    """Frames of a zstd file, one after the other (RFC 8878)."""

    def __init__(self, stored: _Stored) -> None:
        self.stored = stored
        self.frame: Any = None
        self.pending = b""
        self.ready = memoryview(b"")
        self.fault = ""

    def readinto(self, view: memoryview) -> int:
        while not self.ready and not self.fault:
            if not self.pending:
                self.pending = self.stored.read(_ZSTD_INPUT_BYTES)
                if not self.pending:
                    if self.frame is not None:
                        self.fault = "the zstd data end early (an unfinished copy or download?)"
                    return 0
            if self.frame is None:
                self.frame = zstandard.ZstdDecompressor().decompressobj()
            try:
                self.ready = memoryview(self.frame.decompress(self.pending))
            except zstandard.ZstdError as error:
                self.fault = f"the zstd data are corrupt ({error})"
                return 0
            self.pending = self.frame.unused_data if self.frame.eof else b""
            if self.frame.eof:
                self.frame = None
        count = min(len(view), len(self.ready))
        view[:count] = self.ready[:count]
        self.ready = self.ready[count:]
        return count


def name_of(source: Stored) -> str:
    """What to call a capture; an open file without a name is ``(an open file)``."""
    if isinstance(source, str | Path):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "(an open file)"


def _open(source: Stored) -> BinaryIO:
    if not isinstance(source, str | Path):
        return source
    path = str(source)
    if path == "-":
        if sys.stdin is None:
            raise CaptureError(path, None, "cannot be opened: standard input is closed")
        standard_input = sys.stdin.buffer
        # The raw file: a thread that dies inside a buffered reader takes the interpreter with it.
        return getattr(standard_input, "raw", standard_input)
    try:
        return Path(path).open("rb", buffering=0)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CaptureError(path, None, f"cannot be opened: {reason}") from error


class CaptureStream:
    """The windows of one stored capture; a context manager.

    Parameters
    ----------
    source : str, Path or binary file
        A file, ``-`` for standard input, or an open one, which is left open.
    window_bytes : int, optional
        Size of a window; smaller ones for a look at the beginning only.

    Raises
    ------
    CaptureError
        It cannot be opened or read.
    """

    def __init__(self, source: Stored, window_bytes: int | None = None) -> None:
        self.path = path = name_of(source)
        self.file = _open(source)
        self._ours = isinstance(source, str | Path) and path != "-"
        self.regular = False
        self.stored_bytes = 0
        self._modified_ns = 0
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._stopped = False
        self._ended = False
        try:
            status = os.fstat(self.file.fileno())
            self.regular = stat.S_ISREG(status.st_mode) and self._ours
            self._modified_ns = status.st_mtime_ns
            self.stored_bytes = status.st_size if stat.S_ISREG(status.st_mode) else 0
        except (OSError, ValueError, AttributeError):  # a stand-in for standard input has no descriptor
            pass
        try:
            first = b""
            while len(first) < 4 and (piece := self.file.read(4 - len(first))):
                first += piece
        except OSError as error:
            self.close()
            raise CaptureError(path, 0, f"cannot be read: {error.strerror}") from error
        self._stored = _Stored(self.file, first, rehash=not self.regular)
        self.compression = ""
        self._input: _Input = self._stored
        if first.startswith(_GZIP_MAGIC):
            self.compression, self._input = "gzip", _Gzip(self._stored)
        elif first == _ZSTD_MAGIC or first in _ZSTD_SKIPPABLE:
            self.compression, self._input = "zstd", _Zstd(self._stored)
        self._free: queue.SimpleQueue[npt.NDArray[np.uint8] | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[npt.NDArray[np.uint8], int]] = queue.SimpleQueue()
        largest = window_bytes or WINDOW_BYTES
        # One byte more than the file, so that a short window says that its end was reached.
        known = self.stored_bytes if self.regular and not self.compression else 0
        self._small = 0 < known < largest
        self._window_bytes = known + 1 if self._small else largest

    def __enter__(self) -> CaptureStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading ahead and close the file."""
        self._stopped = True
        if self._thread is not None:
            self._free.put(None)
            if self.regular:
                self._thread.join()
        if self._ours and (self.regular or self._thread is None or not self._thread.is_alive()):
            self.file.close()

    @property
    def consumed_bytes(self) -> int:
        """Stored bytes read so far."""
        return self._stored.consumed

    @property
    def fault(self) -> str:
        """Why the bytes ended before their container did; empty where they did not."""
        return self._input.fault

    def first_window(self) -> Window:
        """The window at the beginning of the capture; empty where there is nothing."""
        buf = np.empty(CARRY_BYTES + self._window_bytes, np.uint8)
        count = self._fill(buf)
        if count == self._window_bytes and not self._small:
            for _ in range(_BUFFERS - 1):
                self._free.put(np.empty_like(buf))
            self._thread = threading.Thread(target=self._read_ahead, name="read-ahead", daemon=True)
            self._thread.start()
        self._ended = count < self._window_bytes
        self._check()
        return Window(buf, CARRY_BYTES, CARRY_BYTES + count, 0)

    def next_window(self, window: Window, pos: int) -> Window | None:
        """The window that begins at ``pos`` of this one and reaches further; None at the end.

        The buffer of this one is filled again at once: what is needed of it is taken before.
        """
        kept = window.end - pos
        assert 0 <= kept <= CARRY_BYTES
        if self._ended:
            return None
        if self._thread is None:
            buf = np.empty_like(window.buf)
            count = self._fill(buf)
        else:
            buf, count = self._full.get()
        self._check()
        if count < self._window_bytes:
            self._ended = True
        if count == 0:
            return None
        buf[CARRY_BYTES - kept : CARRY_BYTES] = window.buf[pos : window.end]
        if self._thread is not None:
            self._free.put(window.buf)
        return Window(buf, CARRY_BYTES - kept, CARRY_BYTES + count, window.offset_of(pos))

    def drain(self, window: Window, pos: int) -> int:
        """Read to the end without looking; returns the bytes from ``pos`` on."""
        count = window.end - pos
        following = self.next_window(window, window.end)
        while following is not None:
            window = following
            count += window.end - window.start
            following = self.next_window(window, window.end)
        return count

    def stored_file(self) -> StoredFile:
        """The file that was read, once it has been read to its end."""
        digest = self._stored.digest
        if digest is not None:
            return StoredFile(self.path, self.consumed_bytes, known_sha256=digest.hexdigest())
        return StoredFile(self.path, self.stored_bytes, self._modified_ns)

    def _read_ahead(self) -> None:
        while not self._stopped and (buf := self._free.get()) is not None:
            count = self._fill(buf)
            self._full.put((buf, count))
            if count < self._window_bytes:
                break

    def _fill(self, buf: npt.NDArray[np.uint8]) -> int:
        view = memoryview(buf.data)[CARRY_BYTES:]
        filled = 0
        try:
            while filled < len(view) and not self._stopped and (count := self._input.readinto(view[filled:])):
                filled += count
        except Exception as error:  # raised again by the thread that asks for the window
            self._failure = error
        return filled

    def _check(self) -> None:
        if isinstance(self._failure, OSError):
            reason = self._failure.strerror or str(self._failure)
            raise CaptureError(self.path, self.consumed_bytes, f"cannot be read: {reason}") from self._failure
        if self._failure is not None:
            raise self._failure
