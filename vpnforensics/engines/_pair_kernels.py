"""Which record serves which packet: of flows that are given their tunnels, and of a pair to be scored."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vpnforensics.align._kernels import first_at_least, first_at_least_from
from vpnforensics.align.classes import IN_PIECES
from vpnforensics.arrays import Int32s, Ints
from vpnforensics.engines._hole_kernels import kind_of
from vpnforensics.engines._kernels import LARGE, reach
from vpnforensics.engines._room_kernels import make_room
from vpnforensics.kernels import kernel

_MOST_ASKED = 1024
"""Records looked at to make room for one packet: as many as a busy tunnel has in a few times the delay."""


class Given(NamedTuple):
    """Who has which record, -1 for nobody and none."""

    owner: Int32s
    """Flow of each record, in the order of :class:`ByTunnel`."""
    carried: Int32s
    """Egress packet of each record; of one given back, its last."""
    matched: Int32s
    """Record of each egress packet."""


class Ranges(NamedTuple):
    """Where the records of each size class stand in the tunnel looked at."""

    looked: Ints
    """For whom the entry was made, and still holds."""
    begin: Ints
    end: Ints
    place: Ints
    """First record in reach of the last packet: the next one's is near."""


@kernel
def no_ranges(classes):  # type: ignore[no-untyped-def]
    """Nothing looked at so far."""
    none = np.zeros(classes, np.int64)
    return Ranges(np.full(classes, -1, np.int64), none, none.copy(), none.copy())


@kernel
def seek(ranges, who, c, tunnel, by_tunnel, first_ns):  # type: ignore[no-untyped-def]
    """Range of the records of class ``c`` in the tunnel, from the first one at ``first_ns`` or later."""
    if ranges.looked[c] != who:
        ranges.looked[c] = who
        start, stop = by_tunnel.start[tunnel], by_tunnel.start[tunnel + 1]
        ranges.begin[c] = first_at_least(by_tunnel.row, start, stop, by_tunnel.class_start[c])
        ranges.end[c] = first_at_least(by_tunnel.row, ranges.begin[c], stop, by_tunnel.class_start[c + 1])
        ranges.place[c] = ranges.begin[c]
    ranges.place[c] = first_at_least_from(
        by_tunnel.ts_ns, ranges.place[c], ranges.begin[c], ranges.end[c], first_ns
    )
    return ranges.place[c], ranges.end[c]


@kernel
def delay_slot(packets, j, record_ns, delays):  # type: ignore[no-untyped-def]
    """Bin of the delay law of packet ``j`` and a record at ``record_ns``, which is in its reach."""
    t = packets.ts_ns[j]
    return ((t - record_ns if packets.up[j] else record_ns - t) - delays.low_ns) >> delays.step_bits


@kernel
def own_records(flows, flow_tunnel, packets, by_tunnel, delays, given):  # type: ignore[no-untyped-def]
    """Give each listed flow, strongest first, its likeliest free records in its tunnel.

    Packets that find none free come once more when all have been served: others move to make room for them.
    Updates ``given``.
    """
    ranges = no_ranges(by_tunnel.class_start.size)
    without = np.zeros(flows.size, np.bool_)
    for q in range(flows.size):
        f = flows[q]
        for j in range(packets.start[f], packets.start[f + 1]):
            c = packets.size_class[j]
            if c < 0:
                continue
            first, last = reach(packets, j, delays)
            begin, end = seek(ranges, q, c, flow_tunnel[q], by_tunnel, first)
            likeliest, free = 0.0, -1
            for i in range(begin, end):
                if by_tunnel.ts_ns[i] > last:
                    break
                if given.owner[i] >= 0:
                    continue
                slot = delay_slot(packets, j, by_tunnel.ts_ns[i], delays)
                g = delays.up[slot] if packets.up[j] else delays.down[slot]
                if g > likeliest:
                    likeliest, free = g, i
            if free >= 0:
                given.owner[free], given.carried[free], given.matched[j] = f, j, free
            else:
                without[q] = True
    reached_by = np.empty(_MOST_ASKED, np.int64)
    for q in range(flows.size):
        if not without[q]:
            continue
        f, k = flows[q], flow_tunnel[q]
        for j in range(packets.start[f], packets.start[f + 1]):
            c = packets.size_class[j]
            if c < 0 or given.matched[j] >= 0:
                continue
            low = first_at_least(
                by_tunnel.row, by_tunnel.start[k], by_tunnel.start[k + 1], by_tunnel.class_start[c]
            )
            high = first_at_least(by_tunnel.row, low, by_tunnel.start[k + 1], by_tunnel.class_start[c + 1])
            free = make_room(j, low, high, packets, by_tunnel.ts_ns, delays, given, reached_by)
            if free >= 0:
                given.owner[free], given.carried[free], given.matched[j] = f, j, free


