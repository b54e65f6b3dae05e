"""Egress packets as the search for the two clocks sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class EgressPackets:
    """Egress packets as the search sees them; one row for each length map they are looked up under."""

    ts_ns: npt.NDArray[np.int64]
    size_class: npt.NDArray[np.int32]
    up: npt.NDArray[np.bool_]
    row: npt.NDArray[np.int32]
    """Row of the egress packet table."""

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> EgressPackets:
        """The packets at ``index``."""
        return EgressPackets(self.ts_ns[index], self.size_class[index], self.up[index], self.row[index])
