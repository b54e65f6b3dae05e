"""Holes in tunnels' clear counters: when the ingress capture lacks records, and when it lacks none.

A capture that lost packets, or that kept only the heads of a TCP stream's segments, misses records. Where a
tunnel numbers its packets in clear, a missed one leaves a hole between two numbers: it was sent between the
two records beside it. So a packet whose record is not there speaks the more against a tunnel that has no hole
about its time, and hardly against one that has: the less, the more of what was sent there is missing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines._hole_kernels import SHARES, share_missed
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
    which: npt.NDArray[np.int64]
    """How much is missing about it (:mod:`vpnforensics.engines._hole_kernels`)."""


def find_holes(tunnels: TunnelSet, reach_ns: int) -> Holes:
    """The holes in the counters of all tunnels.

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
    first_ns, last_ns = found.ts_ns[behind - 1], found.ts_ns[behind]
    missing = (total[behind] - total[behind - 1] - 1).astype(np.int64)
    share = share_missed(start, first_ns, last_ns, missing, found.start, found.ts_ns, reach_ns)
    which = 1 + np.searchsorted(SHARES, share)
    return Holes(counted, start, first_ns, last_ns, which)


def usual_misses(usual: float, unread: float) -> Floats:
    """Share of packets that miss their record, by kind, before it is learned.

    Parameters
    ----------
    usual, unread : float
        Where nothing is known to be missing, and where there is no counter.
    """
    edges = np.r_[0.0, SHARES, 1.0]
    return np.repeat(np.r_[usual, np.maximum((edges[1:] + edges[:-1]) / 2, usual), unread], 2)
