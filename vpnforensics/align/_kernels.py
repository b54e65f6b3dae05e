"""Loops over packets: pairs of size-compatible packets within a window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vpnforensics.arrays import Bools, Int32s, Ints
from vpnforensics.kernels import kernel, wider


class Unsorted(NamedTuple):
    """Records in order of time."""

    tunnel: Int32s
    up: Bools
    size: Int32s
    ts_ns: Ints


class Sorted(NamedTuple):
    """Records by class and time."""

    ts_ns: Ints
    tunnel: Int32s
    record: Int32s
    """Their numbers in order of time."""


@kernel
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


@kernel
def list_offsets(  # type: ignore[no-untyped-def]
    egress_ns, egress_class, class_start, record_ns, weight, low_ns, bin_ns
):
    """Bin and weight of all pairs that :func:`count_offsets` counts."""
    pairs = 0
    for c in egress_class:
        if c >= 0:
            pairs += class_start[c + 1] - class_start[c]
    slot, weights = np.empty(pairs, np.int64), np.empty(pairs, np.float64)
    found = 0
    for j in range(egress_ns.size):
        c = egress_class[j]
        if c < 0:
            continue
        for i in range(class_start[c], class_start[c + 1]):
            slot[found] = (egress_ns[j] - record_ns[i] - low_ns) // bin_ns
            weights[found] = weight[j]
            found += 1
    return slot, weights


@kernel
def first_at_least(values, start, stop, wanted):  # type: ignore[no-untyped-def]
    """First index in [start, stop) of an ascending array whose value is at least ``wanted``."""
    while start < stop:
        middle = (start + stop) >> 1
        if values[middle] < wanted:
            start = middle + 1
        else:
            stop = middle
    return start


@kernel
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


@kernel
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


@kernel
def count_within(egress_ns, egress_class, class_start, record_ns, reach_ns):  # type: ignore[no-untyped-def]
    """Records of each packet's class at most ``reach_ns`` from it, int64."""
    count = np.zeros(egress_ns.size, np.int64)
    for j in range(egress_ns.size):
        c = egress_class[j]
        if c >= 0:
            first = first_at_least(record_ns, class_start[c], class_start[c + 1], egress_ns[j] - reach_ns)
            last = first_at_least(record_ns, first, class_start[c + 1], egress_ns[j] + reach_ns + 1)
            count[j] = last - first
    return count


