"""Loops over packets of the engines: local rates and the containment score."""

from __future__ import annotations

import numpy as np
from numba import njit

from vpnforensics.align._kernels import first_at_least


@njit(cache=True, nogil=True)
def occupancy_rates(group_start, ts_ns, width_ns, half_window_ns):  # type: ignore[no-untyped-def]
    """How much of the time around each packet its group occupies, as a rate.

    A packet occupies ``width_ns`` around itself, a burst little more than one packet. The covered share of
    a window, over ``width_ns``, is the rate of a Poisson stream where packets stand alone, and the rate of
    bursts where they do not.

    Parameters
    ----------
    group_start : ndarray of int64, shape (groups + 1,)
        Groups are runs of ``ts_ns``, each ascending.
    ts_ns : ndarray of int64, shape (n,)
    half_window_ns : int

    Returns
    -------
    ndarray of float32, shape (n,)
        1/ns; the packet itself counts, so no rate is zero.
    """
    rates = np.empty(ts_ns.size, np.float32)
    for g in range(group_start.size - 1):
        begin, end = group_start[g], group_start[g + 1]
        low, high = begin, begin
        covered = np.int64(0)  # by the packets in [low, high), each up to its successor
        for i in range(begin, end):
            while high < end and ts_ns[high] <= ts_ns[i] + half_window_ns:
                if high > low:
                    covered += min(ts_ns[high] - ts_ns[high - 1], width_ns)
                high += 1
            while ts_ns[low] < ts_ns[i] - half_window_ns:
                covered -= min(ts_ns[low + 1] - ts_ns[low], width_ns)
                low += 1
            rates[i] = min(1.0, (covered + width_ns) / (2.0 * half_window_ns)) / width_ns
    return rates


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _follower_steps(miss):  # type: ignore[no-untyped-def]
    """Steps of a packet that continues a burst: by chance it finds a record nearly always, too."""
    by_chance = 1.0 - 2.0 * miss
    return np.log((1.0 - miss) / by_chance), np.log(miss / (1.0 - by_chance))


@njit(cache=True, nogil=True)
def own_records(  # type: ignore[no-untyped-def]
    flows,
    flow_tunnel,
    flow_score,
    flow_start,
    egress_ns,
    egress_class,
    egress_up,
    class_start,
    record_ns,
    record_tunnel,
    density_up,
    density_down,
    low_ns,
    step_ns,
    owner,
    rival,
    matched,
):
    """Give each listed flow, strongest first, its likeliest free records in its tunnel.

    Updates, one entry a record: ``owner`` (flow, -1 free) and ``rival`` (best score of a flow that wanted
    it and found nothing free); one entry an egress packet: ``matched`` (record, -1 none).
    """
    bins = density_up.size
    reach_ns = low_ns + bins * step_ns
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
            stop = class_start[c + 1]
            best_free, best_owned = 0.0, 0.0
            free, owned = -1, -1
            for i in range(first_at_least(record_ns, class_start[c], stop, first), stop):
                u = record_ns[i]
                if u > last:
                    break
                if record_tunnel[i] != k or owner[i] == f:
                    continue
                slot = ((t - u if egress_up[j] else u - t) - low_ns) // step_ns
                if slot < 0 or slot >= bins:
                    continue
                g = density_up[slot] if egress_up[j] else density_down[slot]
                if owner[i] < 0:
                    if g > best_free:
                        best_free, free = g, i
                elif g > best_owned:
                    best_owned, owned = g, i
            if free >= 0:
                owner[free] = f
                matched[j] = free
            elif owned >= 0:
                rival[owned] = max(rival[owned], flow_score[q])


