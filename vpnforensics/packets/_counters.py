"""Cells of the counters that the loops over frames keep."""

from __future__ import annotations

from vpnforensics.capture.encapsulations import NAMES

# Cells of the counter array, in the order of the health fields they become.
(
    ROW,  # rows written so far
    FRAME,  # frames seen so far
    ADDRESSES,  # distinct addresses so far
    LAST_NS,  # time of the last timed frame
    LARGEST_MSS,  # largest MSS announced so far
    SNAPPED,
    CUT_HEADS,
    OUT_OF_ORDER,
    TIME_JUMPS,
    DUPLICATES,
    NON_IP,
    MALFORMED,
    SUPER_FRAMES,
    FRAGMENTS,
    UNSUPPORTED,
    UNTIMED,
    CUT_OPTIONS,
    CUT_HEADERS,
    LATER_HOPS,
    CANDIDATES,  # packets that may be in an encapsulation, by protocol and port
    UNTOLD_WRAPPED,  # rows that are later fragments of such, or have something else than IP inside
    CUT_WRAPPED,  # those of which nothing was captured of what is inside
    ANSWERED,  # not 0 once a wrapped packet came from where others go, or they go to too many places
    WRAPPED,  # and those in each encapsulation, by number
) = range(24)
COUNTERS = WRAPPED + len(NAMES)
