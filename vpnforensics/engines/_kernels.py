"""Loops over packets of the engines: local rates, and which tunnels may have had a flow at all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import first_at_least, first_at_least_from
from vpnforensics.align.classes import IN_PIECES
from vpnforensics.arrays import Int32s, Ints
from vpnforensics.kernels import kernel

LARGE = 1e200
"""A product of steps is turned into its logarithm before it could overflow (one step is below 1e100)."""


class Packets(NamedTuple):
    """Egress packets on the ingress clock; ``start[f]:start[f + 1]`` are flow f's."""

    start: Ints
    ts_ns: Ints
    size_class: Int32s
    """Under one length map; below 0 without."""
    up: npt.NDArray[np.bool_]
    fresh: npt.NDArray[np.uint8]
    """1 for those that do not merely continue a burst of their flow and size."""


class Records(NamedTuple):
    """Records by size class, ascending in time within one."""

    class_start: Ints
    ts_ns: Ints
    tunnel: Int32s


class ByTunnel(NamedTuple):
    """The same records by tunnel, then by size class and time: ``start[k]:start[k + 1]`` are tunnel k's."""

    class_start: Ints
    start: Ints
    row: Int32s
    """Row by size class, ascending within a tunnel."""
    ts_ns: Ints
    gap_ns: npt.NDArray[np.float32]
    """Mean gap of chance records around each: one over the chance rate."""


class Delays(NamedTuple):
    """Tabulated delay law: bins of ``2 ** step_bits`` ns from ``low_ns``."""

    up: npt.NDArray[np.float64]
    """1/ns, as ``down``."""
    down: npt.NDArray[np.float64]
    low_ns: int
    step_bits: int
    width_ns: float
    """Of a uniform law as concentrated as this one."""


@kernel
def chance_gaps(  # type: ignore[no-untyped-def]
    row, tunnel_start, class_start, ts_ns, width_ns, half_window_ns, gap_ns
):
    """How much of the time around each record its tunnel and class occupy, as the mean gap of chance records.

    A record occupies ``width_ns`` around itself, a burst little more than one record. The covered share of
    a window, over ``width_ns``, is the rate of a Poisson stream where records stand alone, and the rate of
    bursts where they do not; the gap is one over it.

    Parameters
    ----------
    row : ndarray of int32, shape (n,)
        Rows of the size classes by tunnel (``tunnel_start``), ascending in each.
    tunnel_start, class_start : ndarray of int64
    ts_ns : ndarray of int64, shape (n,)
        Their times; ascending within a tunnel and class.
    half_window_ns : int
    gap_ns : ndarray of float32, shape (n,)
        Is written; the record itself counts, so every gap is finite.
    """
    for k in range(tunnel_start.size - 1):
        begin, stop, c = tunnel_start[k], tunnel_start[k + 1], 0
        while begin < stop:
            while class_start[c + 1] <= row[begin]:
                c += 1
            end = first_at_least(row, begin, stop, class_start[c + 1])
            low, high = begin, begin
            covered = 0.0  # by the records in [low, high), each up to its successor
            for i in range(begin, end):
                while high < end and ts_ns[high] <= ts_ns[i] + half_window_ns:
                    if high > low:
                        covered += min(ts_ns[high] - ts_ns[high - 1], width_ns)
                    high += 1
                while ts_ns[low] < ts_ns[i] - half_window_ns:
                    covered -= min(ts_ns[low + 1] - ts_ns[low], width_ns)
                    low += 1
                gap_ns[i] = width_ns / min(1.0, (covered + width_ns) / (2.0 * half_window_ns))
            begin = end


@kernel
def fresh_packets(flow_start, ts_ns, size_class, classes, width_ns, renewal_ns, fresh):  # type: ignore[no-untyped-def]
    """Clear ``fresh`` where a packet only continues a burst of its own flow and class.

    A packet follows if one of its class came within ``width_ns`` before it, unless the last fresh one is
    ``renewal_ns`` old.
    """
    last = np.full(classes, -1, np.int64)
    last_fresh = np.full(classes, -1, np.int64)
    for f in range(flow_start.size - 1):
        for j in range(flow_start[f], flow_start[f + 1]):
            c = size_class[j]
            if c < 0:
                continue
            if (
                last[c] >= 0
                and abs(ts_ns[j] - ts_ns[last[c]]) <= width_ns
                and abs(ts_ns[j] - ts_ns[last_fresh[c]]) <= renewal_ns
            ):
                fresh[j] = 0
            else:
                last_fresh[c] = j
            last[c] = j
        for j in range(flow_start[f], flow_start[f + 1]):
            if size_class[j] >= 0:
                last[size_class[j]] = -1


