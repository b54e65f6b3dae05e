"""The graph of the joint model: flows, their possible tunnels, and the records that may have carried them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.align.classes import IN_PIECES
from vpnforensics.arrays import Bools, Floats, Int32s, Ints
from vpnforensics.engines._hole_kernels import KINDS
from vpnforensics.engines.containment import Containment
from vpnforensics.evidence.joint._graph_kernels import (
    Graph,
    Packets,
    Reach,
    count_edges,
    count_kinds,
    fill_edges,
    first_of_groups,
    kinds_of_runs,
)
from vpnforensics.evidence.joint._message_kernels import Scratch
from vpnforensics.flows.grouping import changes

_MOST_RUNS = 4
"""Packets of a group, at most: the parts of a longer burst compete by their claims, as different flows do."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Packets of flows, to be looked for."""

    flow: Int32s
    """Number among those asked, ascending."""
    ts_ns: Ints
    up: Bools
    size_class: tuple[Int32s, ...]
    """Class of each under each length map; below 0 where there is none."""
    flows: int

    @classmethod
    def of_flows(cls, containment: Containment, wanted: Bools) -> Asked:
        """The wanted packets of a case's flows."""
        egress = containment.egress
        rows = np.flatnonzero(wanted)
        flows = len(egress.start) - 1
        flow = np.repeat(np.arange(flows, dtype=np.int32), np.diff(egress.start))[rows]
        classes = tuple(c[rows] for c in containment.egress_class)
        return cls(flow, egress.ts_ns[rows], egress.up[rows], classes, flows)

    def without(self, flows: Bools) -> Asked:
        """The same without the packets of these flows."""
        kept = ~flows[self.flow]
        classes = tuple(c[kept] for c in self.size_class)
        return Asked(self.flow[kept], self.ts_ns[kept], self.up[kept], classes, self.flows)

    def packets(self, number: int) -> Packets:
        """Those that have a class under length map ``number``, by flow, class and time."""
        size_class = self.size_class[number]
        rows = np.flatnonzero(size_class >= 0)
        rows = rows[np.lexsort((self.ts_ns[rows], size_class[rows], self.flow[rows]))]
        return Packets(self.flow[rows], self.ts_ns[rows], self.up[rows], size_class[rows])

    def sought(self, number: int, up: bool) -> Floats:
        """Packets of each flow, of one direction, that length map ``number`` would have carried as one."""
        rows = (self.size_class[number] != IN_PIECES) & (self.up == up)
        return np.bincount(self.flow[rows], minlength=self.flows).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Connected:
    """A graph, and what of the flows is not in it."""

    graph: Graph
    sought: tuple[Floats, Floats]
    """Packets of each flow that any tunnel would have carried; down, up."""
    unseen: Floats
    """Packets of each pair's flow without an edge to that tunnel, by kind; shape (pairs, KINDS)."""

    def scratch(self) -> Scratch:
        """Room for the largest group."""
        graph = self.graph
        runs, links = np.diff(graph.group_runs), np.diff(graph.group_links)
        most = int(((links + 1) << runs).max(initial=1))
        return Scratch(np.empty(most), np.empty(most), np.empty(int(links.max(initial=1))))


def edges_of_flows(containment: Containment, asked: Asked, reach: Reach) -> Ints:
    """How many edges the packets of each flow have, shape (flows,)."""
    classes = containment.classes
    total = np.zeros(asked.flows)
    for number in range(len(asked.size_class)):
        packets = asked.packets(number)
        edges = count_edges(packets, classes.start, classes.ts_ns, reach)
        total += np.bincount(packets.flow, weights=edges, minlength=asked.flows)
    return total.astype(np.int64)


