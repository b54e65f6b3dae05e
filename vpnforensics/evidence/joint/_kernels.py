"""The loops of the joint model: which packet may be which record, and one round of messages.

An *edge* is a (packet, record) pair within reach of the delay law. A *group* is those packets of one flow,
of one size class, whose edges to one tunnel overlap: they compete for the same records. A *pair* is a (flow,
tunnel) with its groups. A *link* is a group and a record in its range. Everything is sorted by flow,
tunnel, class and time, so that each is a range of the next.

Records are numbered tunnel by tunnel, class by class, ascending in time: those of a group are consecutive.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import first_at_least
from vpnforensics.align.classes import IN_PIECES
from vpnforensics.engines._hole_kernels import KINDS, kind_of
from vpnforensics.kernels import kernel

Ints = npt.NDArray[np.int64]
Ints32 = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_NEGLIGIBLE = 1e-7
"""Of a tunnel with a smaller posterior a flow claims nothing: a claim is at most this part of a sure
flow's."""


class Packets(NamedTuple):
    """Egress packets on the ingress clock, ascending by flow, size class and time."""

    flow: Ints32
    ts_ns: Ints
    up: Bools
    size_class: Ints32
    """0 and up."""


class Reach(NamedTuple):
    """Support of the delay law: bins of ``2 ** step_bits`` ns from ``low_ns``."""

    low_ns: int
    step_bits: int
    bins: int


class Graph(NamedTuple):
    """What may have carried what; ``x_y[i]:x_y[i + 1]`` are the ys of x i."""

    flow_pairs: Ints
    pair_flow: Ints32
    pair_tunnel: Ints32
    pair_groups: Ints
    group_up: Bools
    group_runs: Ints
    """A run is one packet of a group."""
    group_links: Ints
    group_record: Ints32
    """First record of each group's links; the others follow it."""
    run_kind: npt.NDArray[np.uint8]
    """What the tunnel's counter says of each run's time, and its direction."""
    run_edges: Ints
    run_record: Ints32
    """First record of each run's edges; the others follow it."""
    edge_slot: Ints32
    """Bin of the delay law."""
    record_links: Ints
    links_by_record: Ints
    link_flow: Ints32


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


@kernel
def span(up, ts_ns, reach):  # type: ignore[no-untyped-def]
    """First time at which a record may have carried a packet, and the first too late for it."""
    high_ns = reach.low_ns + (reach.bins << reach.step_bits)
    if up:
        return ts_ns - high_ns + 1, ts_ns - reach.low_ns + 1
    return ts_ns + reach.low_ns, ts_ns + high_ns


@kernel
def count_edges(packets, class_start, record_ns, reach):  # type: ignore[no-untyped-def]
    """Records in reach of each packet, int32, shape (packets,)."""
    counts = np.zeros(packets.ts_ns.size, np.int32)
    for j in range(packets.ts_ns.size):
        c = packets.size_class[j]
        begin, end = span(packets.up[j], packets.ts_ns[j], reach)
        first = first_at_least(record_ns, class_start[c], class_start[c + 1], begin)
        counts[j] = first_at_least(record_ns, first, class_start[c + 1], end) - first
    return counts


@kernel
def fill_edges(packets, class_start, record_ns, reach, edges):  # type: ignore[no-untyped-def]
    """The ``edges`` pairs that :func:`count_edges` counted: packet, row of the record, bin of the delay;
    int32.
    """
    packet = np.empty(edges, np.int32)
    row = np.empty(edges, np.int32)
    slot = np.empty(edges, np.int32)
    n = 0
    for j in range(packets.ts_ns.size):
        c, t = packets.size_class[j], packets.ts_ns[j]
        begin, end = span(packets.up[j], t, reach)
        i = first_at_least(record_ns, class_start[c], class_start[c + 1], begin)
        while i < class_start[c + 1] and record_ns[i] < end:
            delay = t - record_ns[i] if packets.up[j] else record_ns[i] - t
            packet[n], row[n], slot[n] = j, i, (delay - reach.low_ns) >> reach.step_bits
            n += 1
            i += 1
    return packet, row, slot