@njit(cache=True, nogil=True)
def score_contested(  # type: ignore[no-untyped-def]
    pair_flow,
    pair_tunnel,
    pair_limit,
    flow_start,
    egress_ns,
    egress_class,
    egress_fresh,
    egress_up,
    pair_shift_ns,
    origin_ns,
    period_ns,
    class_start,
    record_ns,
    record_tunnel,
    record_rate,
    density_up,
    density_down,
    low_ns,
    step_ns,
    width_ns,
    miss,
    owner,
    claim,
    rival,
):
    """:func:`score_containment` of given pairs, where a record serves only if nobody as good wants it.

    A record is out of reach of a flow if another flow owns it with a ``claim`` above the pair's limit, or if
    the flow owns it but a ``rival`` above the limit was turned away. Rotated flows (``pair_shift_ns`` not 0)
    own nothing.
    """
    score = np.empty(pair_flow.size, np.float64)
    used_by = np.full(record_ns.size, -1, np.int32)
    bins = density_up.size
    log_miss = np.log(miss)
    follow_hit, follow_miss = _follower_steps(miss)
    reach_ns = low_ns + bins * step_ns
    for q in range(pair_flow.size):
        f, k, limit, shift_ns = pair_flow[q], pair_tunnel[q], pair_limit[q], pair_shift_ns[q]
        total, against = 0.0, 0.0
        for j in range(flow_start[f], flow_start[f + 1]):
            if egress_fresh[j]:
                total += log_miss
            else:
                against += follow_miss
            c = egress_class[j]
            if c < 0:
                continue
            t = egress_ns[j]
            if shift_ns != 0:
                t = origin_ns + (t - origin_ns + shift_ns) % period_ns
            if egress_up[j]:
                first, last = t - reach_ns, t - low_ns
            else:
                first, last = t + low_ns, t + reach_ns
            stop = class_start[c + 1]
            x, dense, best, best_record = 0.0, 0.0, 0.0, -1
            for i in range(first_at_least(record_ns, class_start[c], stop, first), stop):
                u = record_ns[i]
                if u > last:
                    break
                if record_tunnel[i] != k:
                    continue
                slot = ((t - u if egress_up[j] else u - t) - low_ns) // step_ns
                if slot < 0 or slot >= bins:
                    continue
                g = density_up[slot] if egress_up[j] else density_down[slot]
                dense += g * width_ns
                g /= record_rate[i]
                x += g
                mine = owner[i] == f and shift_ns == 0
                contested = rival[i] > limit if mine else owner[i] >= 0 and claim[i] > limit
                if used_by[i] != q and not contested and g > best:
                    best, best_record = g, i
            if best_record >= 0:
                used_by[best_record] = q
                if egress_fresh[j]:
                    total += np.log(miss + (1.0 - miss) * x / max(1.0, dense)) - log_miss
                else:
                    against += follow_hit - follow_miss
        score[q] = total + min(0.0, against)
    return score


