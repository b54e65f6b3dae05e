"""Columns in files instead of memory: appended to as packets come, mapped when all are there.

The files have no names, so that nothing is left of them however the process ends. Their pages are the
kernel's to keep or to write out: of a table that lies in scratch files, memory holds what was last looked at.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.packets.columns import PacketColumns
from vpnforensics.packets.table import ColumnSpec, PacketTable

_ENOUGH_PACKETS = 1 << 16
"""Handed on together: few enough for the cache, enough that writing them costs little."""


class ColumnFiles:
    """Columns that grow in files; a context manager, which closes these.

    Parameters
    ----------
    folder : str or Path
        On a disk with room for about 105 bytes a packet.

    Raises
    ------
    OSError
        It is no folder, or its disk is full.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = folder
        names = [spec.name for spec in PacketTable.schema()]
        self._files = {name: tempfile.TemporaryFile(dir=folder) for name in names}  # noqa: SIM115

    def __enter__(self) -> ColumnFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Rows more, of all columns."""
        try:
            for name, file in self._files.items():
                file.write(np.ascontiguousarray(columns[name]).data)
        except OSError as error:
            why = f"scratch files cannot be written: {error.strerror}"
            raise OSError(error.errno, why, str(self._folder)) from error

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """All rows by column, mapped: they stay when this object is closed."""
        return {spec.name: _mapped(self._files[spec.name], spec) for spec in PacketTable.schema()}

    # As a taker of what is decoded:

    def begin(self, decap: str) -> None:
        """Forget what was taken."""
        for file in self._files.values():
            file.seek(0)
            file.truncate()

    def take(self, columns: PacketColumns, path: str, ended: bool) -> None:
        """Take packets out of the columns that they were decoded into."""
        if columns.rows >= _ENOUGH_PACKETS or ended:
            self.append(columns.between(0, columns.rows))
            columns.give_away(columns.rows)


def release(packets: PacketTable) -> None:
    """Let go of the memory that columns in scratch files take; they are read again when looked at."""
    for _, array in packets.columns():
        base: Any = array
        while isinstance(base, np.ndarray) and base.base is not None:
            base = base.base
        if isinstance(base, memoryview):
            base = base.obj
        if isinstance(base, mmap.mmap):
            base.madvise(mmap.MADV_DONTNEED)  # a shared mapping: what was written stays in its file


def _mapped(file: Any, spec: ColumnSpec) -> npt.NDArray[Any]:
    shape = (-1, spec.width) if spec.width > 1 else (-1,)
    file.flush()
    if not file.tell():
        return np.empty(0, spec.dtype).reshape(0, *shape[1:])
    return np.frombuffer(mmap.mmap(file.fileno(), 0), spec.dtype).reshape(shape)
