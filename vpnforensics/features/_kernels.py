"""Loops over packets: order of time, hulls, clock breaks, clocks of short flows, IP-ID steps and strings."""

from __future__ import annotations

import numpy as np

from vpnforensics.kernels import kernel

_HALF32 = np.int64(1) << 31
_WRAP32 = np.int64(1) << 32


@kernel
def summed_log_p(steps, log_p):  # type: ignore[no-untyped-def]
    """Sums of ``log_p[step]``, a row of laws, over steps taken modulo the number of rows."""
    sums = np.zeros(log_p.shape[1])
    mask = log_p.shape[0] - 1
    for i in range(steps.size):
        step = steps[i] & mask
        for k in range(log_p.shape[1]):
            sums[k] += log_p[step, k]
    return sums


@kernel
def id_steps(ip_id, pool, t_ns, log_p, idle_ns, long_step, busy_ns, most_passed):  # type: ignore[no-untyped-def]
    """Steps of counters between neighbours of one pool, IDs read as sent (0) and with bytes exchanged (1).

    Parameters
    ----------
    ip_id, pool, t_ns : ndarray of int64, shape (n,)
        By pool, in order of time within it.
    log_p : ndarray of float64, shape (65536, laws)
        Logarithms of the probability of each step.
    idle_ns, long_step : int
        Steps after so much silence are looked at apart, those above ``long_step`` among them.
    busy_ns, most_passed : int
        Values passed over are counted in steps within ``busy_ns`` and below ``most_passed``.

    Returns
    -------
    log_p : ndarray of float64, shape (2, laws)
        Sums over the steps.
    ones, long, passed : ndarray of int64, shape (2,)
        Steps of 1, long ones after silence, and the values passed over.
    steps, idle : int
        Of all, and after silence.
    """
    sums = np.zeros((2, log_p.shape[1]))
    ones, long, passed = np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(2, np.int64)
    steps, idle = 0, 0
    for i in range(1, ip_id.size):
        if pool[i] != pool[i - 1]:
            continue
        gap = t_ns[i] - t_ns[i - 1]
        steps += 1
        idle += gap >= idle_ns
        for order in range(2):
            a, b = ip_id[i - 1], ip_id[i]
            if order:
                a, b = (a >> 8) | (a & 0xFF) << 8, (b >> 8) | (b & 0xFF) << 8
            step = (b - a) & 0xFFFF
            for k in range(log_p.shape[1]):
                sums[order, k] += log_p[step, k]
            ones[order] += step == 1
            long[order] += gap >= idle_ns and step > long_step
            if gap < busy_ns and step < most_passed:
                passed[order] += max(step - 1, 0)
    return sums, ones, long, passed, steps, idle


@kernel
def upper_hull(x, y):  # type: ignore[no-untyped-def]
    """Indexes of the upper convex hull, left to right; ``x`` ascending (Andrew's monotone chain)."""
    hull = np.empty(x.size, np.int64)
    size = 0
    for i in range(x.size):
        if size and x[hull[size - 1]] == x[i]:
            if y[i] <= y[hull[size - 1]]:
                continue
            size -= 1
        while size >= 2:
            a, b = hull[size - 2], hull[size - 1]
            if (y[b] - y[a]) * (x[i] - x[a]) > (y[i] - y[a]) * (x[b] - x[a]):
                break
            size -= 1
        hull[size] = i
        size += 1
    return hull[:size].copy()


@kernel
def clock_breaks(t_ns, offset_ns, step_ns, tolerance, persist_ns, persist_packets):  # type: ignore[no-untyped-def]
    """Packets at which the offset of a clock begins a new level.

    A packet above the level by more than ``step_ns`` (and the rate tolerance) breaks at once: delay never
    raises an offset. Packets below may be delayed only; they break when they stay below for
    ``persist_ns`` and ``persist_packets``. The level is the last offset that belonged.
    """
    breaks = np.empty(t_ns.size, np.int64)
    count = 0
    level, level_at = offset_ns[0], t_ns[0]
    low_from, low_count = -1, 0
    for i in range(1, t_ns.size):
        slack = step_ns + tolerance * (t_ns[i] - level_at)
        difference = offset_ns[i] - level
        if difference > slack:
            breaks[count] = i
            count += 1
            level, level_at, low_from, low_count = offset_ns[i], t_ns[i], -1, 0
        elif difference >= -slack:
            level, level_at, low_from, low_count = offset_ns[i], t_ns[i], -1, 0
        else:
            if low_from < 0:
                low_from = i
            low_count += 1
            if t_ns[i] - t_ns[low_from] >= persist_ns and low_count >= persist_packets:
                breaks[count] = low_from
                count += 1
                level, level_at, low_from, low_count = offset_ns[i], t_ns[i], -1, 0
    return breaks[:count].copy()


