"""One round of messages between flows and records, and the sums over ways of carrying that they are made of.

The terms of the graph are those of :mod:`vpnforensics.evidence.joint._graph_kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vpnforensics.arrays import Floats
from vpnforensics.kernels import inner_kernel, kernel

_NEGLIGIBLE = 1e-7
"""Of a tunnel with a smaller posterior a flow claims nothing: a claim is at most this part of a sure
flow's."""
ANEW, HALFWAY, KEPT = 0, 1, 2
"""What becomes of claims in a round: they are made anew, move to the geometric mean of what they are and
would be, or stay."""


class Rates(NamedTuple):
    """The parameters of the model; logarithms are natural."""

    log_prior: Floats
    """Of a flow for each single tunnel."""
    log_none: float
    """Of a flow for no tunnel at all."""
    log_unseen: Floats
    """Of a pair: its flow's packets without any edge there were all missed."""
    miss: Floats
    """By kind."""
    density: Floats
    """Of the delay, shape (2, bins): down, up; 1/ns."""
    chance: Floats
    """Rate of unexplained records of this kind, of each record; 1/ns."""


class Messages(NamedTuple):
    """What the rounds exchange, and what follows from it."""

    claim: Floats
    """Of a link: how much more its record is needed by the group, as a rate to set beside chance; 1/ns."""
    claimed: Floats
    """Of a record: the sum of its links' claims."""
    weight: Floats
    """Of a pair: ln P(everything of the flow | it is in this tunnel), prior included."""
    posterior: Floats
    """Of a pair."""
    none: Floats
    """Of a flow: P(no tunnel had it)."""


class Learned(NamedTuple):
    """Sufficient statistics of a round; filled anew by each that learns."""

    delays: Floats
    """Probability by bin of the delay, shape (2, bins)."""
    missed: Floats
    """Packets with edges that no record carried, in expectation; by kind."""
    carried: Floats
    """All packets with edges, in expectation; by kind."""


class Scratch(NamedTuple):
    """Room for the sums over matchings of one group."""

    forward: Floats
    backward: Floats
    open: Floats
    none: Floats
    """All 0, one a link: what a flow claims that claims nothing. Whoever writes into it sets it back."""


@kernel(inline="always", error_model="numpy")
def carries(graph, rates, g, a, b, scratch):  # type: ignore[no-untyped-def]
    """Weight with which the b-th record of group ``g`` carried its a-th packet; 0 out of its reach."""
    r = graph.group_runs[g] + a
    x = b - (graph.run_record[r] - graph.group_record[g])
    edge = graph.run_edges[r] + x
    if x < 0 or edge >= graph.run_edges[r + 1]:
        return 0.0
    side = 1 if graph.group_up[g] else 0
    return (
        (1.0 - rates.miss[graph.run_kind[r]]) * rates.density[side, graph.edge_slot[edge]] / scratch.open[b]
    )


@kernel(inline="always")
def sum_forward(graph, rates, g, scratch):  # type: ignore[no-untyped-def]
    """Ln of the summed weight of all ways in which the records of group ``g`` carried its packets.

    A packet was carried by one record, with the density of the delay over what else the record is open to
    (``scratch.open``), or missed; a record carried one packet or none. Record by record, one sum is kept
    for every set of packets carried so far: n packets and r records cost r n 2^n. Of one packet, as nearly
    all groups are, there is one sum, and :func:`sum_backward` has nothing to add.
    """
    run0 = graph.group_runs[g]
    if graph.group_runs[g + 1] - run0 > 1:
        return sum_sets(graph, rates, g, scratch)
    carried = 0.0
    for b in range(graph.group_links[g + 1] - graph.group_links[g]):
        carried += carries(graph, rates, g, 0, b, scratch)
    return np.log(rates.miss[graph.run_kind[run0]] + carried)


