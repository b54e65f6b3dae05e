"""The contest for records: who gets which, and what is left of a score without those that others want.

Both go through the records of one tunnel only, from each to its successor
(:func:`vpnforensics.engines._kernels.successors`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from vpnforensics.align._kernels import first_at_least
from vpnforensics.engines._kernels import LARGE, follower_steps

_PATIENT_STEPS = 64
"""Records looked at one by one before the place is searched for."""


@njit(cache=True, nogil=True)
def _first_of_tunnel(  # type: ignore[no-untyped-def]
    record_ns, record_tunnel, following, start, stop, k, known, known_from_ns, first_ns, last_ns
):
    """First record of tunnel k in a class at ``first_ns`` or later; -1 if there is none up to ``last_ns``.

    ``known`` is that of ``known_from_ns``, -1 unknown.
    """
    if known >= 0 and first_ns >= known_from_ns:
        for _ in range(_PATIENT_STEPS):
            if known < 0 or record_ns[known] >= first_ns:
                return known
            known = following[known]
    for i in range(first_at_least(record_ns, start, stop, first_ns), stop):
        if record_ns[i] > last_ns:
            break
        if record_tunnel[i] == k:
            return i
    return -1


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
    following,
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
    # Where the last packet of this flow and class began to look, and what it found.
    looked = np.full(class_start.size, -1, np.int64)
    looked_ns = np.zeros(class_start.size, np.int64)
    place = np.zeros(class_start.size, np.int64)
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
            i = _first_of_tunnel(
                record_ns,
                record_tunnel,
                following,
                class_start[c],
                class_start[c + 1],
                k,
                place[c] if looked[c] == q else -1,
                looked_ns[c],
                first,
                last,
            )
            looked[c], looked_ns[c], place[c] = q, first, i
            best_free, best_owned = 0.0, 0.0
            free, owned = -1, -1
            while i >= 0 and record_ns[i] <= last:
                u = record_ns[i]
                slot = ((t - u if egress_up[j] else u - t) - low_ns) // step_ns
                if owner[i] != f and slot < bins:
                    g = density_up[slot] if egress_up[j] else density_down[slot]
                    if owner[i] < 0:
                        if g > best_free:
                            best_free, free = g, i
                    elif g > best_owned:
                        best_owned, owned = g, i
                i = following[i]
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
    following,
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

    A record is out of reach of a flow if another flow owns it whose ``claim`` (one a flow) is above the
    pair's limit, or if the flow owns it but a ``rival`` above the limit was turned away. Rotated flows
    (``pair_shift_ns`` not 0) own nothing.
    """
    score = np.empty(pair_flow.size, np.float64)
    used = np.zeros(record_ns.size, np.bool_)
    bins = density_up.size
    log_miss, odds = np.log(miss), (1.0 - miss) / miss
    follow_hit, follow_miss = follower_steps(miss)
    reach_ns = low_ns + bins * step_ns
    # Where the last packet of this flow and class began to look, and what it found.
    looked = np.full(class_start.size, -1, np.int64)
    looked_ns = np.zeros(class_start.size, np.int64)
    place = np.zeros(class_start.size, np.int64)
    for q in range(pair_flow.size):
        f, k, limit, shift_ns = pair_flow[q], pair_tunnel[q], pair_limit[q], pair_shift_ns[q]
        total, product, against = 0.0, 1.0, 0.0
        taken = np.empty(flow_start[f + 1] - flow_start[f], np.int32)
        hits = 0
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
            i = _first_of_tunnel(
                record_ns,
                record_tunnel,
                following,
                class_start[c],
                class_start[c + 1],
                k,
                place[c] if looked[c] == q else -1,
                looked_ns[c],
                first,
                last,
            )
            looked[c], looked_ns[c], place[c] = q, first, i
            x, dense, best, best_record = 0.0, 0.0, 0.0, -1
            while i >= 0 and record_ns[i] <= last:
                u = record_ns[i]
                slot = ((t - u if egress_up[j] else u - t) - low_ns) // step_ns
                if slot < bins:
                    g = density_up[slot] if egress_up[j] else density_down[slot]
                    dense += g * width_ns
                    g /= record_rate[i]
                    x += g
                    if g > best and not used[i]:
                        mine = owner[i] == f and shift_ns == 0
                        contested = rival[i] > limit if mine else owner[i] >= 0 and claim[owner[i]] > limit
                        if not contested:
                            best, best_record = g, i
                i = following[i]
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
    return score
