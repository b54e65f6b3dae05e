"""Trying other attributions: flows taken out of the messages, and laid into tunnels one after another.

Each weight is reckoned with what those laid before claim, so that a product of weights is the joint weight of
these flows; everybody else's messages are held fixed.
"""

from __future__ import annotations

from vpnforensics.evidence.joint._message_kernels import open_records, sum_backward, sum_forward, use_of_edge
from vpnforensics.kernels import kernel

SURELY = 1e12
"""Times the rate of unexplained records: a claim that leaves nothing to others."""


@kernel
def fit(graph, rates, trial, pair, scratch):  # type: ignore[no-untyped-def]
    """Ln weight of a pair, prior included, beside what all others claim."""
    w = rates.log_prior[graph.pair_flow[pair]] + rates.log_unseen[pair]
    for g in range(graph.pair_groups[pair], graph.pair_groups[pair + 1]):
        open_records(graph, rates, trial, g, scratch)
        w += sum_forward(graph, rates, g, scratch)
    return w


@kernel
def set_claims(graph, trial, first, last, claims):  # type: ignore[no-untyped-def]
    """Replace what the pairs from ``first`` to before ``last`` claim, and sum anew what is claimed of their
    records.
    """
    g0, g1 = graph.pair_groups[first], graph.pair_groups[last]
    for link in range(graph.group_links[g0], graph.group_links[g1]):
        trial.claim[link] = claims[link]
    for g in range(g0, g1):
        for b in range(graph.group_links[g + 1] - graph.group_links[g]):
            i = graph.group_record[g] + b
            total = 0.0
            for x in range(graph.record_links[i], graph.record_links[i + 1]):
                total += trial.claim[graph.links_by_record[x]]
            trial.claimed[i] = total


@kernel
def give(graph, rates, trial, owner, scratch):  # type: ignore[no-untyped-def]
    """Let each record be claimed, surely, by the flow that it is given to, and by nobody else.

    Parameters
    ----------
    graph, rates
    trial : Messages
        Its claims are made anew, and the weights of all pairs beside them.
    owner : ndarray of int32, one a record
        Flow, or -1.
    scratch
    """
    trial.claim[:] = 0.0
    trial.claimed[:] = 0.0
    for i in range(owner.size):
        for x in range(graph.record_links[i], graph.record_links[i + 1]):
            y = graph.links_by_record[x]
            if owner[i] >= 0 and graph.link_flow[y] == owner[i]:
                trial.claim[y] = trial.claimed[i] = SURELY * rates.chance[i]
                break
    for p in range(graph.pair_tunnel.size):
        trial.weight[p] = fit(graph, rates, trial, p, scratch)


@kernel
def lay(graph, rates, trial, pair, none, scratch):  # type: ignore[no-untyped-def]
    """Let a flow that claims nothing claim as if it were surely in that tunnel.

    ``none`` is all 0, one a link, before and after.
    """
    for g in range(graph.pair_groups[pair], graph.pair_groups[pair + 1]):
        open_records(graph, rates, trial, g, scratch)
        log_sum = sum_forward(graph, rates, g, scratch)
        sum_backward(graph, rates, g, scratch)
        link0, links = graph.group_links[g], graph.group_links[g + 1] - graph.group_links[g]
        for a in range(graph.group_runs[g + 1] - graph.group_runs[g]):
            r = graph.group_runs[g] + a
            for x in range(graph.run_edges[r + 1] - graph.run_edges[r]):
                u = use_of_edge(graph, rates, g, a, x, log_sum, scratch)
                none[link0 + graph.run_record[r] - graph.group_record[g] + x] += u
        for b in range(links):
            u = min(none[link0 + b], 1.0)
            none[link0 + b] = u / max(1.0 - u, 1e-15) * scratch.open[b]
    set_claims(graph, trial, pair, pair + 1, none)
    l0, l1 = graph.group_links[graph.pair_groups[pair]], graph.group_links[graph.pair_groups[pair + 1]]
    none[l0:l1] = 0.0
