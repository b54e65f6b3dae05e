"""What each group of packets shows: the largest values, the longest packets, the busiest windows.

Sums and searches over whole columns, without a kernel: sorting and searching inside of one cost seconds to
compile, and numpy has both.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.integer]


def windows_covered(
    group: Ints,
    begin_ns: Ints,
    needed: Ints,
    start: Ints,
    ts_ns: Ints,
    total: Ints,
    window_ns: int,
    slack_ns: int,
    most_windows: int,
) -> tuple[Ints, Ints, Ints]:
    """Whether counters advance enough in some windows, and how many windows of theirs they do.

    Parameters
    ----------
    group : ndarray of int64, shape (n,)
        Counter that each window is asked of, ascending.
    begin_ns, needed : ndarray of int64, shape (n,)
        Begin of each window, and the advance wanted of it.
    start : ndarray of int64, shape (groups + 1,)
        ``start[g]:start[g + 1]`` are counter g's records.
    ts_ns, total : ndarray of int64
        Times of the records, ascending within a counter, and its packets up to each.
    window_ns, slack_ns : int
        Length of a window, and by how much it is widened at both ends.
    most_windows : int
        Of a counter's own time. Time stamps of a capture may be anything: its span must not size the work.

    Returns
    -------
    have, suffice, windows : ndarray of int64, shape (n,)
        Advance in the window, -1 where the counter was not there all its time; how many of the counter's own
        windows have what is needed, and how many there are.
    """
    have = np.full(len(group), -1, np.int64)
    suffice, windows = np.zeros(len(group), np.int64), np.zeros(len(group), np.int64)
    for g, asked in _members(group):
        ts, sent = ts_ns[start[g] : start[g + 1]], np.r_[0, total[start[g] : start[g + 1]]]
        if not len(ts):
            continue
        first, last = int(ts[0]), int(ts[-1])
        inside = asked[(begin_ns[asked] >= first) & (begin_ns[asked] <= last - window_ns)]
        if not len(inside):
            continue
        every = max(window_ns, (last - first) // most_windows)
        stop = max(last - window_ns, first + 1)
        at = np.r_[first + every * np.arange((stop - first + every - 1) // every), begin_ns[inside]]
        reached = np.searchsorted(ts, at + window_ns + slack_ns)
        advance = sent[reached] - sent[np.searchsorted(ts, at - slack_ns)]
        usual = np.sort(advance[: len(at) - len(inside)])
        have[inside] = advance[len(usual) :]
        windows[inside] = len(usual)
        suffice[inside] = len(usual) - np.searchsorted(usual, needed[inside])
    return have, suffice, windows


def busiest_windows(
    flows: Ints, start: Ints, wanted: Flags, ts_ns: Ints, window_ns: int, windows_a_block: int
) -> tuple[Ints, Ints, Ints]:
    """The window with most packets of each block of each flow; of equal ones the first.

    Parameters
    ----------
    flows : ndarray of int64
        Those to look at, ascending.
    start : ndarray of int64, shape (flows of the case + 1,)
    wanted : ndarray of bool, shape (n,)
        Packets that count.
    ts_ns : ndarray of int64, shape (n,)
        In the order of the file, which need not be that of time.
    window_ns, windows_a_block : int

    Returns
    -------
    flow, window, packets : ndarray of int64
        By flow and time; ``window`` counts from the epoch.
    """
    count = start[flows + 1] - start[flows]
    flow = np.repeat(flows, count)
    row = np.arange(len(flow)) + np.repeat(start[flows] - (np.cumsum(count) - count), count)
    flow, window = flow[wanted[row]], ts_ns[row[wanted[row]]] // window_ns
    if (~_changes(flow)[1:] & (np.diff(window) < 0)).any():
        window = window[np.lexsort((window, flow))]
    begin = np.flatnonzero(_changes(flow) | _changes(window))
    packets = np.diff(np.r_[begin, len(window)])
    flow, window = flow[begin], window[begin]
    block = window // windows_a_block
    order = np.lexsort((window, -packets, block, flow))
    best = order[_changes(flow[order]) | _changes(block[order])]
    return flow[best], window[best], packets[best]


def longest_packets(start: Ints, up: Flags, length: Numbers) -> Ints:
    """The three greatest lengths of each flow and direction (down, up), ascending; -1 where there are fewer.

    Returns
    -------
    ndarray of int64, shape (flows, 2, 3)
    """
    flows = len(start) - 1
    side = 2 * np.repeat(np.arange(flows), np.diff(start)) + up
    ordered = np.sort(side << 32 | length.astype(np.int64))  # an IP packet has less than 2^32 bytes
    count = np.bincount(side, minlength=2 * flows)
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


def extremes(group: Numbers, value: Numbers, wanted: Flags, groups: int) -> tuple[Ints, Ints]:
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


def _changes(column: Numbers) -> Flags:
    """Whether a value differs from the one before it; the first one does."""
    changes = np.ones(len(column), np.bool_)
    changes[1:] = column[1:] != column[:-1]
    return changes


def _members(group: Numbers) -> Iterator[tuple[int, Ints]]:
    """Each group that occurs, and its rows."""
    order = np.argsort(group, kind="stable")
    begin = np.flatnonzero(_changes(group[order]))
    for rows in np.split(order, begin[1:]) if len(begin) else []:
        yield int(group[rows[0]]), rows
