"""Whether a record that is not there may have been missed: loops over the holes in the counters."""

from __future__ import annotations

from vpnforensics.align._kernels import first_at_least
from vpnforensics.kernels import kernel

WHOLE, HOLE, UNCOUNTED = 0, 1, 2
"""What a tunnel's counter says of a stretch of time: nothing was missed, something was, or there is none."""
KINDS = 6
"""These three of either direction: ``2 * which + up``."""


@kernel
def kind_of(holes, tunnel, up, first_ns, last_ns):  # type: ignore[no-untyped-def]
    """What the counter of a tunnel's direction says of [first, last], as ``2 * which + up``."""
    way = 1 if up else 0
    side = 2 * tunnel + way
    if not holes.counted[side]:
        return 2 * UNCOUNTED + way
    stop = holes.start[side + 1]
    h = first_at_least(holes.last_ns, holes.start[side], stop, first_ns)
    return 2 * (HOLE if h < stop and holes.first_ns[h] <= last_ns else WHOLE) + way


@kernel
def count_near(holes, start, ts_ns, reach_ns):  # type: ignore[no-untyped-def]
    """How many records, ``start[s]:start[s + 1]`` being side s's, are within reach of a hole of theirs."""
    near = 0
    for s in range(start.size - 1):
        for i in range(start[s], start[s + 1]):
            first, last = ts_ns[i] - reach_ns, ts_ns[i] + reach_ns
            near += kind_of(holes, s // 2, s % 2 == 1, first, last) // 2 == HOLE
    return near
