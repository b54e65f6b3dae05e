"""Holes in tunnels' clear counters: when the ingress capture lacks records, and when it lacks none.

A capture that lost packets, or that kept only the heads of a TCP stream's segments, misses records. Where a
tunnel numbers its packets in clear, a missed one leaves a hole between two numbers: it was sent between the
two records beside it. So a packet whose record is not there speaks the more against a tunnel that has no hole
about its time, and hardly against one that has.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Ints
from vpnforensics.engines._hole_kernels import count_near
from vpnforensics.features.counter_advance import advances
from vpnforensics.scratch import rows_where
from vpnforensics.tunnels.table import TunnelSet


class Holes(NamedTuple):
    """Holes of each side (``2 * t + up``: a tunnel's direction): ``start[s]:start[s + 1]`` are side s's."""

    counted: npt.NDArray[np.bool_]
    """Sides that number their records."""
    start: Ints
    first_ns: Ints
    """Time of the last record before each hole, ascending within a side."""
    last_ns: Ints
    """Time of the first record behind it."""


def find_holes(tunnels: TunnelSet, reach_ns: int) -> tuple[Holes, float]:
    """The holes in the counters of all tunnels, and the share of the packets about them that is missing.

    Parameters
    ----------
    tunnels : TunnelSet
    reach_ns : int
        How near to a hole a packet is about it: as far as its record may be from it.
    """
    found = advances(tunnels)
    sides = len(found.start) - 1
    counted = np.diff(found.start) > 0
    total = found.total
    behind = rows_where(len(total) - 1, lambda rows: np.diff(total[rows.start : rows.stop + 1]) > 1) + 1
    behind = behind[~np.isin(behind, found.start)]  # not from one side to the next
    side = np.searchsorted(found.start, behind, side="right") - 1
    start = np.searchsorted(side, np.arange(sides + 1)).astype(np.int64)
    holes = Holes(counted, start, found.ts_ns[behind - 1], found.ts_ns[behind])
    missing = float((total[behind] - total[behind - 1] - 1).sum())
    near = count_near(holes, found.start, found.ts_ns, reach_ns)
    return holes, (missing + 1) / (missing + near + 2)
