"""What the joint model is told of flows and tunnels besides packets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Floats, Int32s, Ints
from vpnforensics.flows.grouping import places

AnyInts = npt.NDArray[np.signedinteger[Any]]


@dataclass(frozen=True, eq=False)
class Hints:
    """What speaks for a flow's tunnels besides its packets: natural logarithms of likelihood ratios."""

    flow: Int32s
    tunnel: Int32s
    log_ratio: Floats
    """Of each of these pairs."""
    elsewhere: Floats
    """Of each flow in any tunnel that is not listed; 0 where nothing is said of it, shape (flows,)."""

    def of(self, flow: AnyInts, tunnel: AnyInts) -> Floats:
        """Of the pairs given."""
        row = self.rows(flow, tunnel)
        return np.asarray(np.where(row >= 0, np.r_[self.log_ratio, 0.0][row], self.elsewhere[flow]))

    def rows(self, flow: AnyInts, tunnel: AnyInts) -> Ints:
        """Row of each of the pairs given, -1 where it is not listed."""
        mine, wanted = (f.astype(np.int64) << 32 | t for f, t in ((self.flow, self.tunnel), (flow, tunnel)))
        return places(mine, wanted)
