"""What each group of packets shows: the largest values, the longest packets.

Sums and searches over whole columns, without a kernel: sorting and searching inside of one cost seconds to
compile, and numpy has both.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Ints
from vpnforensics.flows.grouping import changes

Numbers = npt.NDArray[np.integer]


def longest_packets(start: Ints, up: Bools, length: Numbers) -> Ints:
    """The three greatest lengths of each flow and direction (down, up), ascending; -1 where there are fewer.

    Returns
    -------
    ndarray of int64, shape (flows, 2, 3)
    """
    flows = len(start) - 1
    way = 2 * np.repeat(np.arange(flows), np.diff(start)) + up
    ordered = np.sort(way << 32 | length.astype(np.int64))  # an IP packet has less than 2^32 bytes
    count = np.bincount(way, minlength=2 * flows)
    last = np.cumsum(count) - 1
    longest = np.full((2 * flows, 3), -1, np.int64)
    for k in range(3):
        has = count > k
        longest[has, 2 - k] = ordered[last[has] - k] & 0xFFFFFFFF
    return longest.reshape(flows, 2, 3)


def largest_values(group: Numbers, value: Numbers, groups: int) -> tuple[Ints, Ints, Ints]:
    """Of each group the largest value, how often it has it, and its size; int64, shape (groups,) each."""
    largest = np.full(groups, -1, np.int64)
    np.maximum.at(largest, group, value)
    times = np.bincount(group[value == largest[group]], minlength=groups)
    return largest, times, np.bincount(group, minlength=groups)


def extremes(group: Numbers, value: Numbers, wanted: Bools, groups: int) -> tuple[Ints, Ints]:
    """Least and greatest value of each group among those ``wanted``; (256, 0) without any."""
    low, high = np.full(groups, 256, np.int64), np.zeros(groups, np.int64)
    np.minimum.at(low, group[wanted], value[wanted])
    np.maximum.at(high, group[wanted], value[wanted])
    return low, high


def count_between(start: Ints, ts_ns: Ints, group: Numbers, first_ns: Ints, last_ns: Ints) -> Ints:
    """How many times of the group lie in [first, last); those of a group are ascending."""
    count = np.empty(len(group), np.int64)
    for g, asked in _members(group):
        mine = ts_ns[start[g] : start[g + 1]]
        count[asked] = np.searchsorted(mine, last_ns[asked]) - np.searchsorted(mine, first_ns[asked])
    return count


def _members(group: Numbers) -> Iterator[tuple[int, Ints]]:
    """Each group that occurs, and its rows."""
    order = np.argsort(group, kind="stable")
    begin = np.flatnonzero(changes(group[order]))
    for rows in np.split(order, begin[1:]) if len(begin) else []:
        yield int(group[rows[0]]), rows
