"""Records of one tap on disk, because a case may be larger than memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Self

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate import frames
from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.surroundings import Records


class Spool:
    """Records of one tap on disk, because a case may be larger than memory; times stay in memory."""

    def __init__(self, folder: Path) -> None:
        self._rows: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._content: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._times: list[Ints] = []
        self._content_bytes = 0

    def add(self, records: Records) -> None:
        """Append a client's records."""
        rows = records.rows
        rows["content"] += self._content_bytes
        self._content_bytes += len(records.content)
        self._times.append(rows["ts_ns"].copy())
        rows.tofile(self._rows)
        records.content.tofile(self._content)

    @property
    def times_ns(self) -> Ints:
        """True times of all records, in the order they were added."""
        return np.concatenate(self._times) if self._times else np.empty(0, np.int64)

    def load(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint8]]:
        """Rows and content as memory maps."""
        self._rows.flush()
        self._content.flush()
        if not self._times or not sum(len(t) for t in self._times):
            return np.empty(0, frames.RECORD), np.empty(0, np.uint8)
        rows = np.memmap(self._rows, frames.RECORD, "r")
        content = np.memmap(self._content, np.uint8, "r") if self._content_bytes else np.empty(1, np.uint8)
        return np.asarray(rows), np.asarray(content)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._content.close()
