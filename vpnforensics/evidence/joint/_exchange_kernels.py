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

from vpnforensics.evidence.joint._trial_kernels import (
    fit,
    fit_in_trial,
    give_back,
    lay,
    set_claims,
    take_away,
    touch,
)
from vpnforensics.kernels import kernel

_HOLDERS = 8
"""Flows that are moved out of the way of one, at most: of a larger burst the first met."""
_HOPELESS = 25.0
"""Ln by which a flow may fit worse in a tunnel cleared for it than where it is, and still be tried there."""


@kernel
def holders(graph, rates, claim):  # type: ignore[no-untyped-def]
    """Flows that claim a record more than chance does, by record: starts, and the flows, as links come."""
    start = np.zeros(graph.record_links.size, np.int64)
    for i in range(graph.record_links.size - 1):
        start[i + 1] = start[i]
        for x in range(graph.record_links[i], graph.record_links[i + 1]):
            start[i + 1] += claim[graph.links_by_record[x]] >= rates.chance[i]
    flow = np.empty(start[-1], np.int32)
    n = 0
    for i in range(graph.record_links.size - 1):
        for x in range(graph.record_links[i], graph.record_links[i + 1]):
            if claim[graph.links_by_record[x]] >= rates.chance[i]:
                flow[n] = graph.link_flow[graph.links_by_record[x]]
                n += 1
    return start, flow


@kernel
def exchange_errors(  # type: ignore[no-untyped-def]
    graph, rates, messages, trial, flows, best_pair, worst, known, scratch
):
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
    known : Known
        Of these messages.
    scratch
    """
    held = np.empty(_HOLDERS, np.int64)
    laid = np.empty(_HOLDERS, np.int64)
    moved = np.empty(_HOLDERS, np.bool_)
    met_by = np.full(graph.flow_pairs.size - 1, -1, np.int64)
    none = scratch.none
    holder_start, holder = holders(graph, rates, messages.claim)
    known.trial[:] = -1
    for f in flows:
        mine = best_pair[f]
        for p in range(graph.flow_pairs[f], graph.flow_pairs[f + 1]):
            if p == mine:
                continue
            n = 0
            for g in range(graph.pair_groups[p], graph.pair_groups[p + 1]):
                for b in range(graph.group_links[g + 1] - graph.group_links[g]):
                    i = graph.group_record[g] + b
                    for x in range(holder_start[i], holder_start[i + 1]):
                        h = holder[x]
                        if h == f or n == _HOLDERS or met_by[h] == p:
                            continue
                        met_by[h] = p
                        if best_pair[h] >= 0 and graph.pair_tunnel[best_pair[h]] == graph.pair_tunnel[p]:
                            held[n] = h
                            n += 1
            if n == 0:
                continue
            # Trials are told apart by the pair that is tried.
            take_away(graph, trial, known, p, f, none)
            for e in held[:n]:
                take_away(graph, trial, known, p, e, none)
            before = fit_in_trial(graph, rates, trial, known, p, mine, scratch)
            after = fit_in_trial(graph, rates, trial, known, p, p, scratch)
            if after > before - _HOPELESS:
                lay(graph, rates, trial, p, none, scratch)
                touch(known, p, graph.pair_tunnel[p], -1)
                for number in range(n):
                    e = held[number]
                    best, where = rates.log_none, -1
                    for other in range(graph.flow_pairs[e], graph.flow_pairs[e + 1]):
                        w = fit_in_trial(graph, rates, trial, known, p, other, scratch)
                        if w > best:
                            best, where = w, other
                    after += best
                    moved[number] = where != best_pair[e]
                    laid[number] = where
                    if where >= 0:
                        lay(graph, rates, trial, where, none, scratch)
                        touch(known, p, graph.pair_tunnel[where], -1)
                set_claims(graph, trial, p, p + 1, none)
                for where in laid[:n]:
                    if where >= 0:
                        set_claims(graph, trial, where, where + 1, none)
                # Where f was, it is in no holder's way.
                for e in held[:n]:
                    before += fit(graph, rates, trial, best_pair[e], scratch)
                    lay(graph, rates, trial, best_pair[e], none, scratch)
                error = 1.0 / (1.0 + np.exp(min(before - after, 700.0)))
                for number in range(n):
                    if moved[number]:
                        worst[f] = max(worst[f], error)
                        worst[held[number]] = max(worst[held[number]], error)
            give_back(graph, trial, known, f, messages.claim)
            for e in held[:n]:
                give_back(graph, trial, known, e, messages.claim)
