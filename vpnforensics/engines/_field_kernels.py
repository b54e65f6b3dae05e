"""Loops over packets of the header-field engines: counters, lengths, fields, handshakes."""

from __future__ import annotations

import numpy as np

from vpnforensics.kernels import kernel

_AROUND = 5
"""Packets around a count, by whose median a stray one is known."""
_SYN, _ACK = 0x02, 0x10


@kernel
def counter_totals(counter, start, reordered, jump):  # type: ignore[no-untyped-def]
    """Packets sent up to each record, by clear counters that may be re-ordered, have gaps, and start anew.

    Parameters
    ----------
    counter : ndarray of int64, shape (n,)
    start : ndarray of int64, shape (groups + 1,)
        ``counter[start[g]:start[g + 1]]`` count together, in order of time.
    reordered, jump : int
        A step back by more than ``reordered``, or ahead by more than ``jump``, is a new key's, with a counter
        of its own. A count so far off those around it is of the old key while the new one is in use: it
        counts as they do.

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    total = np.empty(counter.size, np.int64)
    window = np.empty(_AROUND, np.int64)
    for g in range(start.size - 1):
        first, stop = start[g], start[g + 1]
        earlier_keys, begun, highest, reached, last = 0, 0, 0, 0, 0
        for i in range(first, stop):
            value = counter[i]
            if stop - first >= _AROUND:
                for k in range(_AROUND):  # sorted as they come; at the ends the last one repeats
                    j = min(max(i + k - _AROUND // 2, first), stop - 1)
                    place = k
                    while place and window[place - 1] > counter[j]:
                        window[place] = window[place - 1]
                        place -= 1
                    window[place] = counter[j]
                if abs(value - window[_AROUND // 2]) > reordered:
                    value = window[_AROUND // 2]
            if i == first or value - last < -reordered or value - last > jump:
                earlier_keys += highest
                begun, highest = value, 0
            last = value
            highest = max(highest, value - begun + 1)
            reached = max(reached, earlier_keys + value - begun + 1)
            total[i] = reached
    return total


@kernel
def _advance(ts_ns, total, first_ns, last_ns):  # type: ignore[no-untyped-def]
    low, high = np.searchsorted(ts_ns, first_ns), np.searchsorted(ts_ns, last_ns)
    return (total[high - 1] if high else 0) - (total[low - 1] if low else 0)


@kernel
def windows_covered(  # type: ignore[no-untyped-def]
    group, begin_ns, needed, start, ts_ns, total, window_ns, slack_ns, most_windows
):
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
    n = group.size
    have = np.full(n, -1, np.int64)
    suffice, windows = np.zeros(n, np.int64), np.zeros(n, np.int64)
    usual = np.empty(0, np.int64)
    for i in range(n):
        mine = slice(start[group[i]], start[group[i] + 1])
        ts, sent = ts_ns[mine], total[mine]
        if not ts.size:
            continue
        first, last = ts[0], ts[-1]
        if i == 0 or group[i] != group[i - 1]:
            every = max(window_ns, (last - first) // most_windows)
            stop = max(last - window_ns, first + 1)
            usual = np.empty((stop - first + every - 1) // every, np.int64)
            low, high = 0, 0
            for k in range(usual.size):
                at = first + k * every
                while low < ts.size and ts[low] < at - slack_ns:
                    low += 1
                while high < ts.size and ts[high] < at + window_ns + slack_ns:
                    high += 1
                usual[k] = (sent[high - 1] if high else 0) - (sent[low - 1] if low else 0)
            usual.sort()
        if begin_ns[i] < first or begin_ns[i] + window_ns > last:
            continue
        have[i] = _advance(ts, sent, begin_ns[i] - slack_ns, begin_ns[i] + window_ns + slack_ns)
        windows[i] = usual.size
        suffice[i] = usual.size - np.searchsorted(usual, needed[i])
    return have, suffice, windows


@kernel
def busiest_windows(flows, start, wanted, ts_ns, window_ns, windows_a_block):  # type: ignore[no-untyped-def]
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
    room = 1024
    out = np.empty((room, 3), np.int64)
    found = 0
    for f in flows:
        window = ts_ns[start[f] : start[f + 1]][wanted[start[f] : start[f + 1]]] // window_ns
        for i in range(1, window.size):
            if window[i] < window[i - 1]:
                window.sort()
                break
        begin, best = 0, -1
        for i in range(window.size):
            if i + 1 < window.size and window[i + 1] == window[i]:
                continue
            packets = i + 1 - begin
            begin = i + 1
            block = window[i] // windows_a_block
            if best < 0 or out[best, 1] // windows_a_block != block:
                if found == room:
                    wider = np.empty((2 * room, 3), np.int64)
                    wider[:room] = out
                    out, room = wider, 2 * room
                best = found
                found += 1
                out[best] = f, window[i], packets
            elif packets > out[best, 2]:
                out[best] = f, window[i], packets
    return out[:found, 0].copy(), out[:found, 1].copy(), out[:found, 2].copy()


@kernel
def longest_packets(start, up, length):  # type: ignore[no-untyped-def]
    """The three greatest lengths of each flow and direction (down, up), ascending; -1 where there are fewer.

    Returns
    -------
    ndarray of int64, shape (flows, 2, 3)
    """
    longest = np.full((start.size - 1, 2, 3), -1, np.int64)
    for f in range(start.size - 1):
        for i in range(start[f], start[f + 1]):
            top = longest[f, 1 if up[i] else 0]
            value = length[i]
            if value > top[2]:
                top[0], top[1], top[2] = top[1], top[2], value
            elif value > top[1]:
                top[0], top[1] = top[1], value
            elif value > top[0]:
                top[0] = value
    return longest


@kernel
def largest_values(group, value, groups):  # type: ignore[no-untyped-def]
    """Of each group the largest value, how often it has it, and its size; int64, shape (groups,) each."""
    largest = np.full(groups, -1, np.int64)
    times, size = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    for i in range(group.size):
        g = group[i]
        size[g] += 1
        if value[i] > largest[g]:
            largest[g], times[g] = value[i], 1
        elif value[i] == largest[g]:
            times[g] += 1
    return largest, times, size


@kernel
def extremes(group, value, wanted, groups):  # type: ignore[no-untyped-def]
    """Least and greatest value of each group among those ``wanted``; (256, 0) without any."""
    low, high = np.full(groups, 256, np.int64), np.zeros(groups, np.int64)
    for i in range(group.size):
        if wanted[i]:
            low[group[i]] = min(low[group[i]], value[i])
            high[group[i]] = max(high[group[i]], value[i])
    return low, high


@kernel
def count_between(start, ts_ns, group, first_ns, last_ns):  # type: ignore[no-untyped-def]
    """How many times of the group lie in [first, last); those of a group are ascending."""
    count = np.empty(group.size, np.int64)
    for i in range(group.size):
        mine = ts_ns[start[group[i]] : start[group[i] + 1]]
        count[i] = np.searchsorted(mine, last_ns[i]) - np.searchsorted(mine, first_ns[i])
    return count


@kernel
def handshakes(start, up, ts_ns, flags):  # type: ignore[no-untyped-def]
    """When each flow's SYN-ACK was answered, and how long after it; -1 where no one answer is to one offer.

    Parameters
    ----------
    start : ndarray of int64, shape (flows + 1,)
    up : ndarray of bool, shape (n,)
    ts_ns : ndarray of int64, shape (n,)
    flags : ndarray of uint8, shape (n,)
        TCP flags, in order of the capture.
    """
    flows = start.size - 1
    answered, took = np.full(flows, -1, np.int64), np.full(flows, -1, np.int64)
    for f in range(flows):
        offer, offers, answer = -1, 0, -1
        for i in range(start[f], start[f + 1]):
            if not up[i] and flags[i] & _SYN and flags[i] & _ACK:
                offer, offers = i, offers + 1
            elif up[i] and flags[i] & (_SYN | _ACK) == _ACK and answer < 0:
                answer = i
        if offers == 1 and answer > offer:  # two offers: whose is the answer?
            answered[f], took[f] = ts_ns[answer], ts_ns[answer] - ts_ns[offer]
    return answered, took
