"""Loops over packets of the engines: local rates and the containment score."""

from __future__ import annotations

import numpy as np

from vpnforensics.align._kernels import first_at_least, first_at_least_from
from vpnforensics.align.classes import IN_PIECES
from vpnforensics.kernels import kernel

PROBES_A_HIT = 4
"""A tunnel with fewer of a flow's rarest packets than one of so many did not carry it."""

LARGE = 1e200
"""A product of steps is turned into its logarithm before it could overflow (one step is below 1e100)."""


@kernel
def chance_gaps(  # type: ignore[no-untyped-def]
    row, tunnel_start, class_start, ts_ns, width_ns, half_window_ns
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

    Returns
    -------
    ndarray of float32, shape (n,)
        ns, by row of the size classes; the record itself counts, so every gap is finite.
    """
    gap_ns = np.empty(ts_ns.size, np.float32)
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
                gap_ns[row[i]] = width_ns / min(1.0, (covered + width_ns) / (2.0 * half_window_ns))
            begin = end
    return gap_ns


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
def follower_steps(miss):  # type: ignore[no-untyped-def]
    """Steps of a packet that continues a burst: by chance it finds a record nearly always, too."""
    by_chance = 1.0 - 2.0 * miss
    return np.log((1.0 - miss) / by_chance), np.log(miss / (1.0 - by_chance))


@kernel
def score_containment(  # type: ignore[no-untyped-def]
    flows,
    flow_start,
    probe_start,
    probe,
    egress_ns,
    egress_class,
    egress_fresh,
    egress_up,
    class_start,
    record_ns,
    record_tunnel,
    record_gap_ns,
    density_up,
    density_down,
    low_ns,
    step_bits,
    width_ns,
    miss,
    tunnels,
    floor,
):
    """First look at the listed flows in every tunnel with a size-compatible packet in reach.

    The step of an egress packet in a tunnel is ``log(miss + (1 - miss) * X)``, X the sum over the tunnel's
    records of its size within reach of ``density(delay) * gap(record)``: expected 1 by chance. A record
    serves one packet of a flow: the likeliest in reach is taken, first come first served. Steps are gathered
    as a product: a logarithm a step would be half of the work.

    Only the ``probe`` packets of a flow are looked for. Where those are all of its packets, the score is
    final and listed above ``floor``. Where they are a choice of them, a pair is listed if the tunnel has a
    quarter of them; to be scored whole (:func:`score_pairs`).

    Returns
    -------
    listed, tunnel : ndarray of int32
        Place in ``flows``, and tunnel.
    score : ndarray of float64
        Nats.
    hits : ndarray of int32
        Packets looked for with a record in the tunnel.
    """
    out_listed, out_tunnel = np.empty(4096, np.int32), np.empty(4096, np.int32)
    out_score, out_hits = np.empty(4096, np.float64), np.empty(4096, np.int32)
    found = 0
    total = np.zeros(tunnels, np.float64)
    product = np.ones(tunnels, np.float64)
    hits = np.zeros(tunnels, np.int32)
    followers = np.zeros(tunnels, np.int32)
    touched = np.empty(tunnels + 1, np.int64)
    here = np.empty(tunnels + 1, np.int64)
    x = np.zeros(tunnels, np.float64)
    dense = np.zeros(tunnels, np.float64)
    best = np.zeros(tunnels, np.float64)
    best_record = np.full(tunnels, -1, np.int64)
    used = np.zeros(record_ns.size, np.bool_)
    taken = np.empty(4096, np.int32)
    cursor = class_start[:-1].copy()
    bins = density_up.size
    log_miss, odds = np.log(miss), (1.0 - miss) / miss
    follow_hit, follow_miss = follower_steps(miss)
    reach_ns = low_ns + (bins << step_bits)
    for q in range(flows.size):
        f = flows[q]
        probes = probe_start[f + 1] - probe_start[f]
        whole = probes == flow_start[f + 1] - flow_start[f]
        touched_count = taken_count = fresh = 0
        for p in range(probe_start[f], probe_start[f + 1]):
            j = probe[p]
            c = egress_class[j]
            if c == IN_PIECES:
                probes -= 1
                continue
            fresh += egress_fresh[j]
            if c < 0:
                continue
            t = egress_ns[j]
            # delay = t - u going up and u - t going down, from low_ns to reach_ns
            if egress_up[j]:
                first, last = t - reach_ns, t - low_ns
                density = density_up
            else:
                first, last = t + low_ns, t + reach_ns
                density = density_down
            stop = class_start[c + 1]
            cursor[c] = first_at_least_from(record_ns, cursor[c], class_start[c], stop, first)
            here_count = 0
            for i in range(cursor[c], stop):
                u = record_ns[i]
                if u > last:
                    break
                slot = ((t - u if egress_up[j] else u - t) - low_ns) >> step_bits
                if slot >= bins:
                    continue
                g = density[slot] * record_gap_ns[i]
                k = record_tunnel[i]
                here[here_count] = k  # without a branch: which tunnel comes next cannot be foretold
                here_count += x[k] == 0.0
                # All records in reach count towards the sum, also those that served a packet before: which
                # record was whose is unknowable in a burst. But a packet needs a free one to be a hit.
                x[k] += g
                dense[k] += density[slot] * width_ns
                better = (g > best[k]) & ~used[i]
                best[k] = g if better else best[k]
                best_record[k] = i if better else best_record[k]
            for m in range(here_count):
                k = here[m]
                if best_record[k] >= 0:
                    touched[touched_count] = k
                    touched_count += hits[k] == 0
                    hits[k] += 1
                    used[best_record[k]] = True
                    if taken_count == taken.size:
                        taken = _grown(taken)
                    taken[taken_count] = best_record[k]
                    taken_count += 1
                    if egress_fresh[j]:
                        product[k] *= 1.0 + odds * x[k] / max(1.0, dense[k])
                        if product[k] > LARGE:
                            total[k] += np.log(product[k])
                            product[k] = 1.0
                    else:
                        followers[k] += 1
                x[k] = 0.0
                dense[k] = 0.0
                best[k] = 0.0
                best_record[k] = -1
        for m in range(taken_count):
            used[taken[m]] = False
        following = probes - fresh
        for m in range(touched_count):
            k = touched[m]
            against = followers[k] * follow_hit + (following - followers[k]) * follow_miss
            score = fresh * log_miss + total[k] + np.log(product[k]) + min(0.0, against)
            if score > floor if whole else PROBES_A_HIT * hits[k] >= probes:
                if found == out_score.size:
                    out_listed, out_tunnel = _grown(out_listed), _grown(out_tunnel)
                    out_score, out_hits = _grown(out_score), _grown(out_hits)
                out_listed[found] = q
                out_tunnel[found] = k
                out_score[found] = score
                out_hits[found] = hits[k]
                found += 1
            total[k] = 0.0
            product[k] = 1.0
            hits[k] = 0
            followers[k] = 0
    return out_listed[:found], out_tunnel[:found], out_score[:found], out_hits[:found]


@kernel
def _grown(full):  # type: ignore[no-untyped-def]
    wider = np.empty(2 * full.size, full.dtype)
    for i in range(full.size):  # ``wider[: full.size] = full`` takes seconds to compile
        wider[i] = full[i]
    return wider
