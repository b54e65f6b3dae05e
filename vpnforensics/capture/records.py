"""Index of the records of a capture: what a walker hands to the packet decoder, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BATCH_RECORDS = 4096
"""Few enough that the headers just walked over are still in the cache when they are decoded."""


class RecordBatch(NamedTuple):
    """Preallocated columns of records."""

    at: npt.NDArray[np.int64]
    """Where the captured bytes begin in the window's buffer."""
    captured_bytes: npt.NDArray[np.int32]
    wire_bytes: npt.NDArray[np.int32]
    ts_ns: npt.NDArray[np.int64]
    iface: npt.NDArray[np.uint32]
    """Which of the walker's interfaces."""

    @classmethod
    def with_room(cls, capacity: int = BATCH_RECORDS) -> RecordBatch:
        """Columns for so many records."""
        return cls(
            np.empty(capacity, np.int64),
            np.empty(capacity, np.int32),
            np.empty(capacity, np.int32),
            np.empty(capacity, np.int64),
            np.empty(capacity, np.uint32),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What one call of a walker did."""

    count: int
    """Records in the batch."""
    pos: int
    """Where the next record begins."""
    status: int
    """One of the statuses of the walkers' kernels."""
