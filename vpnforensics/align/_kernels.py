"""Loops over packets: pairs of size-compatible packets within a window."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def count_offsets(  # type: ignore[no-untyped-def]
    egress_ns, egress_class, class_start, record_ns, weight, low_ns, bin_ns, bins
):
    """Weighted histogram of (egress - record) time over all pairs of one class."""
    histogram = np.zeros(bins, np.float64)
    for j in range(egress_ns.size):
        c = egress_class[j]
        if c < 0:
            continue
        w = weight[j]
        for i in range(class_start[c], class_start[c + 1]):
            b = (egress_ns[j] - record_ns[i] - low_ns) // bin_ns
            if 0 <= b < bins:
                histogram[b] += w
    return histogram


@njit(cache=True, nogil=True)
def first_at_least(values, start, stop, wanted):  # type: ignore[no-untyped-def]
    """First index in [start, stop) of an ascending array whose value is at least ``wanted``."""
    while start < stop:
        middle = (start + stop) >> 1
        if values[middle] < wanted:
            start = middle + 1
        else:
            stop = middle
    return start


@njit(cache=True, nogil=True)
def first_at_least_from(values, at, start, stop, wanted):  # type: ignore[no-untyped-def]
    """:func:`first_at_least`, looked for outwards from index ``at``: quick where it is near."""
    step = 4
    if at < stop and values[at] < wanted:
        start = at + 1
        while start + step < stop and values[start + step] < wanted:
            start += step + 1
            step *= 2
        stop = min(start + step, stop)
    else:
        stop = min(at, stop)
        while stop - step >= start and values[stop - step] >= wanted:
            stop -= step
            step *= 2
        start = max(start, stop - step)
    return first_at_least(values, start, stop, wanted)


@njit(cache=True, nogil=True)
def pairs_within(  # type: ignore[no-untyped-def]
    egress_ns, egress_class, class_start, record_ns, low_ns, high_ns, room
):
    """Pairs of one class with ``low <= egress - record <= high``.

    Returns
    -------
    egress, record : ndarray of int64
        Row numbers; at most ``room`` pairs, the first in order of the egress packets.
    """
    left = np.empty(room, np.int64)
    right = np.empty(room, np.int64)
    found = 0
    for j in range(egress_ns.size):
        c = egress_class[j]
        if c < 0:
            continue
        stop = class_start[c + 1]
        i = first_at_least(record_ns, class_start[c], stop, egress_ns[j] - high_ns)
        while i < stop and egress_ns[j] - record_ns[i] >= low_ns:
            if found == room:
                return left, right
            left[found] = j
            right[found] = i
            found += 1
            i += 1
    return left[:found], right[:found]
