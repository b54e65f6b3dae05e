"""Times of a capture whose clock was set while it ran."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def ahead_ns(packets: int, rows: Sequence[int], sizes_ns: Sequence[int]) -> npt.NDArray[np.int64]:
    """By how much the clock is ahead of that of the longest part, at each packet.

    Parameters
    ----------
    packets : int
    rows : sequence of int
        First packets after a step.
    sizes_ns : sequence of int
        By how much it was set there, forward positive.
    """
    ahead = np.zeros(packets, np.int64)
    if not packets:
        return ahead
    for row, size_ns in zip(rows, sizes_ns, strict=True):
        ahead[row:] += size_ns
    edges = sorted({0, packets, *rows})
    longest = int(np.argmax(np.diff(edges)))
    return np.asarray(ahead - ahead[edges[longest]])
