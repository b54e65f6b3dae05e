"""Logs as they are stored: plain, gzip or zstd, UTF-8 or UTF-16, in a file or from standard input."""

from __future__ import annotations

import gzip
import hashlib
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from io import BufferedReader, BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, cast

from vpnforensics.errors import LogError

_MOST_LINE_BYTES = 1 << 16
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class StoredLog:
    """A log that can be read from the start as often as need be.

    Parameters
    ----------
    path : str
        ``-`` for standard input, which is kept in memory.

    Raises
    ------
    LogError
        It cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fault = ""
        """Why its end could not be read, if so."""
        self._given = sys.stdin.buffer.read() if path == "-" else None
        try:
            with self._open() as file:
                self.sha256 = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
                self.bytes = file.tell()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise LogError(f"{path}: cannot be read: {reason}") from error

    def written(self) -> date:
        """The day, by UTC, on which the file was last written; of standard input, today."""
        if self._given is not None:
            return datetime.now(UTC).date()
        return datetime.fromtimestamp(Path(self.path).stat().st_mtime, UTC).date()

    def lines(self) -> Iterator[str]:
        r"""The lines without their ends; bytes that are no UTF-8 are spelled ``\xff``.

        A line of more than 64 KiB comes in parts. Where compressed data break off, the lines before are good.
        """
        self.fault = ""
        try:
            with self._open() as raw, _unpacked(raw) as file:
                if file.peek(2)[:2] in _UTF_16:
                    reader = TextIOWrapper(cast(BinaryIO, file), "utf-16", errors="replace")
                    while text := reader.readline(_MOST_LINE_BYTES):
                        yield text.rstrip("\r\n")
                    reader.detach()
                    return
                while octets := file.readline(_MOST_LINE_BYTES):
                    yield octets.decode("utf-8", "backslashreplace").rstrip("\r\n\0")
        except Exception as error:  # what a decompressor says of broken data is of no common class
            if (
                not isinstance(error, OSError | EOFError | ValueError)
                and "zstd" not in type(error).__name__.lower()
            ):
                raise
            self.fault = str(error) or type(error).__name__

    def _open(self) -> BinaryIO:
        return BytesIO(self._given) if self._given is not None else Path(self.path).open("rb")


def _unpacked(raw: BinaryIO) -> BufferedReader:
    magic = raw.read(4)
    raw.seek(0)
    file: Any = raw
    if magic.startswith(_GZIP):
        file = gzip.GzipFile(fileobj=raw)
    elif magic == _ZSTD:
        import zstandard

        file = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
    return BufferedReader(file)