@inner_kernel
def sum_sets(graph, rates, g, scratch):  # type: ignore[no-untyped-def]
    """:func:`sum_forward` of several packets."""
    records = graph.group_links[g + 1] - graph.group_links[g]
    run0, n = graph.group_runs[g], graph.group_runs[g + 1] - graph.group_runs[g]
    sets = 1 << n
    forward = scratch.forward
    forward[0] = 1.0
    for s in range(1, sets):
        forward[s] = 0.0
    for b in range(records):
        before, after = b * sets, (b + 1) * sets
        for s in range(sets):
            forward[after + s] = forward[before + s]
        for a in range(n):
            m = carries(graph, rates, g, a, b, scratch)
            if m == 0.0:
                continue
            bit = 1 << a
            for s in range(sets):
                if not s & bit:
                    forward[after + s + bit] += m * forward[before + s]
    total = 0.0
    for s in range(sets):
        total += forward[records * sets + s] * missed_others(graph, rates, run0, n, s)
    return np.log(total)


@kernel
def missed_others(graph, rates, run0, n, carried):  # type: ignore[no-untyped-def]
    """P(all of n packets that are not in the set ``carried`` were missed)."""
    p = 1.0
    for a in range(n):
        if not carried >> a & 1:
            p *= rates.miss[graph.run_kind[run0 + a]]
    return p


@kernel
def sum_backward(graph, rates, g, scratch):  # type: ignore[no-untyped-def]
    """The same sums from the end: of the packets not carried before a record, by it or those after it."""
    records = graph.group_links[g + 1] - graph.group_links[g]
    run0, n = graph.group_runs[g], graph.group_runs[g + 1] - graph.group_runs[g]
    if n == 1:
        return
    sets = 1 << n
    backward = scratch.backward
    for s in range(sets):
        backward[records * sets + s] = missed_others(graph, rates, run0, n, s)
    for b in range(records - 1, -1, -1):
        before, after = b * sets, (b + 1) * sets
        for s in range(sets):
            backward[before + s] = backward[after + s]
        for a in range(n):
            m = carries(graph, rates, g, a, b, scratch)
            if m == 0.0:
                continue
            bit = 1 << a
            for s in range(sets):
                if not s & bit:
                    backward[before + s] += m * backward[after + s + bit]


@kernel
def use_of_edge(graph, rates, g, a, x, log_sum, scratch):  # type: ignore[no-untyped-def]
    """P(the a-th packet of group ``g`` used the x-th of its records | the flow is in that tunnel)."""
    r = graph.group_runs[g] + a
    b = graph.run_record[r] - graph.group_record[g] + x
    bit, sets = 1 << a, 1 << (graph.group_runs[g + 1] - graph.group_runs[g])
    if sets == 2:
        return carries(graph, rates, g, a, b, scratch) * np.exp(-log_sum)
    ways = 0.0
    for s in range(sets):
        if not s & bit:
            ways += scratch.forward[b * sets + s] * scratch.backward[(b + 1) * sets + s + bit]
    return ways * carries(graph, rates, g, a, b, scratch) * np.exp(-log_sum)


@kernel(inline="always")
def open_records(graph, rates, messages, g, scratch):  # type: ignore[no-untyped-def]
    """Fill ``scratch.open``: to what else each record of group ``g`` is open, as a rate.

    That is chance, and what other groups claim.
    """
    for b in range(graph.group_links[g + 1] - graph.group_links[g]):
        i, link = graph.group_record[g] + b, graph.group_links[g] + b
        scratch.open[b] = rates.chance[i] + max(messages.claimed[i] - messages.claim[link], 0.0)


