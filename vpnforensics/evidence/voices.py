"""What one engine says of each listed pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Voice:
    """One engine's part in a decision; arrays have one entry a listed pair."""

    engine: str
    score: Floats
    """Raw, decimal logarithm; NaN where silent."""
    llr: Floats
    """Calibrated log10 likelihood ratio; NaN where silent, or where nothing calibrates it."""
    lower: Floats
    upper: Floats
    """Bounds of the likelihood ratios, from the pairs behind them."""
    n: npt.NDArray[np.int32]
    """Packets compared."""
    note: tuple[str, ...]
    """What was compared, or why nothing was."""

    def take(self, index: npt.NDArray[np.intp]) -> Voice:
        """What it says of the pairs at ``index``."""
        return Voice(
            self.engine,
            self.score[index],
            self.llr[index],
            self.lower[index],
            self.upper[index],
            self.n[index],
            tuple(map(self.note.__getitem__, index.tolist())),
        )
