"""The loops that build the joint model's graph: which packet may be which record.

An *edge* is a (packet, record) pair within reach of the delay law. A *run* is a packet with edges to one
tunnel. A *group* is those runs of one flow, of one size class, whose edges to that tunnel overlap: they
compete for the same records. A *pair* is a (flow, tunnel) with its groups. A *link* is a group and a record
in its range. Everything is sorted by flow, tunnel, class and time, so that each is a range of the next.

Records are numbered tunnel by tunnel, class by class, ascending in time: those of a group are consecutive.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import first_at_least
from vpnforensics.align.classes import IN_PIECES
from vpnforensics.arrays import Bools, Int32s, Ints
from vpnforensics.engines._hole_kernels import KINDS, kind_of
from vpnforensics.kernels import kernel


class Packets(NamedTuple):
    """Egress packets on the ingress clock, ascending by flow, size class and time."""

    flow: Int32s
    ts_ns: Ints
    up: Bools
    size_class: Int32s
    """0 and up."""


class Reach(NamedTuple):
    """Support of the delay law: bins of ``2 ** step_bits`` ns from ``low_ns``."""

    low_ns: int
    step_bits: int
    bins: int


class Graph(NamedTuple):
    """What may have carried what; ``x_y[i]:x_y[i + 1]`` are the ys of x i."""

    flow_pairs: Ints
    pair_flow: Int32s
    pair_tunnel: Int32s
    pair_groups: Ints
    group_up: Bools
    group_runs: Ints
    """A run is one packet of a group."""
    group_links: Ints
    group_record: Int32s
    """First record of each group's links; the others follow it."""
    run_kind: npt.NDArray[np.uint8]
    """What the tunnel's counter says of each run's time, and its direction."""
    run_edges: Ints
    run_record: Int32s
    """First record of each run's edges; the others follow it."""
    edge_slot: Int32s
    """Bin of the delay law."""
    record_links: Ints
    links_by_record: Int32s
    link_flow: Int32s


@kernel
def span(up, ts_ns, reach):  # type: ignore[no-untyped-def]
    """First time at which a record may have carried a packet, and the first too late for it."""
    high_ns = reach.low_ns + (reach.bins << reach.step_bits)
    if up:
        return ts_ns - high_ns + 1, ts_ns - reach.low_ns + 1
    return ts_ns + reach.low_ns, ts_ns + high_ns


@kernel
def count_edges(packets, class_start, record_ns, reach):  # type: ignore[no-untyped-def]
    """Records in reach of each packet, int32, shape (packets,)."""
    counts = np.zeros(packets.ts_ns.size, np.int32)
    for j in range(packets.ts_ns.size):
        c = packets.size_class[j]
        begin, end = span(packets.up[j], packets.ts_ns[j], reach)
        first = first_at_least(record_ns, class_start[c], class_start[c + 1], begin)
        counts[j] = first_at_least(record_ns, first, class_start[c + 1], end) - first
    return counts


@kernel
def fill_edges(packets, class_start, record_ns, reach, edges):  # type: ignore[no-untyped-def]
    """The ``edges`` pairs that :func:`count_edges` counted: packet, row of the record, bin of the delay;
    int32.
    """
    packet = np.empty(edges, np.int32)
    row = np.empty(edges, np.int32)
    slot = np.empty(edges, np.int32)
    n = 0
    for j in range(packets.ts_ns.size):
        c, t = packets.size_class[j], packets.ts_ns[j]
        begin, end = span(packets.up[j], t, reach)
        i = first_at_least(record_ns, class_start[c], class_start[c + 1], begin)
        while i < class_start[c + 1] and record_ns[i] < end:
            delay = t - record_ns[i] if packets.up[j] else record_ns[i] - t
            packet[n], row[n], slot[n] = j, i, (delay - reach.low_ns) >> reach.step_bits
            n += 1
            i += 1
    return packet, row, slot


