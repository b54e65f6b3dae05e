"""Loops over packets: conversation lookup and splitting."""

from __future__ import annotations

import numpy as np

from vpnforensics.kernels import kernel, wider
from vpnforensics.packets.table import PROTO_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN


@kernel
def count_groups(group, groups):  # type: ignore[no-untyped-def]
    """Where the rows of each group begin once they are in its order, int64, shape (groups + 1,)."""
    start = np.zeros(groups + 1, np.int64)
    for g in group:
        if g >= 0:
            start[g + 1] += 1
    for g in range(groups):
        start[g + 1] += start[g]
    return start


@kernel
def place_groups(group, start, rows):  # type: ignore[no-untyped-def]
    """Write into ``rows`` those of each group, in their order (counting sort), at what :func:`count_groups`
    gave.
    """
    place = start[:-1].copy()
    for i in range(group.size):
        g = group[i]
        if g >= 0:
            rows[place[g]] = i
            place[g] += 1


@kernel
def flow_totals(flow, up, ts_ns, ip_len_bytes, flows):  # type: ignore[no-untyped-def]
    """First and last time, packets up and down, and IP bytes of every flow, each int64 of shape (flows,)."""
    first_ns = np.full(flows, np.iinfo(np.int64).max)
    last_ns = np.full(flows, np.iinfo(np.int64).min)
    packets = np.zeros((2, flows), np.int64)
    ip_bytes = np.zeros(flows, np.int64)
    for i in range(flow.size):
        f = flow[i]
        first_ns[f] = min(first_ns[f], ts_ns[i])
        last_ns[f] = max(last_ns[f], ts_ns[i])
        packets[1 if up[i] else 0, f] += 1
        ip_bytes[f] += ip_len_bytes[i]
    return first_ns, last_ns, packets[1], packets[0], ip_bytes


@kernel
def _mix(a: np.uint64, b: np.uint64) -> np.uint64:
    """Avalanche two words into one (the finaliser of splitmix64)."""
    z = a ^ (b * np.uint64(0x9E3779B97F4A7C15))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def assign_flows(  # type: ignore[no-untyped-def]
    ts_ns, src, dst, sport, dport, proto, tcp_flags, seq, idle_tcp_ns, idle_other_ns, flow, forward
):
    """Write the flow number of every packet, in order of first appearance.

    A conversation is the unordered pair of endpoints and the protocol. It is split when it was idle
    for longer than allowed, and when a TCP SYN with a new sequence number reuses it after its end.

    Parameters
    ----------
    flow : ndarray of int32, shape (n,)
        Is written.
    forward : ndarray of bool, shape (n,)
        Is written: whether the packet's source is the source of its flow's first packet.

    Returns
    -------
    ndarray of int64, shape (flows,)
        Row of each flow's first packet.
    """
    n = ts_ns.size
    capacity = 1024
    slots = np.full(capacity, -1, np.int32)
    # What is known of a flow stands together: a packet costs one look into memory, not one a column.
    ends = np.empty((1024, 3), np.uint64)  # lower end with the protocol, higher end, first packet's source
    state = np.empty((1024, 4), np.int64)  # last time, latest bare SYN's sequence number, closed, first row
    flows = 0
    used = 0
    for i in range(n):
        a = (np.uint64(np.uint32(src[i])) << np.uint64(16)) | np.uint64(sport[i])
        b = (np.uint64(np.uint32(dst[i])) << np.uint64(16)) | np.uint64(dport[i])
        low, high = (a, b) if a <= b else (b, a)
        low |= np.uint64(proto[i]) << np.uint64(48)
        slot = np.int64(_mix(low, high) & np.uint64(capacity - 1))
        found = -1
        while slots[slot] >= 0:
            f = slots[slot]
            if ends[f, 0] == low and ends[f, 1] == high:
                found = f
                break
            slot = (slot + 1) & (capacity - 1)
        bare_syn = proto[i] == PROTO_TCP and (tcp_flags[i] & (TCP_SYN | TCP_ACK)) == TCP_SYN
        if found >= 0:
            idle = idle_tcp_ns if proto[i] == PROTO_TCP else idle_other_ns
            if ts_ns[i] - state[found, 0] > idle or (
                bare_syn
                and state[found, 1] != np.int64(seq[i])
                and (state[found, 2] != 0 or state[found, 1] >= 0)
            ):
                found = -1
        if found < 0:
            if flows == len(ends):
                ends, state = wider(ends), wider(state)
            if slots[slot] < 0:
                used += 1
            found = flows
            flows += 1
            ends[found, 0], ends[found, 1], ends[found, 2] = low, high, a
            state[found, 1], state[found, 2], state[found, 3] = -1, 0, i
            slots[slot] = found  # a split conversation's slot now means its newest flow
            if 2 * used > capacity:
                capacity *= 2
                larger = np.full(capacity, -1, np.int32)
                for f in slots:
                    if f < 0:
                        continue
                    slot = np.int64(_mix(ends[f, 0], ends[f, 1]) & np.uint64(capacity - 1))
                    while larger[slot] >= 0:
                        slot = (slot + 1) & (capacity - 1)
                    larger[slot] = f
                slots = larger
        if bare_syn:
            state[found, 1] = np.int64(seq[i])
        if proto[i] == PROTO_TCP and tcp_flags[i] & (TCP_FIN | TCP_RST):
            state[found, 2] = 1
        state[found, 0] = ts_ns[i]
        flow[i] = found
        forward[i] = a == ends[found, 2]
    return state[:flows, 3].copy()