@kernel
def kinds_of_runs(packet, tunnel, up, ts_ns, holes, reach):  # type: ignore[no-untyped-def]
    """What the tunnels' counters say of packets that may be in them, uint8.

    Parameters
    ----------
    packet, tunnel : ndarray, shape (n,)
        Rows of ``up`` and ``ts_ns``, and where each is looked for.
    """
    kind = np.empty(packet.size, np.uint8)
    for r in range(packet.size):
        j = packet[r]
        first, last = span(up[j], ts_ns[j], reach)
        kind[r] = kind_of(holes, tunnel[r], up[j], first, last - 1)
    return kind


@kernel
def count_kinds(  # type: ignore[no-untyped-def]
    pair_flow, pair_tunnel, map_of_tunnel, start, size_class, up, ts_ns, holes, reach
):
    """Packets of each pair's flow that its tunnel would have carried as one, by kind; (pairs, KINDS)."""
    count = np.zeros((pair_flow.size, KINDS), np.float64)
    for p in range(pair_flow.size):
        k = pair_tunnel[p]
        for j in range(start[pair_flow[p]], start[pair_flow[p] + 1]):
            if size_class[map_of_tunnel[k], j] != IN_PIECES:
                first, last = span(up[j], ts_ns[j], reach)
                count[p, kind_of(holes, k, up[j], first, last - 1)] += 1.0
    return count


@kernel
def first_of_groups(run_pair, run_class, run_record, run_edges, most):  # type: ignore[no-untyped-def]
    """Marks the runs that begin a group: another pair, another class, no record in common, or ``most``
    runs.
    """
    begins = np.zeros(run_pair.size, np.bool_)
    end, runs = -1, 0
    for r in range(run_pair.size):
        apart = r == 0 or run_pair[r] != run_pair[r - 1] or run_class[r] != run_class[r - 1]
        # A run that starts before the one before it does (its packet was turned past the end) is apart, too.
        if apart or run_record[r] >= end or run_record[r] < run_record[r - 1] or runs == most:
            begins[r] = True
            end, runs = -1, 0
        end = max(end, run_record[r] + run_edges[r + 1] - run_edges[r])
        runs += 1
    return begins


@kernel
def records_around(row, tunnel_start, class_start, ts_ns, half_ns):  # type: ignore[no-untyped-def]
    """Records of the same tunnel and class within ``half_ns`` of each, itself included.

    Parameters
    ----------
    row : ndarray of int32, shape (n,)
        Rows of the size classes by tunnel (``tunnel_start``), ascending in each.
    tunnel_start, class_start : ndarray of int64
    ts_ns : ndarray of int64, shape (n,)
        Their times in that order; ascending within a tunnel and class.
    half_ns : int

    Returns
    -------
    ndarray of int32, shape (n,)
    """
    count = np.empty(ts_ns.size, np.int32)
    for k in range(tunnel_start.size - 1):
        begin, stop, c = tunnel_start[k], tunnel_start[k + 1], 0
        while begin < stop:
            while class_start[c + 1] <= row[begin]:
                c += 1
            end = first_at_least(row, begin, stop, class_start[c + 1])
            low = high = begin
            for i in range(begin, end):
                while high < end and ts_ns[high] <= ts_ns[i] + half_ns:
                    high += 1
                while ts_ns[low] < ts_ns[i] - half_ns:
                    low += 1
                count[i] = high - low
            begin = end
    return count


@kernel
def sum_forward(graph, rates, g, scratch):  # type: ignore[no-untyped-def]
    """Ln of the summed weight of all ways in which the records of group ``g`` carried its packets.

    A packet was carried by one record, with the density of the delay over what else the record is open to
    (``scratch.open``), or missed; a record carried one packet or none. Record by record, one sum is kept
    for every set of packets carried so far: n packets and r records cost r n 2^n.
    """
    first, records = graph.group_record[g], graph.group_links[g + 1] - graph.group_links[g]
    run0, n = graph.group_runs[g], graph.group_runs[g + 1] - graph.group_runs[g]
    side = 1 if graph.group_up[g] else 0
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
            x = b - (graph.run_record[run0 + a] - first)
            edge = graph.run_edges[run0 + a] + x
            if x < 0 or edge >= graph.run_edges[run0 + a + 1]:
                continue
            there = 1.0 - rates.miss[graph.run_kind[run0 + a]]
            m = there * rates.density[side, graph.edge_slot[edge]] / scratch.open[b]
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
    first, records = graph.group_record[g], graph.group_links[g + 1] - graph.group_links[g]
    run0, n = graph.group_runs[g], graph.group_runs[g + 1] - graph.group_runs[g]
    side = 1 if graph.group_up[g] else 0
    sets = 1 << n
    backward = scratch.backward
    for s in range(sets):
        backward[records * sets + s] = missed_others(graph, rates, run0, n, s)
    for b in range(records - 1, -1, -1):
        before, after = b * sets, (b + 1) * sets
        for s in range(sets):
            backward[before + s] = backward[after + s]
        for a in range(n):
            x = b - (graph.run_record[run0 + a] - first)
            edge = graph.run_edges[run0 + a] + x
            if x < 0 or edge >= graph.run_edges[run0 + a + 1]:
                continue
            there = 1.0 - rates.miss[graph.run_kind[run0 + a]]
            m = there * rates.density[side, graph.edge_slot[edge]] / scratch.open[b]
            bit = 1 << a
            for s in range(sets):
                if not s & bit:
                    backward[before + s] += m * backward[after + s + bit]


