"""Which record serves which packet: of flows that are given their tunnels, and of a pair to be scored.

Both look at the records of one tunnel only, and get them tunnel by tunnel: ``row`` holds the rows of the
size classes, ascending within ``tunnel_start[k]:tunnel_start[k + 1]``; ``record_ns``, ``gap_ns`` and
``owner`` stand in its order.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.align._kernels import first_at_least, first_at_least_from
from vpnforensics.align.classes import IN_PIECES
from vpnforensics.engines._kernels import LARGE, follower_steps
from vpnforensics.engines._room_kernels import make_room
from vpnforensics.kernels import kernel

_MOST_ASKED = 1024
"""Records looked at to make room for one packet: as many as a busy tunnel has in a few times the delay."""


@kernel
def own_records(  # type: ignore[no-untyped-def]
    flows,
    flow_tunnel,
    flow_start,
    egress_ns,
    egress_class,
    egress_up,
    class_start,
    row,
    tunnel_start,
    record_ns,
    density_up,
    density_down,
    low_ns,
    step_bits,
    owner,
    matched,
    carried,
):
    """Give each listed flow, strongest first, its likeliest free records in its tunnel.

    Packets that find none free come once more when all have been served: others move to make room for them.

    Updates, one entry a record: ``owner`` (flow, -1 free) and ``carried`` (its egress packet); one entry an
    egress packet: ``matched`` (record, -1 none).
    """
    bins = density_up.size
    reach_ns = low_ns + (bins << step_bits)
    looked = np.full(class_start.size, -1, np.int64)
    begin, end = np.zeros(class_start.size, np.int64), np.zeros(class_start.size, np.int64)
    place = np.zeros(class_start.size, np.int64)
    without = np.zeros(flows.size, np.bool_)
    for q in range(flows.size):
        f, k = flows[q], flow_tunnel[q]
        for j in range(flow_start[f], flow_start[f + 1]):
            c = egress_class[j]
            if c < 0:
                continue
            t = egress_ns[j]
            if egress_up[j]:
                first, last = t - reach_ns, t - low_ns
            else:
                first, last = t + low_ns, t + reach_ns
            if looked[c] != q:
                looked[c] = q
                begin[c] = first_at_least(row, tunnel_start[k], tunnel_start[k + 1], class_start[c])
                end[c] = first_at_least(row, begin[c], tunnel_start[k + 1], class_start[c + 1])
                place[c] = begin[c]
            place[c] = first_at_least_from(record_ns, place[c], begin[c], end[c], first)
            likeliest, free = 0.0, -1
            for i in range(place[c], end[c]):
                u = record_ns[i]
                if u > last:
                    break
                if owner[i] >= 0:
                    continue
                slot = ((t - u if egress_up[j] else u - t) - low_ns) >> step_bits
                if slot < bins:
                    g = density_up[slot] if egress_up[j] else density_down[slot]
                    if g > likeliest:
                        likeliest, free = g, i
            if free >= 0:
                owner[free], carried[free], matched[j] = f, j, free
            else:
                without[q] = True
    reached_by = np.empty(_MOST_ASKED, np.int64)
    for q in range(flows.size):
        if not without[q]:
            continue
        f, k = flows[q], flow_tunnel[q]
        for j in range(flow_start[f], flow_start[f + 1]):
            c = egress_class[j]
            if c < 0 or matched[j] >= 0:
                continue
            low = first_at_least(row, tunnel_start[k], tunnel_start[k + 1], class_start[c])
            high = first_at_least(row, low, tunnel_start[k + 1], class_start[c + 1])
            free = make_room(
                j, low, high, egress_ns, egress_up[j], record_ns, low_ns, reach_ns,
                owner, carried, matched, reached_by,
            )  # fmt: skip
            if free >= 0:
                owner[free], carried[free], matched[j] = f, j, free


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
def score_pairs(  # type: ignore[no-untyped-def]
    pair_flow,
    pair_tunnel,
    flow_start,
    egress_ns,
    egress_class,
    egress_fresh,
    egress_up,
    class_start,
    row,
    tunnel_start,
    record_ns,
    gap_ns,
    density_up,
    density_down,
    low_ns,
    step_bits,
    width_ns,
    miss,
):
    """Containment scores of given pairs, all packets looked for.

    A packet that is no news only needs a record: the first free one.

    Returns
    -------
    score : ndarray of float64
        Nats; see :func:`vpnforensics.engines._kernels.score_containment`.
    hits : ndarray of int32
        Packets of the flow with a record in the tunnel.
    """
    score = np.empty(pair_flow.size, np.float64)
    hits_of = np.empty(pair_flow.size, np.int32)
    used = np.zeros(record_ns.size, np.bool_)
    bins = density_up.size
    log_miss, odds = np.log(miss), (1.0 - miss) / miss
    follow_hit, follow_miss = follower_steps(miss)
    reach_ns = low_ns + (bins << step_bits)
    looked = np.full(class_start.size, -1, np.int64)
    begin, end = np.zeros(class_start.size, np.int64), np.zeros(class_start.size, np.int64)
    place = np.zeros(class_start.size, np.int64)
    for q in range(pair_flow.size):
        f, k = pair_flow[q], pair_tunnel[q]
        total, product, against = 0.0, 1.0, 0.0
        taken = np.empty(flow_start[f + 1] - flow_start[f], np.int32)
        hits = 0
        for j in range(flow_start[f], flow_start[f + 1]):
            c = egress_class[j]
            if c == IN_PIECES:
                continue
            if egress_fresh[j]:
                total += log_miss
            else:
                against += follow_miss
            if c < 0:
                continue
            t = egress_ns[j]
            if egress_up[j]:
                first, last = t - reach_ns, t - low_ns
            else:
                first, last = t + low_ns, t + reach_ns
            if looked[c] != q:
                looked[c] = q
                begin[c] = first_at_least(row, tunnel_start[k], tunnel_start[k + 1], class_start[c])
                end[c] = first_at_least(row, begin[c], tunnel_start[k + 1], class_start[c + 1])
                place[c] = begin[c]
            place[c] = first_at_least_from(record_ns, place[c], begin[c], end[c], first)
            best_record = -1
            x, dense, best = 0.0, 0.0, 0.0
            for i in range(place[c], end[c]):
                u = record_ns[i]
                if u > last:
                    break
                slot = ((t - u if egress_up[j] else u - t) - low_ns) >> step_bits
                if slot >= bins:
                    continue
                if egress_fresh[j]:
                    g = density_up[slot] if egress_up[j] else density_down[slot]
                    dense += g * width_ns
                    g *= gap_ns[i]
                    x += g
                    if g > best and not used[i]:
                        best, best_record = g, i
                elif not used[i]:
                    best_record = i
                    break
            if best_record >= 0:
                used[best_record] = True
                taken[hits] = best_record
                hits += 1
                if egress_fresh[j]:
                    product *= 1.0 + odds * x / max(1.0, dense)
                    if product > LARGE:
                        total += np.log(product)
                        product = 1.0
                else:
                    against += follow_hit - follow_miss
        for m in range(hits):
            used[taken[m]] = False
        score[q] = total + np.log(product) + min(0.0, against)
        hits_of[q] = hits
    return score, hits_of