@kernel
def flow_round(graph, rates, messages, scratch, claims, learn, learned):  # type: ignore[no-untyped-def]
    """Every flow's posterior, and what it claims of the records; the largest change of a claim.

    ``claims`` is one of :data:`ANEW`, :data:`HALFWAY` and :data:`KEPT`.
    """
    posterior, weight, none, claim = messages.posterior, messages.weight, messages.none, messages.claim
    worst = 1.0
    if learn:
        learned.delays[:] = 0.0
        learned.missed[:] = 0.0
        learned.carried[:] = 0.0
    for f in range(graph.flow_pairs.size - 1):
        first, last = graph.flow_pairs[f], graph.flow_pairs[f + 1]
        top = rates.log_none
        for p in range(first, last):
            w = rates.log_prior[f] + rates.log_unseen[p]
            for g in range(graph.pair_groups[p], graph.pair_groups[p + 1]):
                open_records(graph, rates, messages, g, scratch)
                w += sum_forward(graph, rates, g, scratch)
            weight[p] = w
            top = max(top, w)
        alone = np.exp(rates.log_none - top)
        z = alone
        for p in range(first, last):
            posterior[p] = np.exp(weight[p] - top)
            z += posterior[p]
        none[f] = alone / z
        likeliest = first
        for p in range(first, last):
            posterior[p] /= z
            if posterior[p] > posterior[likeliest]:
                likeliest = p
        beside = none[
            f
        ]  # everything but the likeliest tunnel: 1 less its posterior would be lost below 1e-16
        for p in range(first, last):
            beside += posterior[p] if p != likeliest else 0.0
        if claims == KEPT:
            continue
        for p in range(first, last):
            rest = beside if p == likeliest else 1.0 - posterior[p]
            if posterior[p] < _NEGLIGIBLE:
                for link in range(
                    graph.group_links[graph.pair_groups[p]], graph.group_links[graph.pair_groups[p + 1]]
                ):
                    claim[link] *= 0.5 if claims == HALFWAY else 0.0
                continue
            for g in range(graph.pair_groups[p], graph.pair_groups[p + 1]):
                open_records(graph, rates, messages, g, scratch)
                log_sum = sum_forward(graph, rates, g, scratch)
                sum_backward(graph, rates, g, scratch)
                side = 1 if graph.group_up[g] else 0
                link0, links = graph.group_links[g], graph.group_links[g + 1] - graph.group_links[g]
                used = np.zeros(links)
                for a in range(graph.group_runs[g + 1] - graph.group_runs[g]):
                    r = graph.group_runs[g] + a
                    of_packet = 0.0
                    for x in range(graph.run_edges[r + 1] - graph.run_edges[r]):
                        u = use_of_edge(graph, rates, g, a, x, log_sum, scratch)
                        used[graph.run_record[r] - graph.group_record[g] + x] += u
                        of_packet += u
                        if learn and posterior[p] * u > 0.5:
                            learned.delays[side, graph.edge_slot[graph.run_edges[r] + x]] += posterior[p] * u
                    if learn:
                        learned.missed[graph.run_kind[r]] += posterior[p] * max(1.0 - of_packet, 0.0)
                        learned.carried[graph.run_kind[r]] += posterior[p]
                for b in range(links):
                    u = min(used[b], 1.0)
                    odds = posterior[p] * u / max(rest + posterior[p] * (1.0 - u), 1e-15)
                    new = odds * scratch.open[b]
                    old = claim[link0 + b]
                    moved = np.sqrt((old + 1e-30) * (new + 1e-30)) if claims == HALFWAY else new
                    floor = 1e-3 * rates.chance[graph.group_record[g] + b]
                    ratio = (moved + floor) / (old + floor)
                    worst = max(worst, ratio, 1.0 / ratio)
                    claim[link0 + b] = moved
    return np.log(worst)


@kernel
def sum_unexplained(cell, counted, chance, claimed, total):  # type: ignore[no-untyped-def]
    """Add to ``total``, by cell, the expected number of unexplained records, of those cells that count.

    Parameters
    ----------
    cell : ndarray of int32, one a record
    counted : ndarray of float64, one a cell
        1 where its records count, or 0.
    chance, claimed : ndarray of float64, one a record
    total : ndarray of float64, one a cell
    """
    for i in range(cell.size):
        total[cell[i]] += chance[i] / (chance[i] + claimed[i]) * counted[cell[i]]


@kernel
def sum_claims(graph, messages):  # type: ignore[no-untyped-def]
    """Add the links' claims up by record."""
    for i in range(graph.record_links.size - 1):
        total = 0.0
        for x in range(graph.record_links[i], graph.record_links[i + 1]):
            total += messages.claim[graph.links_by_record[x]]
        messages.claimed[i] = total