@kernel
def use_of_edge(graph, rates, g, a, x, log_sum, scratch):  # type: ignore[no-untyped-def]
    """P(the a-th packet of group ``g`` used the x-th of its records | the flow is in that tunnel)."""
    side = 1 if graph.group_up[g] else 0
    r = graph.group_runs[g] + a
    b = graph.run_record[r] - graph.group_record[g] + x
    bit, sets = 1 << a, 1 << (graph.group_runs[g + 1] - graph.group_runs[g])
    ways = 0.0
    for s in range(sets):
        if not s & bit:
            ways += scratch.forward[b * sets + s] * scratch.backward[(b + 1) * sets + s + bit]
    m = (
        (1.0 - rates.miss[graph.run_kind[r]])
        * rates.density[side, graph.edge_slot[graph.run_edges[r] + x]]
        / scratch.open[b]
    )
    return ways * m * np.exp(-log_sum)


@kernel
def open_records(graph, rates, messages, g, scratch):  # type: ignore[no-untyped-def]
    """Fill ``scratch.open``: to what else each record of group ``g`` is open, as a rate.

    That is chance, and what other groups claim.
    """
    for b in range(graph.group_links[g + 1] - graph.group_links[g]):
        i, link = graph.group_record[g] + b, graph.group_links[g] + b
        scratch.open[b] = rates.chance[i] + max(messages.claimed[i] - messages.claim[link], 0.0)


@kernel
def flow_round(graph, rates, messages, scratch, damping, learn, learned):  # type: ignore[no-untyped-def]
    """Every flow's posterior, and what it claims of the records; the largest change of a claim.

    Claims move by ``1 - damping`` of the way, geometrically; with a damping of 1 they stay.
    """
    posterior, weight, none, claim = messages.posterior, messages.weight, messages.none, messages.claim
    worst = 0.0
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
        z = np.exp(rates.log_none - top)
        for p in range(first, last):
            z += np.exp(weight[p] - top)
        none[f] = np.exp(rates.log_none - top) / z
        likeliest = first
        for p in range(first, last):
            posterior[p] = np.exp(weight[p] - top) / z
            if posterior[p] > posterior[likeliest]:
                likeliest = p
        beside = none[
            f
        ]  # everything but the likeliest tunnel: 1 less its posterior would be lost below 1e-16
        for p in range(first, last):
            beside += posterior[p] if p != likeliest else 0.0
        if damping >= 1.0:
            continue
        for p in range(first, last):
            rest = beside if p == likeliest else 1.0 - posterior[p]
            if posterior[p] < _NEGLIGIBLE:
                for link in range(
                    graph.group_links[graph.pair_groups[p]], graph.group_links[graph.pair_groups[p + 1]]
                ):
                    claim[link] *= damping
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
                    moved = np.exp(damping * np.log(old + 1e-30) + (1.0 - damping) * np.log(new + 1e-30))
                    floor = 1e-3 * rates.chance[graph.group_record[g] + b]
                    worst = max(worst, abs(np.log((moved + floor) / (old + floor))))
                    claim[link0 + b] = moved
    return worst


@kernel
def sum_claims(graph, messages):  # type: ignore[no-untyped-def]
    """Add the links' claims up by record."""
    for i in range(graph.record_links.size - 1):
        total = 0.0
        for x in range(graph.record_links[i], graph.record_links[i + 1]):
            total += messages.claim[graph.links_by_record[x]]
        messages.claimed[i] = total