@njit(cache=True, nogil=True)
def score_containment(  # type: ignore[no-untyped-def]
    flows,
    flow_start,
    egress_ns,
    egress_class,
    egress_fresh,
    egress_up,
    flow_shift_ns,
    origin_ns,
    period_ns,
    class_start,
    record_ns,
    record_tunnel,
    record_rate,
    density_up,
    density_down,
    low_ns,
    step_ns,
    width_ns,
    miss,
    tunnels,
    floor,
):
    """Containment score of the listed flows in every tunnel that has a size-compatible packet in reach.

    The step of an egress packet in a tunnel is ``log(miss + (1 - miss) * X)``, X the sum over the tunnel's
    records of its size within reach of ``density(delay) / rate(record)``: expected 1 by chance. A record
    serves one packet of a flow: the likeliest in reach is taken, first come first served.

    ``flow_shift_ns``, one a listed flow, turns its times round on a circle of ``period_ns`` from
    ``origin_ns`` (0 leaves them), which makes a flow that no tunnel carried.

    Returns
    -------
    listed, tunnel : ndarray of int32
        Place in ``flows``, and tunnel.
    score : ndarray of float64
        Nats; only pairs whose score exceeds ``floor``.
    hits : ndarray of int32
        Packets of the flow with a record in the tunnel.
    """
    room = 4096
    out_listed = np.empty(room, np.int32)
    out_tunnel = np.empty(room, np.int32)
    out_score = np.empty(room, np.float64)
    out_hits = np.empty(room, np.int32)
    found = 0
    total = np.zeros(tunnels, np.float64)
    hits = np.zeros(tunnels, np.int32)
    followers = np.zeros(tunnels, np.int32)
    touched = np.empty(tunnels, np.int64)
    here = np.empty(tunnels, np.int64)
    x = np.zeros(tunnels, np.float64)
    dense = np.zeros(tunnels, np.float64)
    best = np.zeros(tunnels, np.float64)
    best_record = np.full(tunnels, -1, np.int64)
    used_by = np.full(record_ns.size, -1, np.int32)
    bins = density_up.size
    log_miss = np.log(miss)
    follow_hit, follow_miss = _follower_steps(miss)
    reach_ns = low_ns + bins * step_ns
    for q in range(flows.size):
        f, shift_ns = flows[q], flow_shift_ns[q]
        touched_count = 0
        begin, end = flow_start[f], flow_start[f + 1]
        for j in range(begin, end):
            c = egress_class[j]
            if c < 0:
                continue
            t = egress_ns[j]
            if shift_ns != 0:
                t = origin_ns + (t - origin_ns + shift_ns) % period_ns
            # delay = t - u going up and u - t going down, from low_ns to reach_ns
            if egress_up[j]:
                first, last = t - reach_ns, t - low_ns
                density = density_up
            else:
                first, last = t + low_ns, t + reach_ns
                density = density_down
            stop = class_start[c + 1]
            here_count = 0
            for i in range(first_at_least(record_ns, class_start[c], stop, first), stop):
                u = record_ns[i]
                if u > last:
                    break
                delay = t - u if egress_up[j] else u - t
                slot = (delay - low_ns) // step_ns
                if slot < 0 or slot >= bins:
                    continue
                g = density[slot] / record_rate[i]
                k = record_tunnel[i]
                if x[k] == 0.0:
                    here[here_count] = k
                    here_count += 1
                # All records in reach count towards the sum, also those that served a packet before: which
                # record was whose is unknowable in a burst. But a packet needs a free one to be a hit.
                x[k] += g
                dense[k] += density[slot] * width_ns
                if used_by[i] != q and g > best[k]:
                    best[k] = g
                    best_record[k] = i
            for m in range(here_count):
                k = here[m]
                if best_record[k] >= 0:
                    if hits[k] == 0:
                        touched[touched_count] = k
                        touched_count += 1
                    hits[k] += 1
                    used_by[best_record[k]] = q
                    if egress_fresh[j]:
                        total[k] += np.log(miss + (1.0 - miss) * x[k] / max(1.0, dense[k])) - log_miss
                    else:
                        followers[k] += 1
                x[k] = 0.0
                dense[k] = 0.0
                best[k] = 0.0
                best_record[k] = -1
        fresh = 0
        for j in range(begin, end):
            fresh += egress_fresh[j]
        following = end - begin - fresh
        for m in range(touched_count):
            k = touched[m]
            against = followers[k] * follow_hit + (following - followers[k]) * follow_miss
            score = fresh * log_miss + total[k] + min(0.0, against)
            if score > floor:
                if found == room:
                    room *= 2
                    grown32 = np.empty(room, np.int32)
                    grown32[:found] = out_listed
                    out_listed = grown32
                    grown32 = np.empty(room, np.int32)
                    grown32[:found] = out_tunnel
                    out_tunnel = grown32
                    grown64 = np.empty(room, np.float64)
                    grown64[:found] = out_score
                    out_score = grown64
                    grown32 = np.empty(room, np.int32)
                    grown32[:found] = out_hits
                    out_hits = grown32
                out_listed[found] = q
                out_tunnel[found] = k
                out_score[found] = score
                out_hits[found] = hits[k]
                found += 1
            total[k] = 0.0
            hits[k] = 0
            followers[k] = 0
    return out_listed[:found], out_tunnel[:found], out_score[:found], out_hits[:found]
