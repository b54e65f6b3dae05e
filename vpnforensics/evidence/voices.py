"""What one engine says of each listed pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Floats, Int32s


@dataclass(frozen=True, eq=False)
class Voice:
    """One engine's part in a decision; arrays have one entry a listed pair."""

    engine: str
    score: Floats
    """Raw, decimal logarithm; NaN where silent."""
    llr: Floats
    """Calibrated log10 likelihood ratio; NaN where silent, or where nothing calibrates it."""
    n: Int32s
    """Packets compared."""
    note: tuple[str, ...]
    """What was compared, or why nothing was."""
    claim: Floats | None = None
    """log10 likelihood ratio before it was bounded by the case's comparisons; kept of the joint model's."""

    def take(self, index: npt.NDArray[np.intp]) -> Voice:
        """What it says of the pairs at ``index``."""
        return self.spread(index, "")

    def spread(self, row: npt.NDArray[np.signedinteger], reason: str) -> Voice:
        """Its entries ``row``; where that is -1, silence for this reason."""
        return Voice(
            self.engine,
            np.r_[self.score, np.nan][row],
            np.r_[self.llr, np.nan][row],
            np.r_[self.n, np.int32(0)][row],
            tuple(map((*self.note, reason).__getitem__, row.tolist())),
            None if self.claim is None else np.r_[self.claim, np.nan][row],
        )
