"""Index of the records of a window: what a walker hands to the packet decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BATCH_RECORDS = 4096
"""Few enough that the headers just walked over are still in the cache when they are decoded."""


class RecordBatch:
    """Preallocated columns of records: position, captured and original length, time, interface."""

    def __init__(self, capacity: int = BATCH_RECORDS) -> None:
        self.arrays: tuple[npt.NDArray[Any], ...] = (
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