@kernel
def sender_offsets(start, t_ns, tsval, rates_hz, tolerance, least_ticks):  # type: ignore[no-untyped-def]
    """Tick rate and least delayed packet of every sender.

    Parameters
    ----------
    start : ndarray of int64, shape (senders + 1,)
        ``start[s]:start[s+1]`` are the sender's packets, in order of time.
    t_ns : ndarray of int64
        Times since a common origin.
    tsval : ndarray of int64
        As on the wire.
    rates_hz : ndarray of float64
        Tick rates that stacks use, ascending.
    tolerance, least_ticks : float
        Largest relative error of a rate; fewest ticks to tell one.

    Returns
    -------
    hz : ndarray of float64, shape (senders,)
        0 where it cannot be told.
    best : ndarray of int64, shape (senders,)
        Packet with the largest TSval/Hz - t: the least delayed one; -1 without.
    """
    senders = start.size - 1
    hz = np.zeros(senders)
    best = np.full(senders, -1, np.int64)
    for s in range(senders):
        first, last = start[s], start[s + 1] - 1
        if last <= first:
            continue
        ticks = (tsval[last] - tsval[first] + _HALF32) % _WRAP32 - _HALF32
        elapsed = (t_ns[last] - t_ns[first]) * 1e-9
        if ticks < least_ticks or elapsed <= 0.0:
            continue
        raw = ticks / elapsed
        nearest, error = 0.0, tolerance
        for rate in rates_hz:
            if abs(raw / rate - 1.0) <= error:
                nearest, error = rate, abs(raw / rate - 1.0)
        if nearest == 0.0:
            continue
        hz[s] = nearest
        highest = -1e300
        for i in range(first, last + 1):
            unwrapped = (tsval[i] - tsval[first] + _HALF32) % _WRAP32 - _HALF32
            offset = unwrapped / nearest - (t_ns[i] - t_ns[first]) * 1e-9
            if offset > highest:
                highest, best[s] = offset, i
    return hz, best


@kernel
def id_strings(pool, t_ns, ip_id, flow, gap_limit, time_limit_ns, life_ns):  # type: ignore[no-untyped-def]
    """String of every packet: packets whose IDs follow each other (Bellovin 2002).

    Parameters
    ----------
    pool : ndarray of int64, shape (n,)
        Packets of different pools never share a string; ascending.
    t_ns, ip_id : ndarray of int64, shape (n,)
        In order of time within a pool.
    flow : ndarray of int64, shape (n,)
        A packet goes on with its flow's string if it can, else with the nearest.
    gap_limit : int
        Longest step ahead within a string.
    time_limit_ns, life_ns : int
        Longest silence within a string: ``life_ns`` for each packet it has, up to the limit.

    Returns
    -------
    ndarray of int64, shape (n,)
        Numbered from 0 in order of first packet.
    """
    n = ip_id.size
    string = np.empty(n, np.int64)
    length = np.zeros(n, np.int64)
    head = np.empty(n, np.int64)  # latest packet of each string
    flow_string = np.full(flow.max() + 1 if n else 0, -1, np.int64)
    # The packet that a string's latest value came in, by that value; -1 where no string stands there.
    at = np.full(65_536, -1, np.int64)
    count = 0
    begin = 0
    for i in range(n):
        if i and pool[i] != pool[i - 1]:
            for j in range(begin, i):
                at[ip_id[j]] = -1
            begin = i
        found = -1
        own = flow_string[flow[i]]
        if own >= 0 and pool[head[own]] == pool[i]:
            j = head[own]
            ahead = (ip_id[i] - ip_id[j]) & 0xFFFF
            if 1 <= ahead <= gap_limit and at[ip_id[j]] == j and t_ns[i] - t_ns[j] <= time_limit_ns:
                found = j
        for step in range(1, gap_limit + 1):
            if found >= 0:
                break
            j = at[(ip_id[i] - step) & 0xFFFF]
            if j >= 0 and t_ns[i] - t_ns[j] <= min(time_limit_ns, life_ns * length[string[j]]):
                found = j
                break
        if found >= 0:
            string[i] = string[found]
            length[string[i]] += 1
            at[ip_id[found]] = -1
        else:
            # A late packet: a string that has just passed this value.
            for step in range(1, 9):
                j = at[(ip_id[i] + step) & 0xFFFF]
                if j >= 0 and t_ns[i] - t_ns[j] <= 1_000_000_000:
                    found = j
                    break
            if found >= 0:
                string[i] = string[found]
                flow_string[flow[i]] = string[i]
                continue
            string[i] = count
            length[count] = 1
            count += 1
        at[ip_id[i]] = i
        head[string[i]] = i
        flow_string[flow[i]] = string[i]
    return string
