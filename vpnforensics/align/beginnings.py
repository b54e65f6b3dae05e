"""Packets after a silence: what times alone can be compared by.

Where all packets look alike (padding to one size), each has hundreds of partners that it might be the same
as. The first packet of a tunnel's direction after a silence is also the first one of some flow's after a
silence, and of those there are few.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Ints

QUIET_NS = 100_000_000
"""Silence before a packet: longer than the gaps in a burst that jitter of tens of ms may open."""


def beginnings(group: npt.NDArray[np.integer], ts_ns: Ints) -> Bools:
    """Packets before which their group was silent, the first one of each included.

    Parameters
    ----------
    group : ndarray of int, shape (n,)
        Tunnel or flow, and direction.
    ts_ns : ndarray of int64, shape (n,)
    """
    order = np.lexsort((ts_ns, group))
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (np.diff(group[order]) != 0) | (np.diff(ts_ns[order]) > QUIET_NS)
    found = np.empty(len(order), np.bool_)
    found[order] = begins
    return found