@kernel
def rarest_packets(flow_start, egress_class, fresh, class_count, most):  # type: ignore[no-untyped-def]
    """Up to ``most`` packets a flow that few tunnels could have carried: fresh ones of its rarest classes.

    Flows of no more than ``most`` packets keep all. Among equally rare ones a hash of the place chooses, so
    that they do not come from one moment.

    Returns
    -------
    start : ndarray of int64, shape (flows + 1,)
    packet : ndarray of int32
        ``packet[start[f]:start[f + 1]]`` are flow f's, ascending.
    """
    flows = flow_start.size - 1
    start = np.zeros(flows + 1, np.int64)
    packet = np.empty(min(flow_start[flows], flows * most), np.int32)
    rank = np.empty(most, np.uint64)
    n = 0
    for f in range(flows):
        first = n
        whole = flow_start[f + 1] - flow_start[f] <= most
        for j in range(flow_start[f], flow_start[f + 1]):
            if whole:
                packet[n] = j
                n += 1
                continue
            if egress_class[j] < 0 or not fresh[j]:
                continue
            # The common ones are sorted out first, by insertion: most are rejected at the first look.
            scattered = (np.uint64(j) * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
            mine = (np.uint64(class_count[egress_class[j]]) << np.uint64(32)) | scattered
            if n - first == most:
                if mine >= rank[most - 1]:
                    continue
                n -= 1
            at = n - first
            while at > 0 and rank[at - 1] > mine:
                rank[at], packet[first + at] = rank[at - 1], packet[first + at - 1]
                at -= 1
            rank[at], packet[first + at] = mine, j
            n += 1
        packet[first:n].sort()
        start[f + 1] = n
    return start, packet[:n].copy()


@kernel
def reach(packets, j, delays):  # type: ignore[no-untyped-def]
    """First and last time at which a record may have carried packet ``j``."""
    t = packets.ts_ns[j]
    beyond = delays.low_ns + (delays.up.size << delays.step_bits)
    # delay = t - u going up and u - t going down, from low_ns to below ``beyond``
    if packets.up[j]:
        return t - beyond + 1, t - delays.low_ns
    return t + delays.low_ns, t + beyond - 1


@kernel
def candidates(flows, packets, probe_start, probe, records, delays, tunnels, share):  # type: ignore[no-untyped-def]
    """Tunnels with a record in reach of enough of each flow's ``probe`` packets.

    A first look, which does not ask whether two packets would need the same record.

    Parameters
    ----------
    flows : ndarray of int32, shape (n,)
    packets : Packets
    probe_start, probe : ndarray of int64, ndarray of int32
        ``probe[probe_start[f]:probe_start[f + 1]]`` are the packets of flow f to look for.
    records : Records
    delays : Delays
    tunnels : int
    share : float
        Of the packets looked for, so many have to be there; and one at least.

    Returns
    -------
    listed, tunnel : ndarray of int32
        Place in ``flows``, and tunnel.
    """
    out_listed, out_tunnel = np.empty(4096, np.int32), np.empty(4096, np.int32)
    found = 0
    hits, last_hit = np.zeros(tunnels, np.int32), np.full(tunnels, -1, np.int64)
    touched = np.empty(tunnels, np.int64)
    cursor = records.class_start[:-1].copy()
    for q in range(flows.size):
        f = flows[q]
        sought, touched_count = 0, 0
        for p in range(probe_start[f], probe_start[f + 1]):
            j = probe[p]
            c = packets.size_class[j]
            sought += c != IN_PIECES
            if c < 0:
                continue
            first, last = reach(packets, j, delays)
            stop = records.class_start[c + 1]
            cursor[c] = first_at_least_from(records.ts_ns, cursor[c], records.class_start[c], stop, first)
            for i in range(cursor[c], stop):
                if records.ts_ns[i] > last:
                    break
                k = records.tunnel[i]
                if last_hit[k] != j:
                    last_hit[k] = j
                    if not hits[k]:
                        touched[touched_count] = k
                        touched_count += 1
                    hits[k] += 1
        for m in range(touched_count):
            k = touched[m]
            if hits[k] >= share * sought:
                if found == out_listed.size:
                    out_listed, out_tunnel = _grown(out_listed), _grown(out_tunnel)
                out_listed[found], out_tunnel[found] = q, k
                found += 1
            hits[k], last_hit[k] = 0, -1
    return out_listed[:found], out_tunnel[:found]


@kernel
def _grown(full):  # type: ignore[no-untyped-def]
    wider = np.empty(2 * full.size, full.dtype)
    for i in range(full.size):  # ``wider[: full.size] = full`` takes seconds to compile
        wider[i] = full[i]
    return wider