def connect(containment: Containment, asked: Asked, reach: Reach) -> Connected:
    """The graph of the packets asked about and the records of a case.

    Parameters
    ----------
    containment : Containment
    asked : Asked
    reach : Reach
        Of the delay law.
    """
    classes, by_tunnel = containment.classes, containment.by_tunnel
    tunnels = containment.tunnels
    place = np.empty(len(classes.ts_ns), np.int32)
    place[by_tunnel.row] = np.arange(len(by_tunnel.row), dtype=np.int32)
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    packets_before = 0
    for number in range(len(asked.size_class)):
        packets = asked.packets(number)
        edges = int(count_edges(packets, classes.start, classes.ts_ns, reach).sum())
        packet, row, slot = fill_edges(packets, classes.start, classes.ts_ns, reach, edges)
        key = packets.flow[packet].astype(np.int64) * tunnels + classes.tunnel[row]
        columns.append(
            (
                key,
                packet + packets_before,
                packets.size_class[packet],
                place[row],
                slot,
                packets.up[packet],
                packets.ts_ns[packet],
            )
        )
        packets_before += len(packets.flow)
    key, packet, size_class, record, slot, up, ts_ns = (np.concatenate(c) for c in zip(*columns, strict=True))
    # By pair; within one, packets come by class and time, and the records of each in time, as they were
    # found.
    order = np.argsort(key, kind="stable")
    key, packet, size_class, record, slot, up, ts_ns = (
        c[order] for c in (key, packet, size_class, record, slot, up, ts_ns)
    )
    first_edge = changes(key, packet)
    run_edges = _starts(first_edge)
    run_key, run_record = key[first_edge], record[first_edge]
    run_pair = np.cumsum(changes(run_key)) - 1
    run_up = up[first_edge]
    run_tunnel = (run_key % tunnels).astype(np.int32)
    run_kind = kinds_of_runs(run_tunnel, run_up, ts_ns[first_edge], containment.holes, reach)
    begins = first_of_groups(run_pair, size_class[first_edge], run_record, run_edges, _MOST_RUNS)
    group_runs = _starts(begins)
    group_pair = run_pair[begins]
    first_group = changes(group_pair)
    pair_key = run_key[begins][first_group]
    pair_flow = (pair_key // tunnels).astype(np.int32)
    # Links: from the first record of a group's runs to the last.
    last_record = run_record + np.diff(run_edges).astype(np.int32) - 1
    if len(group_runs) > 1:
        group_first = np.minimum.reduceat(run_record, group_runs[:-1])
        links = np.maximum.reduceat(last_record, group_runs[:-1]) - group_first + 1
    else:
        group_first, links = np.zeros(0, np.int32), np.zeros(0, np.int32)
    group_links = np.r_[0, np.cumsum(links, dtype=np.int64)]
    link_record = np.arange(group_links[-1]) + np.repeat(group_first - group_links[:-1], links)
    by_record = np.argsort(link_record, kind="stable")
    graph = Graph(
        np.searchsorted(pair_flow, np.arange(asked.flows + 1)).astype(np.int64),
        pair_flow,
        (pair_key % tunnels).astype(np.int32),
        _starts(first_group),
        run_up[begins],
        group_runs,
        group_links,
        group_first.astype(np.int32),
        run_kind,
        run_edges,
        run_record,
        slot,
        np.searchsorted(link_record[by_record], np.arange(len(classes.ts_ns) + 1)).astype(np.int64),
        by_record,
        np.repeat(pair_flow[group_pair], links),
    )
    maps = range(len(asked.size_class))
    sought = [np.stack([asked.sought(n, side) for n in maps]).min(axis=0) for side in (False, True)]
    return Connected(graph, (sought[0], sought[1]), _unseen(containment, asked, graph, run_pair, reach))


def _unseen(containment: Containment, asked: Asked, graph: Graph, run_pair: Ints, reach: Reach) -> Floats:
    pairs = len(graph.pair_flow)
    sought = count_kinds(
        graph.pair_flow,
        graph.pair_tunnel,
        containment.map_of_tunnel,
        np.searchsorted(asked.flow, np.arange(asked.flows + 1)),
        np.stack(asked.size_class),
        asked.up,
        asked.ts_ns,
        containment.holes,
        reach,
    )
    seen = np.bincount(run_pair * KINDS + graph.run_kind, minlength=pairs * KINDS)
    return np.asarray(sought - seen.reshape(pairs, KINDS))


def _starts(first: Bools) -> Ints:
    """Starts of the ranges whose first rows are marked, and the end."""
    return np.asarray(np.r_[np.flatnonzero(first), len(first)], np.int64)