@kernel
def kinds_of_runs(tunnel, up, ts_ns, holes, reach):  # type: ignore[no-untyped-def]
    """What the tunnels' counters say of packets that may be in them, uint8.

    Parameters
    ----------
    tunnel, up, ts_ns : ndarray, shape (n,)
        Where each is looked for, its direction and time.
    """
    kind = np.empty(tunnel.size, np.uint8)
    for r in range(tunnel.size):
        first, last = span(up[r], ts_ns[r], reach)
        kind[r] = kind_of(holes, tunnel[r], up[r], first, last - 1)
    return kind


@kernel
def count_kinds(  # type: ignore[no-untyped-def]
    pair_flow, pair_tunnel, map_of_tunnel, start, size_class, up, ts_ns, holes, reach
):
    """Packets of each pair's flow that its tunnel would have carried as one, by kind; (pairs, KINDS)."""
    count = np.zeros((pair_flow.size, KINDS), np.float64)
    for p in range(pair_flow.size):
        k = pair_tunnel[p]
        for j in range(start[pair_flow[p]], start[pair_flow[p] + 1]):
            if size_class[map_of_tunnel[k], j] != IN_PIECES:
                first, last = span(up[j], ts_ns[j], reach)
                count[p, kind_of(holes, k, up[j], first, last - 1)] += 1.0
    return count


@kernel
def first_of_groups(run_pair, run_class, run_record, run_edges, most):  # type: ignore[no-untyped-def]
    """Marks the runs that begin a group: another pair, another class, no record in common, or ``most``
    runs.
    """
    begins = np.zeros(run_pair.size, np.bool_)
    end, runs = -1, 0
    for r in range(run_pair.size):
        apart = r == 0 or run_pair[r] != run_pair[r - 1] or run_class[r] != run_class[r - 1]
        # A run that starts before the one before it does (its packet was turned past the end) is apart, too.
        if apart or run_record[r] >= end or run_record[r] < run_record[r - 1] or runs == most:
            begins[r] = True
            end, runs = -1, 0
        end = max(end, run_record[r] + run_edges[r + 1] - run_edges[r])
        runs += 1
    return begins


@kernel
def begins_of_cells(row, tunnel_start, class_start):  # type: ignore[no-untyped-def]
    """Where the records of another tunnel or class begin, and the end of all; int64.

    Parameters
    ----------
    row : ndarray of int32
        Rows of the size classes by tunnel (``tunnel_start``), ascending in each.
    tunnel_start, class_start : ndarray of int64
    """
    begins = np.empty(1024, np.int64)
    cells = 0
    for k in range(tunnel_start.size - 1):
        begin, stop, c = tunnel_start[k], tunnel_start[k + 1], 0
        while begin < stop:
            if cells + 1 == begins.size:
                more = np.empty(2 * begins.size, np.int64)
                for i in range(cells):
                    more[i] = begins[i]
                begins = more
            begins[cells] = begin
            cells += 1
            while class_start[c + 1] <= row[begin]:
                c += 1
            begin = first_at_least(row, begin, stop, class_start[c + 1])
    begins[cells] = row.size
    return begins[: cells + 1]


@kernel
def records_around(row, tunnel_start, class_start, ts_ns, half_ns, count):  # type: ignore[no-untyped-def]
    """Count the records of the same tunnel and class within ``half_ns`` of each, itself included.

    Parameters
    ----------
    row : ndarray of int32, shape (n,)
        Rows of the size classes by tunnel (``tunnel_start``), ascending in each.
    tunnel_start, class_start : ndarray of int64
    ts_ns : ndarray of int64, shape (n,)
        Their times in that order; ascending within a tunnel and class.
    half_ns : int
    count : ndarray of int32, shape (n,)
        Is written.
    """
    for k in range(tunnel_start.size - 1):
        begin, stop, c = tunnel_start[k], tunnel_start[k + 1], 0
        while begin < stop:
            while class_start[c + 1] <= row[begin]:
                c += 1
            end = first_at_least(row, begin, stop, class_start[c + 1])
            low = high = begin
            for i in range(begin, end):
                while high < end and ts_ns[high] <= ts_ns[i] + half_ns:
                    high += 1
                while ts_ns[low] < ts_ns[i] - half_ns:
                    low += 1
                count[i] = high - low
            begin = end
