"""The two forms of a journal: JSON Lines and Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from vpnforensics.errors import TunnelError
from vpnforensics.extras import how_to_get
from vpnforensics.reftunnel.journal_block import Block, Ints
from vpnforensics.reftunnel.journal_columns import Texts, decode


class Writer(Protocol):
    """One of the two forms."""

    def write(self, block: Block) -> None:
        """Append a block."""

    def close(self) -> None:
        """Finish the file."""


class JsonLinesWriter:
    """A JSON object a line; flushed block by block."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8")

    def write(self, block: Block) -> None:
        """Append a block."""
        columns = decode(block)
        lists = [
            value.to_list() if isinstance(value, Texts) else value.tolist() for value in columns.values()
        ]
        for row in zip(*lists, strict=True):
            self._file.write(json.dumps(dict(zip(columns, row, strict=True)), separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class ParquetWriter:
    """Parquet, one row group a block; only texts as dictionaries."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise TunnelError(f"a Parquet journal: {how_to_get('pyarrow')}") from None
        self._pa, self._pq, self._path = pa, pq, path
        self._file: Any = None
        self._schema: Any = None
        path.open("wb").close()  # fail now, and not when the first block is full

    def write(self, block: Block) -> None:
        """Append a block."""
        columns = decode(block)
        arrays = {name: self._column(value) for name, value in columns.items()}
        if self._file is None:
            # Looking for repetition where there is none, and zstd, would cost as much as everything else;
            # levels that tell which values are missing cost a third, and none is.
            self._schema = self._pa.schema(
                [self._pa.field(name, array.type, nullable=False) for name, array in arrays.items()]
            )
            texts = [name for name, value in columns.items() if isinstance(value, Texts)]
            self._file = self._pq.ParquetWriter(
                self._path, self._schema, compression="lz4", use_dictionary=texts, write_statistics=False
            )
        self._file.write_table(self._pa.table(arrays, schema=self._schema))

    def _column(self, value: Ints | Texts) -> Any:
        if not isinstance(value, Texts):
            return self._pa.array(value)
        texts = self._pa.array(value.values, self._pa.string())
        return self._pa.DictionaryArray.from_arrays(value.codes.astype(np.int32), texts)

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()


def open_writer(path: Path) -> Writer:
    """Writer for a path, by its suffix: here the user names the format, there is nothing to sniff yet."""
    try:
        return ParquetWriter(path) if path.suffix == ".parquet" else JsonLinesWriter(path)
    except OSError as error:
        raise TunnelError(f"cannot write the journal {path}: {error.strerror}") from None
