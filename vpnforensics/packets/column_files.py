"""Columns in files instead of memory: appended to as packets come, mapped when all are there.

How such files are held, and what else lies in some: :mod:`vpnforensics.scratch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.packets.columns import PacketColumns
from vpnforensics.packets.table import ColumnSpec, PacketTable
from vpnforensics.scratch import Scratch, beside, full

_ENOUGH_PACKETS = 1 << 16
"""Handed on together: few enough for the cache, enough that writing them costs little."""


class ColumnFiles:
    """Columns that grow in files; a context manager, which closes these.

    Parameters
    ----------
    folder : str, Path or Scratch
        On a disk with room for about 105 bytes a packet.

    Raises
    ------
    OSError
        It is no folder, or its disk is full.
    """

    def __init__(self, folder: str | Path | Scratch) -> None:
        self._scratch = folder if isinstance(folder, Scratch) else Scratch(folder)
        names = [spec.name for spec in PacketTable.schema()]
        self._files = {name: self._scratch.file() for name in names}

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
            raise full(error, str(self._scratch.folder)) from error

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """All rows by column, mapped: they stay when this object is closed."""
        return {spec.name: self._mapped(spec) for spec in PacketTable.schema()}

    def _mapped(self, spec: ColumnSpec) -> npt.NDArray[Any]:
        shape = (-1, spec.width) if spec.width > 1 else (-1,)
        file = self._files[spec.name]
        if not file.tell():
            return np.empty(0, spec.dtype).reshape(0, *shape[1:])
        return self._scratch.map(file).view(spec.dtype).reshape(shape)

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
    """Let go of the memory that a table in scratch files takes, and what was derived from it and lies beside
    it.
    """
    for scratch in {beside(array) for _, array in packets.columns()}:
        scratch.release()
