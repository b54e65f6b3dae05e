"""Whether a record that is not there may have been missed: loops over the holes in the counters."""

from __future__ import annotations

import numpy as np

from vpnforensics.align._kernels import first_at_least
from vpnforensics.kernels import kernel

WHOLE, LITTLE, UNCOUNTED = 0, 1, 6
"""What a tunnel's counter says of a stretch of time: nothing was missed, or there is no counter. In between,
something was: of all that was sent about the first hole there, up to a share of :data:`SHARES`, or more; up
to the first share, little."""
SHARES = (0.25, 0.5, 0.75, 0.9)
KINDS = 2 * (UNCOUNTED + 1)
"""These of either direction: ``2 * which + up``."""


@kernel
def kind_of(holes, tunnel, up, first_ns, last_ns):  # type: ignore[no-untyped-def]
    """What the counter of a tunnel's direction says of [first, last], as ``2 * which + up``."""
    way = 1 if up else 0
    side = 2 * tunnel + way
    if not holes.counted[side]:
        return 2 * UNCOUNTED + way
    stop = holes.start[side + 1]
    h = first_at_least(holes.last_ns, holes.start[side], stop, first_ns)
    return 2 * (holes.which[h] if h < stop and holes.first_ns[h] <= last_ns else WHOLE) + way


@kernel
def share_missed(start, first_ns, last_ns, missing, record_start, record_ns, reach_ns):  # type: ignore[no-untyped-def]
    """Of all records that were sent within reach of each hole, the share that is missing; float64.

    Parameters
    ----------
    start : ndarray of int64, shape (sides + 1,)
    first_ns, last_ns, missing : ndarray of int64, shape (holes,)
        Of the holes ``start[s]:start[s + 1]`` of side s: between which times, and how many records.
    record_start, record_ns : ndarray of int64
        Likewise of the records that are there.
    reach_ns : int
    """
    share = np.empty(missing.size, np.float64)
    for s in range(start.size - 1):
        low = high = start[s]
        lost = 0
        for h in range(start[s], start[s + 1]):
            begin, end = first_ns[h] - reach_ns, last_ns[h] + reach_ns
            while high < start[s + 1] and first_ns[high] <= end:
                lost += missing[high]
                high += 1
            while last_ns[low] < begin:
                lost -= missing[low]
                low += 1
            first = first_at_least(record_ns, record_start[s], record_start[s + 1], begin)
            there = first_at_least(record_ns, first, record_start[s + 1], end + 1) - first
            share[h] = lost / (lost + there)
    return share