@kernel
def equal_to_recent(  # type: ignore[no-untyped-def]
    ts_ns, signed, words, shorts, octets, heads, iface, ttl, apart_ns
):
    """Packets whose columns all equal those of one at most ``apart_ns`` before, which is no copy itself.

    Parameters
    ----------
    ts_ns : ndarray of int64
    signed, words, shorts, octets : tuple of ndarray
        Columns to compare, of one dtype each.
    heads : ndarray of uint64, shape (n, words)
    iface, ttl : ndarray
        Equal in a packet captured twice at one place; behind a router, TTL is lower and iface any.
    apart_ns : int

    Returns
    -------
    twice, later_hop : ndarray of bool, shape (n,)
    """
    n = ts_ns.size
    twice, later_hop = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    cells = 1 << 14  # of the latest packets by digest; one that another displaced is merely not recognised
    digests = np.zeros(cells, np.uint64)
    seen_ns = np.full(cells, np.iinfo(np.int64).min // 2)
    place = np.zeros(cells, np.int64)
    for i in range(n):
        digest = np.uint64(0)
        for column in signed:
            digest = _mix(digest, np.uint64(np.uint32(column[i])))
        for column in words:
            digest = _mix(digest, np.uint64(column[i]))
        packed = np.uint64(0)
        for column in octets:
            packed = packed << np.uint64(8) | np.uint64(column[i])
        digest = _mix(digest, packed)
        for column in shorts:
            digest = _mix(digest, np.uint64(column[i]))
        for k in range(heads.shape[1]):
            digest = _mix(digest, heads[i, k])
        cell = np.int64(digest & np.uint64(cells - 1))
        here = np.int64(iface[i]) << 8 | np.int64(ttl[i])
        if digests[cell] == digest and 0 <= ts_ns[i] - seen_ns[cell] <= apart_ns:
            if np.int64(ttl[i]) < place[cell] & 0xFF:
                later_hop[i] = True
                continue
            if here != place[cell]:  # of another interface
                cell ^= 1
        if digests[cell] == digest and 0 <= ts_ns[i] - seen_ns[cell] <= apart_ns and here == place[cell]:
            twice[i] = True
            continue
        digests[cell] = digest
        seen_ns[cell] = ts_ns[i]
        place[cell] = here
    return twice, later_hop
