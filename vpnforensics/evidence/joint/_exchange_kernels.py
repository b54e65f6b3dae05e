"""The exchange check: a flow in another tunnel, and who held its records there moved out of the way.

The pair check sees two flows that may have swapped tunnels. One lookup of four packets may as well have
swapped with two of two packets each: neither of these frees enough of its records for it, and only together
they do. So each flow is put into each other tunnel that it may fit, all who hold its records there are taken
out and laid again one by one, each where it then fits best, and the two attributions are compared::

    r = product of the weights after it / product of those before,   error = r / (1 + r)

The error holds for every flow that such an exchange moves. Where it moves nobody but the first, it is none:
that flow's own posterior has weighed it, and with claims spread over the equal records of a burst there would
seem to be room for one more.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.evidence.joint._trial_kernels import fit, lay, set_all_claims
from vpnforensics.kernels import kernel

_HOLDERS = 8
"""Flows that are moved out of the way of one, at most: of a larger burst the first met."""
_HOPELESS = 25.0
"""Ln by which a flow may fit worse in a tunnel cleared for it than where it is, and still be tried there."""


@kernel
def exchange_errors(graph, rates, messages, trial, flows, best_pair, worst, scratch):  # type: ignore[no-untyped-def]
    """Raise ``worst`` to the error of each flow's best pair over all exchanges that move it.

    Parameters
    ----------
    graph, rates, messages
    trial : Messages
        Copies of the claims, and room for trying others; as before at the end.
    flows : ndarray of int64
        Those to try elsewhere.
    best_pair : ndarray of int64, one a flow of the graph
        Pair that each would be linked by, or -1.
    worst : ndarray of float64, one a flow of the graph
    scratch
    """
    held = np.empty(_HOLDERS, np.int64)
    moved = np.empty(_HOLDERS, np.bool_)
    met_by = np.full(graph.flow_pairs.size - 1, -1, np.int64)
    none = scratch.none
    for f in flows:
        mine = best_pair[f]
        for p in range(graph.flow_pairs[f], graph.flow_pairs[f + 1]):
            if p == mine:
                continue
            n = 0
            for g in range(graph.pair_groups[p], graph.pair_groups[p + 1]):
                for b in range(graph.group_links[g + 1] - graph.group_links[g]):
                    i = graph.group_record[g] + b
                    for x in range(graph.record_links[i], graph.record_links[i + 1]):
                        y = graph.links_by_record[x]
                        h = graph.link_flow[y]
                        if h == f or n == _HOLDERS or met_by[h] == p or messages.claim[y] < rates.chance[i]:
                            continue
                        met_by[h] = p
                        if best_pair[h] >= 0 and graph.pair_tunnel[best_pair[h]] == graph.pair_tunnel[p]:
                            held[n] = h
                            n += 1
            if n == 0:
                continue
            set_all_claims(graph, trial, f, none)
            for e in held[:n]:
                set_all_claims(graph, trial, e, none)
            before = fit(graph, rates, trial, mine, scratch)
            after = fit(graph, rates, trial, p, scratch)
            if after > before - _HOPELESS:
                lay(graph, rates, trial, p, none, scratch)
                for number in range(n):
                    e = held[number]
                    best, where = rates.log_none, -1
                    for other in range(graph.flow_pairs[e], graph.flow_pairs[e + 1]):
                        w = fit(graph, rates, trial, other, scratch)
                        if w > best:
                            best, where = w, other
                    after += best
                    moved[number] = where != best_pair[e]
                    if where >= 0:
                        lay(graph, rates, trial, where, none, scratch)
                set_all_claims(graph, trial, f, none)
                for e in held[:n]:
                    set_all_claims(graph, trial, e, none)
                lay(graph, rates, trial, mine, none, scratch)
                for e in held[:n]:
                    before += fit(graph, rates, trial, best_pair[e], scratch)
                    lay(graph, rates, trial, best_pair[e], none, scratch)
                error = 1.0 / (1.0 + np.exp(min(before - after, 700.0)))
                for number in range(n):
                    if moved[number]:
                        worst[f] = max(worst[f], error)
                        worst[held[number]] = max(worst[held[number]], error)
            set_all_claims(graph, trial, f, messages.claim)
            for e in held[:n]:
                set_all_claims(graph, trial, e, messages.claim)