@kernel
def take_records(flows, flow_start, matched, row, class_record, record, free):  # type: ignore[no-untyped-def]
    """Write the RecordTable rows of the listed flows' records into ``record``, and clear them in ``free``.

    ``record`` has one entry an egress packet, ``free`` one a row of the size classes.
    """
    for f in flows:
        for j in range(flow_start[f], flow_start[f + 1]):
            if matched[j] >= 0:
                record[j] = class_record[row[matched[j]]]
                free[row[matched[j]]] = False


@kernel
def score_pairs(pair_flow, pair_tunnel, packets, by_tunnel, delays, holes, miss):  # type: ignore[no-untyped-def]
    """Containment scores of given pairs.

    The step of a fresh packet is ``log(miss + (1 - miss) * X)``. ``miss`` is the share missed of its kind
    (:func:`kind_of`); X is the sum over the tunnel's records of its size within reach of ``density(delay) *
    gap(record)``, divided by how many stand there: expected 1 by chance. A record serves one packet of a
    flow: the likeliest in reach is taken, first come first served. All records in reach count towards the
    sum, also those that served a packet before: which record was whose is unknowable in a burst. A packet
    that is no news only needs a record: the first free one. Steps are gathered as a product: a logarithm a
    step would be half of the work.

    Returns
    -------
    score : ndarray of float64
        Nats.
    hits : ndarray of int32
        Packets of the flow with a record of their own in the tunnel.
    """
    score = np.empty(pair_flow.size, np.float64)
    hits_of = np.empty(pair_flow.size, np.int32)
    most = 0
    for k in pair_tunnel:
        most = max(most, by_tunnel.start[k + 1] - by_tunnel.start[k])
    used = np.zeros(most, np.bool_)
    log_miss, odds = np.log(miss), (1.0 - miss) / miss
    # Of a packet that continues a burst: by chance it lacks a record about twice as often, 1 - (1 - miss)^2.
    follow_hit, follow_miss = -np.log(1.0 - miss), -np.log(2.0 - miss)
    ranges = no_ranges(by_tunnel.class_start.size)
    for q in range(pair_flow.size):
        f, of_tunnel = pair_flow[q], by_tunnel.start[pair_tunnel[q]]
        total, product, against = 0.0, 1.0, 0.0
        taken = np.empty(packets.start[f + 1] - packets.start[f], np.int32)
        hits = 0
        for j in range(packets.start[f], packets.start[f + 1]):
            c = packets.size_class[j]
            if c == IN_PIECES:
                continue
            first, last = reach(packets, j, delays)
            kind = kind_of(holes, pair_tunnel[q], packets.up[j], first, last)
            if packets.fresh[j]:
                total += log_miss[kind]
            else:
                against += follow_miss[kind]
            if c < 0:
                continue
            begin, end = seek(ranges, q, c, pair_tunnel[q], by_tunnel, first)
            best_record = -1
            x, dense, best = 0.0, 0.0, 0.0
            for i in range(begin, end):
                if by_tunnel.ts_ns[i] > last:
                    break
                if packets.fresh[j]:
                    slot = delay_slot(packets, j, by_tunnel.ts_ns[i], delays)
                    g = delays.up[slot] if packets.up[j] else delays.down[slot]
                    dense += g * delays.width_ns
                    g *= by_tunnel.gap_ns[i]
                    x += g
                    if g > best and not used[i - of_tunnel]:
                        best, best_record = g, i
                elif not used[i - of_tunnel]:
                    best_record = i
                    break
            if best_record >= 0:
                used[best_record - of_tunnel] = True
                taken[hits] = best_record - of_tunnel
                hits += 1
                if packets.fresh[j]:
                    product *= 1.0 + odds[kind] * x / max(1.0, dense)
                    if product > LARGE:
                        total += np.log(product)
                        product = 1.0
                else:
                    against += follow_hit[kind] - follow_miss[kind]
        for m in range(hits):
            used[taken[m]] = False
        score[q] = total + np.log(product) + min(0.0, against)
        hits_of[q] = hits
    return score, hits_of
