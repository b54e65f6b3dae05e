"""Egress packets as the search for the two clocks sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Columns


@dataclass(frozen=True, eq=False)
class EgressPackets(Columns):
    """Egress packets as the search sees them; one row for each length map they are looked up under."""

    ts_ns: npt.NDArray[np.int64]
    size_class: npt.NDArray[np.int32]
    up: npt.NDArray[np.bool_]
    row: npt.NDArray[np.int32]
    """Row of the egress packet table."""
