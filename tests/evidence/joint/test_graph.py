"""The graph against all packets and records, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evidence.joint.made import made
from vpnforensics.align.classes import IN_PIECES
from vpnforensics.evidence.joint._graph_kernels import Reach
from vpnforensics.evidence.joint.graph import Asked, connect, edges_of_packets
from vpnforensics.evidence.joint.rounds import Room

MS = 1_000_000


def busy(seed):
    rng = np.random.default_rng(seed)
    flows = [
        sorted(
            (round(float(t), 3), int(rng.choice([100, 200])), bool(rng.random() < 0.5))
            for t in rng.uniform(0, 60, rng.integers(1, 9))
        )
        for _ in range(5)
    ]
    records = [
        (round(t + float(rng.normal(0, 1)), 3), size, up, int(rng.integers(3)))
        for flow in flows
        for t, size, up in flow
        for _ in range(2)
    ]
    return made(flows, records, tunnels=3), flows


def reach_of(case):
    return Reach(case.law.low_ns, case.law.step_bits, len(case.law.up))


def reached(case, reach, f):
    """Packets of a flow with the records in reach: (packet, tunnel, record's row among classes, bin)."""
    classes, egress = case.classes, case.egress
    high = reach.low_ns + (reach.bins << reach.step_bits)
    for p in range(int(egress.start[f]), int(egress.start[f + 1])):
        c = int(case.egress_class[0][p])
        for r in range(int(classes.start[c]), int(classes.start[c + 1])) if c >= 0 else ():
            apart = int(egress.ts_ns[p] - classes.ts_ns[r])
            delay = apart if egress.up[p] else -apart
            if reach.low_ns <= delay < high:
                yield p, int(classes.tunnel[r]), r, (delay - reach.low_ns) >> reach.step_bits


def unfolded(graph, by_tunnel):
    """Records and bins of the edges of each pair of flow and tunnel."""
    found = {}
    for q in range(len(graph.pair_flow)):
        edges = found.setdefault((int(graph.pair_flow[q]), int(graph.pair_tunnel[q])), [])
        for g in range(int(graph.pair_groups[q]), int(graph.pair_groups[q + 1])):
            for r in range(int(graph.group_runs[g]), int(graph.group_runs[g + 1])):
                for e in range(int(graph.run_edges[r]), int(graph.run_edges[r + 1])):
                    record = int(graph.run_record[r]) + e - int(graph.run_edges[r])
                    edges.append((int(by_tunnel.row[record]), int(graph.edge_slot[e])))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_every_record_in_reach_is_an_edge_of_its_pair(seed):
    case, flows = busy(seed)
    reach = reach_of(case)
    asked = Asked.of_flows(case, np.ones(len(case.egress.ts_ns), np.bool_))
    graph = connect(case, asked, reach).graph
    wanted = {}
    for f in range(len(flows)):
        for _, tunnel, record, slot in reached(case, reach, f):
            wanted.setdefault((f, tunnel), []).append((record, slot))
    found = unfolded(graph, case.by_tunnel)
    assert {pair: sorted(edges) for pair, edges in found.items()} == {p: sorted(e) for p, e in wanted.items()}
    assert list(found) == sorted(found), "by flow, then tunnel"
    assert np.diff(graph.flow_pairs).tolist() == [sum(p[0] == f for p in wanted) for f in range(len(flows))]
    counted = np.add.reduceat(edges_of_packets(case, asked, reach), asked.start[:-1])
    assert counted.tolist() == [len(list(reached(case, reach, f))) for f in range(len(flows))]


def test_only_some_packets_are_asked_about():
    case, flows = busy(1)
    asked = Asked.of_flows(case, np.ones(len(case.egress.ts_ns), np.bool_))
    kept = np.random.default_rng(2).random(len(asked.ts_ns)) < 0.5
    some = asked.only(kept)
    assert some.ts_ns.tolist() == asked.ts_ns[kept].tolist()
    flow = np.repeat(np.arange(len(flows)), asked.sizes)
    assert some.sizes.tolist() == np.bincount(flow[kept], minlength=len(flows)).tolist()
    assert asked.only(np.ones(len(kept), np.bool_)) is asked


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_of_four_runs_at_most_and_their_links_are_their_records(seed):
    case, _ = busy(seed)
    graph = connect(
        case, Asked.of_flows(case, np.ones(len(case.egress.ts_ns), np.bool_)), reach_of(case)
    ).graph
    assert 1 <= np.diff(graph.group_runs).min() <= np.diff(graph.group_runs).max() <= 4
    pair = np.repeat(np.arange(len(graph.pair_flow)), np.diff(graph.pair_groups))
    for g in range(len(graph.group_up)):
        runs = range(int(graph.group_runs[g]), int(graph.group_runs[g + 1]))
        last = [int(graph.run_record[r]) + int(graph.run_edges[r + 1] - graph.run_edges[r]) for r in runs]
        first = min(int(graph.run_record[r]) for r in runs)
        assert int(graph.group_record[g]) == first
        assert int(graph.group_links[g + 1] - graph.group_links[g]) == max(last) - first
        links = slice(int(graph.group_links[g]), int(graph.group_links[g + 1]))
        assert set(graph.link_flow[links].tolist()) == {int(graph.pair_flow[pair[g]])}
    record_of_link = np.concatenate(
        [
            int(graph.group_record[g]) + np.arange(int(graph.group_links[g + 1] - graph.group_links[g]))
            for g in range(len(graph.group_up))
        ]
    )
    for record in range(len(case.classes.ts_ns)):
        mine = slice(int(graph.record_links[record]), int(graph.record_links[record + 1]))
        assert (
            sorted(graph.links_by_record[mine].tolist()) == np.flatnonzero(record_of_link == record).tolist()
        )


@pytest.mark.parametrize("seed", range(3))
def test_what_of_a_flow_is_not_found_in_a_tunnel(seed):
    case, flows = busy(seed)
    reach = reach_of(case)
    connected = connect(case, Asked.of_flows(case, np.ones(len(case.egress.ts_ns), np.bool_)), reach)
    graph = connected.graph
    for q, (f, t) in enumerate(zip(graph.pair_flow.tolist(), graph.pair_tunnel.tolist(), strict=True)):
        found = {p for p, tunnel, _, _ in reached(case, reach, f) if tunnel == t}
        assert connected.unseen[q].sum() == len(flows[f]) - len(found)
        for up in (0, 1):
            mine = [p for p in found if case.egress.up[p] == up]
            missed = sum(side == up for _, _, side in flows[f]) - len(mine)
            assert connected.unseen[q][up::2].sum() == missed, "kinds of a direction are two apart"
    for up in (0, 1):
        assert connected.sought[up].tolist() == [sum(p[2] == up for p in flow) for flow in flows]


def test_packets_left_out_in_pieces_or_of_other_flows():
    case, flows = busy(0)
    wanted = np.zeros(len(case.egress.ts_ns), np.bool_)
    wanted[1::2] = True
    asked = Asked.of_flows(case, wanted)
    assert asked.ts_ns.tolist() == case.egress.ts_ns[1::2].tolist()
    of = np.repeat(np.arange(5), [len(f) for f in flows])[1::2]
    assert asked.sizes.tolist() == np.bincount(of, minlength=5).tolist()
    without = asked.without(np.array([True, False, True, False, False]))
    assert without.sizes.tolist() == np.where([True, False, True, False, False], 0, asked.sizes).tolist()
    assert without.ts_ns.tolist() == asked.ts_ns[(of != 0) & (of != 2)].tolist()
    assert len(without.up) == len(without.size_class[0]) == len(without.ts_ns) == without.start[-1]
    asked.size_class[0][:2] = IN_PIECES
    down, up = asked.sought(slice(0, 5))
    assert down.sum() + up.sum() == len(of) - 2
    assert asked.sought(slice(2, 4)).tolist() == [down[2:4].tolist(), up[2:4].tolist()]
    assert connect(case, asked, reach_of(case)).sought[1].tolist() == up.tolist()


def test_no_packet_in_reach_of_a_record_is_no_pair():
    case = made([[(0.0, 100, True)]], [(500.0, 100, True, 0)], tunnels=1)
    connected = connect(case, Asked.of_flows(case, np.ones(1, np.bool_)), reach_of(case))
    assert len(connected.graph.pair_flow) == len(connected.graph.group_up) == 0
    assert connected.unseen.shape[0] == 0


def test_room_is_that_of_the_largest_group():
    flow = [(k / 10, 100, True) for k in range(3)]
    case = made([flow], [(k / 10, 100, True, 0) for k in range(5)], tunnels=1)
    connected = connect(case, Asked.of_flows(case, np.ones(3, np.bool_)), reach_of(case))
    assert np.diff(connected.graph.group_links).tolist() == [5]
    room = Room.of(connected.graph)
    assert room == Room(sums=(5 + 1) << 3, records=5)
    assert [len(part) for part in room.scratch(np.zeros(2))] == [48, 48, 5, 2]
