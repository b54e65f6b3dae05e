"""The two forms of a journal: JSON Lines, and a folder of Parquet files."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vpnforensics.reftunnel.files import new_file
from vpnforensics.reftunnel.journal_block import Block, Ints
from vpnforensics.reftunnel.journal_columns import Texts, decode

PARQUET = ".parquet"
TALLY = struct.Struct("<Q")
"""How many rows can be read, in memory that the writer shares with the tunnel."""
Tell = Callable[[int], None]
PART_ROWS = 1 << 20
PART_AGE_S = 10.0
"""A Parquet file can be read once it is closed; it is after so many rows, or so long after its first."""


class Writer(Protocol):
    """One of the two forms."""

    def write(self, block: Block) -> None:
        """Append a block."""

    def due_s(self) -> float | None:
        """Seconds until `tick` is needed; None for never."""

    def tick(self) -> None:
        """Make readable what has waited long enough."""

    def close(self) -> None:
        """Finish."""


class JsonLinesWriter:
    """A JSON object a line; a block is written with one call.

    Parameters
    ----------
    fd : int
        Descriptor of the file.
    tell : callable
        Gets the number of rows that can be read, whenever there are more.
    """

    def __init__(self, fd: int, tell: Tell = lambda rows: None) -> None:
        self._file = os.fdopen(fd, "wb", buffering=0)
        self._tell, self._rows = tell, 0

    def write(self, block: Block) -> None:
        """Append a block."""
        columns = decode(block)
        lists = [
            value.to_list() if isinstance(value, Texts) else value.tolist() for value in columns.values()
        ]
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True))
        text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
        left, before = memoryview(text.encode()), self._file.tell()
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(before)  # a full disk takes half a line, too
            raise
        self._rows += len(block.kind)
        self._tell(self._rows)

    def due_s(self) -> None:
        """Never: a block is in the file at once."""

    def tick(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class ParquetWriter:
    """A folder of Parquet files, one row group a block; only texts as dictionaries.

    A Parquet file has its index at its end: one that was not closed cannot be read. So none is long, and each
    gets its name when it is closed: readers of the folder see the closed ones.

    Parameters
    ----------
    fd : int
        Descriptor of the folder.
    tell : callable
        Gets the number of rows that can be read, whenever there are more.
    """

    def __init__(self, fd: int, tell: Tell = lambda rows: None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa, self._pq, self._folder = pa, pq, fd
        self._parts = self._rows = self._closed_rows = 0
        self._tell = tell
        self._file: Any = None
        self._part: Any = None
        self._due_at = 0.0

    def write(self, block: Block) -> None:
        """Append a block."""
        columns = decode(block)
        arrays = {name: self._column(value) for name, value in columns.items()}
        # Levels that tell which values are missing cost a third, and none is.
        schema = self._pa.schema(
            [self._pa.field(name, array.type, nullable=False) for name, array in arrays.items()]
        )
        if self._part is None:
            # Looking for repetition where there is none, and zstd, would cost as much as everything else.
            texts = [name for name, value in columns.items() if isinstance(value, Texts)]
            self._file = os.fdopen(
                new_file(Path(self._name(is_open=True)), "the journal", self._folder), "wb"
            )
            self._part = self._pq.ParquetWriter(
                self._file, schema, compression="lz4", use_dictionary=texts, write_statistics=False
            )
            self._due_at = time.monotonic() + PART_AGE_S
        self._part.write_table(self._pa.table(arrays, schema=schema))
        self._rows += len(block.kind)
        if self._rows >= PART_ROWS:
            self._close_part()
        self.tick()

    def due_s(self) -> float | None:
        """Seconds until the file that is being written is to be closed."""
        return None if self._part is None else max(0.0, self._due_at - time.monotonic())

    def tick(self) -> None:
        """Close the file that has been written long enough."""
        if self._part is not None and time.monotonic() >= self._due_at:
            self._close_part()

    def close(self) -> None:
        """Finish the last file."""
        if self._part is not None:
            self._close_part()
        os.close(self._folder)

    def _close_part(self) -> None:
        self._part.close()
        self._file.close()
        self._part, rows, self._rows = None, self._rows, 0
        names = self._name(is_open=True), self._name(is_open=False)
        os.rename(*names, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._parts += 1
        self._closed_rows += rows
        self._tell(self._closed_rows)

    def _name(self, *, is_open: bool) -> str:
        # Readers of a folder of Parquet files pass over names that begin with a dot.
        return f"{'.' if is_open else ''}part-{self._parts:06d}{PARQUET}"

    def _column(self, value: Ints | Texts) -> Any:
        if not isinstance(value, Texts):
            return self._pa.array(value)
        texts = self._pa.array(value.values, self._pa.string())
        return self._pa.DictionaryArray.from_arrays(value.codes.astype(np.int32), texts)


def make_writer(suffix: str, fd: int, tell: Tell) -> Writer:
    """Writer by the suffix of a path: here the user names the format, there is nothing to sniff yet."""
    return ParquetWriter(fd, tell) if suffix == PARQUET else JsonLinesWriter(fd, tell)