@kernel
def best_path(evidence, switch):  # type: ignore[no-untyped-def]
    """The line of each packet, in the path of most evidence when every switch costs (Viterbi 1967).

    Parameters
    ----------
    evidence : ndarray of float64, shape (lines, n)
    switch : float

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    lines, n = evidence.shape
    came_from = np.empty((lines, n), np.int64)
    total = np.zeros(lines)
    for j in range(n):
        best = 0
        for k in range(lines):
            if total[k] > total[best]:
                best = k
        lead = total[best] - switch
        for k in range(lines):
            came_from[k, j] = k
            if lead > total[k]:
                came_from[k, j] = best
                total[k] = lead
            total[k] += evidence[k, j]
    path = np.empty(n, np.int64)
    at = 0
    for k in range(lines):
        if total[k] > total[at]:
            at = k
    for j in range(n - 1, -1, -1):
        path[j] = at
        at = came_from[at, j]
    return path


@kernel
def pairs_beside(few_ns, few_up, many_ns, many_up, near_ns, room):  # type: ignore[no-untyped-def]
    """Pairs of one direction at most ``near_ns`` apart; ``many_ns`` ascends, ``few_ns`` need not.

    Returns
    -------
    few, many : ndarray of int64
        Row numbers; at most ``room`` pairs.
    looked_up : int
        So many of the first of ``few`` have all their pairs among them.
    """
    left, right = np.empty(room, np.int64), np.empty(room, np.int64)
    found = 0
    for i in range(few_ns.size):
        before = found
        j = first_at_least(many_ns, 0, many_ns.size, few_ns[i] - near_ns)
        while j < many_ns.size and many_ns[j] <= few_ns[i] + near_ns:
            if many_up[j] == few_up[i]:
                if found == room:
                    return left[:before], right[:before], i
                left[found], right[found] = i, j
                found += 1
            j += 1
    return left[:found], right[:found], few_ns.size


@kernel
def nearest_of_size(  # type: ignore[no-untyped-def]
    few_ns, few_size, few_up, many_ns, many_size, many_up, limit_ns
):
    """How far the nearest packet of the same size and direction stands; ``limit_ns + 1`` where beyond that.

    ``many_ns`` ascends, ``few_ns`` need not.
    """
    nearest = np.empty(few_ns.size, np.int64)
    for i in range(few_ns.size):
        best = limit_ns + 1
        middle = first_at_least(many_ns, 0, many_ns.size, few_ns[i])
        j = middle
        while j < many_ns.size and many_ns[j] - few_ns[i] < best:
            if many_size[j] == few_size[i] and many_up[j] == few_up[i]:
                best = many_ns[j] - few_ns[i]
            j += 1
        j = middle - 1
        while j >= 0 and few_ns[i] - many_ns[j] < best:
            if many_size[j] == few_size[i] and many_up[j] == few_up[i]:
                best = few_ns[i] - many_ns[j]
            j -= 1
        nearest[i] = best
    return nearest


@kernel
def sort_by_class(map_of_tunnel, records, maps, sizes, by_size, found):  # type: ignore[no-untyped-def]
    """Records by side (length map and direction) and size, their order kept within: two counting sorts.

    Records of tunnels without a map (-1) are left out; sizes from ``sizes - 1`` on count as that.

    Parameters
    ----------
    records : Unsorted
    by_size : ndarray of int32
        Room for the numbers of as many.
    found : Sorted
        Are written, from the first on.

    Returns
    -------
    side, class_size, start : ndarray of int64
        Of each class, in order of size: ``2 * map + up``, size, and where its records start.
    count : int
        Of the records written.
    """
    tunnel, up, size, ts_ns = records
    place_of_size, place_of_side = np.zeros(sizes + 1, np.int64), np.zeros(2 * maps + 1, np.int64)
    for i in range(tunnel.size):
        m = map_of_tunnel[tunnel[i]]
        if m >= 0:
            place_of_size[min(size[i], sizes - 1) + 1] += 1
            place_of_side[2 * m + up[i] + 1] += 1
    for s in range(sizes):
        place_of_size[s + 1] += place_of_size[s]
    for s in range(2 * maps):
        place_of_side[s + 1] += place_of_side[s]
    n = place_of_size[sizes]
    for i in range(tunnel.size):
        if map_of_tunnel[tunnel[i]] >= 0:
            s = min(size[i], sizes - 1)
            by_size[place_of_size[s]] = i
            place_of_size[s] += 1
    last_size = np.full(2 * maps, -1, np.int64)
    classes = np.empty((1024, 3), np.int64)
    known = 0
    for k in range(n):
        i = by_size[k]
        side, s = 2 * map_of_tunnel[tunnel[i]] + up[i], min(size[i], sizes - 1)
        at = place_of_side[side]
        place_of_side[side] += 1
        found.ts_ns[at], found.tunnel[at], found.record[at] = ts_ns[i], tunnel[i], i
        if last_size[side] != s:
            last_size[side] = s
            if known == len(classes):
                classes = wider(classes)
            classes[known, 0], classes[known, 1], classes[known, 2] = side, s, at
            known += 1
    return classes[:known, 0], classes[:known, 1], classes[:known, 2], n


@kernel
def look_up_lengths(class_of_length, inner_bytes, up, found):  # type: ignore[no-untyped-def]
    """Write ``class_of_length[up, inner_bytes]`` of every packet into ``found``, int32."""
    for j in range(inner_bytes.size):
        found[j] = class_of_length[1 if up[j] else 0, inner_bytes[j]]
