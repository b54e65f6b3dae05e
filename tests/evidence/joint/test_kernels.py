"""The sums over matchings against every matching, one by one."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evidence.joint.made import made
from vpnforensics.engines._hole_kernels import KINDS
from vpnforensics.evidence.joint._graph_kernels import Reach
from vpnforensics.evidence.joint._message_kernels import (
    Messages,
    Rates,
    open_records,
    sum_backward,
    sum_forward,
    use_of_edge,
)
from vpnforensics.evidence.joint.graph import Asked, connect, edges_of_packets
from vpnforensics.evidence.joint.rounds import Room

MISS = 0.1


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5))
def test_every_way_of_carrying_is_summed_once(seed: int, packets: int, records: int) -> None:
    rng = np.random.default_rng(seed)
    flow = [(float(t), 100, True) for t in np.sort(rng.uniform(0, 4, packets))]
    outer = [(float(t), 100, True, 0) for t in np.sort(rng.uniform(-2, 6, records))]
    case = made([flow], outer, tunnels=1)
    law = case.law
    reach = Reach(law.low_ns, law.step_bits, len(law.up))
    asked = Asked.of_flows(case, np.ones(packets, np.bool_))
    connected = connect(case, asked, reach)
    graph = connected.graph
    scratch = Room.of(graph).scratch(np.zeros(len(graph.link_flow)))
    assert edges_of_packets(case, asked, reach).sum() == len(graph.edge_slot)
    chance = rng.uniform(1e-8, 1e-6, records)
    rates = Rates(np.zeros(1), -3.0, np.zeros(1), np.full(KINDS, MISS), np.stack([law.down, law.up]), chance)
    links = len(graph.link_flow)
    messages = Messages(np.zeros(links), np.zeros(records), np.zeros(1), np.zeros(1), np.zeros(1))
    for g in range(len(graph.group_up)):
        n = int(graph.group_runs[g + 1] - graph.group_runs[g])
        first = int(graph.group_record[g])
        width = int(graph.group_links[g + 1] - graph.group_links[g])
        m = np.zeros((n, width))
        for a in range(n):
            r = graph.group_runs[g] + a
            for e in range(graph.run_edges[r], graph.run_edges[r + 1]):
                b = graph.run_record[r] + e - graph.run_edges[r] - first
                m[a, b] = (1 - MISS) * law.up[graph.edge_slot[e]] / chance[first + b]
        total, used = 0.0, np.zeros((n, width))
        for choice in product(range(-1, width), repeat=n):
            taken = [b for b in choice if b >= 0]
            if len(set(taken)) < len(taken):
                continue
            weight = float(np.prod([MISS if b < 0 else m[a, b] for a, b in enumerate(choice)]))
            total += weight
            for a, b in enumerate(choice):
                used[a, b] += weight if b >= 0 else 0.0
        open_records(graph, rates, messages, g, scratch)
        found = sum_forward(graph, rates, g, scratch)
        np.testing.assert_allclose(found, np.log(total), rtol=1e-9, atol=1e-9)
        sum_backward(graph, rates, g, scratch)
        for a in range(n):
            r = graph.group_runs[g] + a
            for x in range(graph.run_edges[r + 1] - graph.run_edges[r]):
                b = graph.run_record[r] - first + x
                u = use_of_edge(graph, rates, g, a, x, found, scratch)
                np.testing.assert_allclose(u, used[a, b] / total, rtol=1e-7, atol=1e-12)


def test_packets_without_a_common_record_are_groups_of_their_own() -> None:
    flow = [(0.0, 100, True), (0.1, 100, True), (50.0, 100, True), (50.0, 200, True), (50.1, 100, False)]
    outer = [(t, size, up, k) for t, size, up in flow for k in (0, 1)]
    case = made([flow], outer, tunnels=2)
    law = case.law
    asked = Asked.of_flows(case, np.ones(5, np.bool_))
    graph = connect(case, asked, Reach(law.low_ns, law.step_bits, len(law.up))).graph
    assert np.diff(graph.pair_groups).tolist() == [4, 4]
    assert sorted(np.diff(graph.group_runs).tolist()) == [1, 1, 1, 1, 1, 1, 2, 2]
    assert len(graph.edge_slot) == 2 * (2 * 2 + 1 + 1 + 1)
