"""The pair check: the exact posterior of every two flows that compete for a record.

Where two flows may have swapped tunnels (the same sizes at nearly the same times), the graph has short loops:
each packet of the one hears of the swap from the same other flow, and the messages multiply that single doubt
packet by packet as if it were independent. For two flows the joint posterior can be had exactly, everybody
else's messages held fixed::

    P(f in k) = [ w_f(k) (W_h - w_h(k)) + J(k) ] / [ W_f W_h + sum over common k' of (J(k') - w_f(k')
    w_h(k')) ]

``w``: the weights of either flow without the other's claims; ``W``: their sums, none included; ``J(k)``: the
weight of both in k, h's reckoned with what f claims of each record, given that it is in k.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.evidence.joint._trial_kernels import fit, lay, set_claims
from vpnforensics.kernels import kernel

_FEWER = 8
"""Flows with fewer than one packet to so many of another's are no rivals of it: they bound only the work."""


@kernel
def _runs(graph, flow):  # type: ignore[no-untyped-def]
    """Packets of a flow with edges, counted once a tunnel."""
    first, last = graph.flow_pairs[flow], graph.flow_pairs[flow + 1]
    return graph.group_runs[graph.pair_groups[last]] - graph.group_runs[graph.pair_groups[first]]


@kernel
def pair_errors(graph, rates, messages, trial, flows, best_pair, most, scratch):  # type: ignore[no-untyped-def]
    """Worst error of each flow's best pair over its rivals, shape (flows of the graph,); 0 where
    unchallenged.

    Parameters
    ----------
    graph, rates, messages
    trial : Messages
        Copies of the claims, for trying others; as before at the end.
    flows : ndarray of int64
        Those to check.
    best_pair : ndarray of int64, one a flow of the graph
        Pair that each would be linked by, or -1.
    most : int
        Rivals looked at of a flow, those first that want its records first.
    scratch
    """
    n_flows = graph.flow_pairs.size - 1
    worst = np.zeros(n_flows)
    none = scratch.none
    rivals = np.empty(most, np.int64)
    met_by = np.full(n_flows, -1, np.int64)
    for f in flows:
        mine = best_pair[f]
        n = 0
        packets = _runs(graph, f)
        for g in range(graph.pair_groups[mine], graph.pair_groups[mine + 1]):
            links = graph.group_links[g + 1] - graph.group_links[g]
            for i in range(graph.group_record[g], graph.group_record[g] + links):
                for x in range(graph.record_links[i], graph.record_links[i + 1]):
                    h = graph.link_flow[graph.links_by_record[x]]
                    if h == f or met_by[h] == f or n == most:
                        continue
                    met_by[h] = f
                    # A flow of far fewer packets meets few of this one's: no doubt to be counted many times.
                    if _FEWER * _runs(graph, h) >= packets:
                        rivals[n] = h
                        n += 1
        for number in range(n):
            h = rivals[number]
            f0, f1, h0, h1 = (
                graph.flow_pairs[f], graph.flow_pairs[f + 1], graph.flow_pairs[h], graph.flow_pairs[h + 1],
            )  # fmt: skip
            of_f, of_h = np.empty(f1 - f0), np.empty(h1 - h0)
            for a in range(f1 - f0):
                of_f[a] = messages.weight[f0 + a]
            for b in range(h1 - h0):
                of_h[b] = messages.weight[h0 + b]
            partner = np.full(f1 - f0, -1, np.int64)
            both = np.full(f1 - f0, -1e300)
            b = 0
            for a in range(f1 - f0):
                while b < h1 - h0 and graph.pair_tunnel[h0 + b] < graph.pair_tunnel[f0 + a]:
                    b += 1
                common = b < h1 - h0 and graph.pair_tunnel[h0 + b] == graph.pair_tunnel[f0 + a]
                if common and (f0 + a == mine or h0 + b == best_pair[h]):
                    partner[a] = b
                    set_claims(graph, trial, f0 + a, f0 + a + 1, none)
                    set_claims(graph, trial, h0 + b, h0 + b + 1, none)
                    of_f[a] = fit(graph, rates, trial, f0 + a, scratch)
                    of_h[b] = fit(graph, rates, trial, h0 + b, scratch)
                    lay(graph, rates, trial, f0 + a, none, scratch)
                    both[a] = of_f[a] + fit(graph, rates, trial, h0 + b, scratch)
                    set_claims(graph, trial, f0 + a, f0 + a + 1, messages.claim)
                    set_claims(graph, trial, h0 + b, h0 + b + 1, messages.claim)
            top_f = top_h = rates.log_none
            for w in of_f:
                top_f = max(top_f, w)
            for w in of_h:
                top_h = max(top_h, w)
            none_f, sum_h = np.exp(rates.log_none - top_f), np.exp(rates.log_none - top_h)
            for w in of_h:
                sum_h += np.exp(w - top_h)
            right, wrong = 0.0, none_f * sum_h
            for a in range(f1 - f0):
                w_f = np.exp(of_f[a] - top_f)
                w_h = j = 0.0
                if partner[a] >= 0:
                    w_h = np.exp(of_h[partner[a]] - top_h)
                    j = np.exp(both[a] - top_f - top_h)
                weight = w_f * max(sum_h - w_h, 0.0) + j
                if f0 + a == mine:
                    right = weight
                else:
                    wrong += weight
            if right + wrong > 0.0:
                worst[f] = max(worst[f], wrong / (right + wrong))
    return worst
