"""Packets with a wrong time: stamped before the clock was set, or by a broken one.

A few of them must not decide when a capture begins or how long it is: work, memory and the age of a clock
depend on that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.scratch import beside

_MIDDLE = (0.1, 0.9)
_FAR_OUT = 1_000  # a capture of which most packets came within an hour may still go on for weeks
_LEAST_SPAN_NS = 1_000_000_000
_LOOKED_AT = 10_000


def not_stray(ts_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which packets lie no further from the middle four fifths than a thousand times their span."""
    if not len(ts_ns):
        return np.ones(0, np.bool_)
    low, high = (
        int(x) for x in np.quantile(ts_ns[:: -(-len(ts_ns) // _LOOKED_AT)], _MIDDLE, method="nearest")
    )
    far_ns = _FAR_OUT * max(high - low, _LEAST_SPAN_NS)
    return beside(ts_ns).filled(
        len(ts_ns), np.bool_, lambda rows: (ts_ns[rows] >= low - far_ns) & (ts_ns[rows] <= high + far_ns)
    )


def begins_ns(ts_ns: npt.NDArray[np.int64]) -> int:
    """When a capture (of one packet or more) begins: the first packet in time, which need not be row 0."""
    return int(ts_ns[not_stray(ts_ns)].min())
