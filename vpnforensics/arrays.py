"""Names of arrays in signatures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
"""Times, counts and rows."""
Int32s = npt.NDArray[np.int32]
"""Numbers of flows, tunnels, classes and records."""
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
