"""The graph of the joint model: flows, their possible tunnels, and the records that may have carried them.

It is made of some flows after the others: what may have carried one does not depend on another's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

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
from vpnforensics.flows.grouping import changes, group_rows
from vpnforensics.scratch import beside, blocks

_MOST_RUNS = 4
"""Packets of a group, at most: the parts of a longer burst compete by their claims, as different flows do."""
_PACKETS = 1 << 15
"""Of the flows of which the graph is made at once, about: an edge costs some 80 bytes meanwhile."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Packets of flows, to be looked for; ``start[f]:start[f + 1]`` are those of flow f."""

    start: Ints
    ts_ns: Ints
    up: Bools
    size_class: tuple[Int32s, ...]
    """Class of each under each length map; below 0 where there is none."""

    @classmethod
    def of_flows(cls, containment: Containment, wanted: Bools) -> Asked:
        """The wanted packets of a case's flows."""
        egress = containment.egress
        every = cls(egress.start, egress.ts_ns, egress.up, containment.egress_class)
        return every._those(wanted, np.add.reduceat(wanted, egress.start[:-1], dtype=np.int64))

    def only(self, packets: Bools) -> Asked:
        """The same with only these packets."""
        if packets.all():
            return self
        kept = np.r_[0, np.cumsum(packets)][self.start]
        return self._those(packets, np.diff(kept))

    def without(self, flows: Bools) -> Asked:
        """The same without the packets of these flows."""
        if not flows.any():
            return self
        return self._those(beside(self.ts_ns).repeated(~flows, self.start), np.where(flows, 0, self.sizes))

    def _those(self, wanted: Bools, sizes: Ints) -> Asked:
        """The packets that are wanted, so many of each flow."""
        scratch = beside(self.ts_ns)
        return Asked(
            np.r_[0, np.cumsum(sizes)],
            scratch.taken(self.ts_ns, wanted),
            scratch.taken(self.up, wanted),
            tuple(scratch.taken(of, wanted) for of in self.size_class),
        )

    @property
    def flows(self) -> int:
        """How many there are, those without packets included."""
        return len(self.start) - 1

    @property
    def sizes(self) -> Ints:
        """Packets of each flow."""
        return np.diff(self.start)

    def parts(self) -> Iterator[slice]:
        """The flows, in parts of not too many packets."""
        first = 0
        while first < self.flows:
            after = int(np.searchsorted(self.start, self.start[first] + _PACKETS, side="right")) - 1
            yield slice(first, min(max(after, first + 1), self.flows))
            first = max(after, first + 1)

    def of_flows_in(self, flows: slice) -> tuple[Ints, Int32s, Bools, Ints]:
        """Of some flows: starts from 0 on, classes of shape (maps, packets), directions, times."""
        start = self.start[flows.start : flows.stop + 1]
        mine = slice(int(start[0]), int(start[-1]))
        return (
            start - start[0],
            np.stack([of[mine] for of in self.size_class]),
            self.up[mine],
            self.ts_ns[mine],
        )

    def packets(self, number: int, flows: slice) -> Packets:
        """Those of some flows that have a class under length map ``number``, by flow, class and time."""
        start, size_classes, up, ts_ns = self.of_flows_in(flows)
        size_class = size_classes[number]
        flow = np.repeat(np.arange(flows.start, flows.stop, dtype=np.int32), np.diff(start))
        rows = np.flatnonzero(size_class >= 0)
        rows = rows[np.lexsort((ts_ns[rows], size_class[rows], flow[rows]))]
        return Packets(flow[rows], ts_ns[rows], up[rows], size_class[rows])

    def sought(self, flows: slice) -> Floats:
        """Packets of some flows, down and up, that any length map would have carried as one; shape
        (2, flows).
        """
        start, size_classes, ways, _ = self.of_flows_in(flows)
        wanted = size_classes != IN_PIECES
        counts = [
            np.diff(np.cumsum(np.pad(wanted & (ways == up), ((0, 0), (1, 0))), 1)[:, start]) for up in (0, 1)
        ]
        return np.asarray(np.stack(counts, axis=1).min(axis=0), np.float64)


@dataclass(frozen=True, eq=False)
class Connected:
    """A graph, and what of the flows is not in it."""

    graph: Graph
    sought: tuple[Floats, Floats]
    """Packets of each flow that any tunnel would have carried; down, up."""
    unseen: Floats
    """Packets of each pair's flow without an edge to that tunnel, by kind; shape (pairs, KINDS)."""


def edges_of_packets(containment: Containment, asked: Asked, reach: Reach) -> Int32s:
    """How many edges each packet asked about has, shape (packets,)."""
    place = beside(containment.egress.ts_ns)
    found = place.each(_edges_of, list(asked.parts()), containment, asked, reach)
    return np.concatenate([np.zeros(0, np.int32), *found])


def _edges_of(flows: slice, containment: Containment, asked: Asked, reach: Reach) -> Int32s:
    """:func:`edges_of_packets` of some flows."""
    classes = containment.classes
    _, size_classes, up, ts_ns = asked.of_flows_in(flows)
    total = np.zeros(len(ts_ns), np.int32)
    for size_class in size_classes:
        rows = np.flatnonzero(size_class >= 0)
        packets = Packets(rows.astype(np.int32), ts_ns[rows], up[rows], size_class[rows])
        total[rows] += count_edges(packets, classes.start, classes.ts_ns, reach)
    return total


def connect(containment: Containment, asked: Asked, reach: Reach) -> Connected:
    """The graph of the packets asked about and the records of a case.

    Parameters
    ----------
    containment : Containment
    asked : Asked
    reach : Reach
        Of the delay law.
    """
    by_tunnel, scratch = containment.by_tunnel, beside(containment.by_tunnel.row)
    place = scratch.empty(len(by_tunnel.row), np.int32)
    for rows in blocks(len(place)):
        place[by_tunnel.row[rows]] = np.arange(rows.start, rows.stop, dtype=np.int32)
    whole = _Part(*map(scratch.growing, _TYPES))
    counts = _Counts(0, 0, 0, 0, 0)
    sought = [np.zeros((2, 0))]
    parts = list(asked.parts())
    found_of = beside(containment.egress.ts_ns).each(_part, parts, containment, asked, reach, place)
    for part, found, wanted in found_of:
        sought.append(wanted)
        for name, growing in whole._asdict().items():
            of = _CHILDREN.get(name)
            growing.append(getattr(part, name) + getattr(counts, of) if of else getattr(part, name))
        counts = _Counts(*(a + b for a, b in zip(counts, found, strict=True)))
    for name, of in _CHILDREN.items():
        getattr(whole, name).append(np.array([getattr(counts, of)]))
    all_of = _Part(*(growing.whole() for growing in whole))
    links_by_record, record_links = group_rows(all_of.link_record, len(place))
    graph = Graph(
        np.searchsorted(all_of.pair_flow, np.arange(asked.flows + 1)).astype(np.int64),
        all_of.pair_flow,
        all_of.pair_tunnel,
        all_of.pair_groups,
        all_of.group_up,
        all_of.group_runs,
        all_of.group_links,
        all_of.group_record,
        all_of.run_kind,
        all_of.run_edges,
        all_of.run_record,
        all_of.edge_slot,
        record_links,
        links_by_record,
        all_of.link_flow,
    )
    down, up = np.concatenate(sought, axis=1)
    return Connected(graph, (down, up), all_of.unseen.reshape(-1, KINDS))


class _Part(NamedTuple):
    """The columns of a graph, or those of some of its flows; starts without the end of the last."""

    pair_flow: Any
    pair_tunnel: Any
    pair_groups: Any
    group_up: Any
    group_runs: Any
    group_links: Any
    group_record: Any
    run_kind: Any
    run_edges: Any
    run_record: Any
    edge_slot: Any
    link_record: Any
    link_flow: Any
    unseen: Any


_TYPES = (
    np.int32, np.int32, np.int64, np.bool_, np.int64, np.int64, np.int32, np.uint8, np.int64, np.int32,
    np.int32, np.int32, np.int32, np.float64,
)  # fmt: skip
_CHILDREN = {"pair_groups": "groups", "group_runs": "runs", "group_links": "links", "run_edges": "edges"}
"""Of columns that are starts: of what."""


class _Counts(NamedTuple):
    """How much there is of a graph."""

    pairs: int
    groups: int
    runs: int
    edges: int
    links: int


def _part(
    flows: slice, containment: Containment, asked: Asked, reach: Reach, place: Int32s
) -> tuple[_Part, _Counts, Floats]:
    """The graph of some flows, how much there is of it, and :meth:`Asked.sought`; ``place`` is that of each
    row of the size classes among the records by tunnel.
    """
    classes, tunnels = containment.classes, containment.tunnels
    packets, packet, row, slot = _edges(containment, asked, reach, flows)
    key = packets.flow[packet].astype(np.int64) * tunnels + classes.tunnel[row]
    # By pair; within one, packets come by class and time, and the records of each in time, as they were
    # found.
    order = np.argsort(key, kind="stable")
    key, packet, record, slot = key[order], packet[order], place[row[order]], slot[order]
    first_edge = changes(key, packet)
    run_edges = _starts(first_edge)
    run_key, run_record, run_packet = key[first_edge], record[first_edge], packet[first_edge]
    run_pair = np.cumsum(changes(run_key)) - 1
    run_up = packets.up[run_packet]
    run_tunnel = (run_key % tunnels).astype(np.int32)
    run_kind = kinds_of_runs(run_tunnel, run_up, packets.ts_ns[run_packet], containment.holes, reach)
    begins = first_of_groups(run_pair, packets.size_class[run_packet], run_record, run_edges, _MOST_RUNS)
    group_runs = _starts(begins)
    group_pair = run_pair[begins]
    first_group = changes(group_pair)
    pair_key = run_key[begins][first_group]
    pair_flow, pair_tunnel = (pair_key // tunnels).astype(np.int32), (pair_key % tunnels).astype(np.int32)
    # Links: from the first record of a group's runs to the last.
    last_record = run_record + np.diff(run_edges).astype(np.int32) - 1
    if len(group_runs) > 1:
        group_first = np.minimum.reduceat(run_record, group_runs[:-1])
        links = np.maximum.reduceat(last_record, group_runs[:-1]) - group_first + 1
    else:
        group_first, links = np.zeros(0, np.int32), np.zeros(0, np.int32)
    group_links = np.r_[0, np.cumsum(links, dtype=np.int64)]
    link_record = np.arange(group_links[-1]) + np.repeat(group_first - group_links[:-1], links)
    unseen = count_kinds(
        pair_flow - np.int32(flows.start),
        pair_tunnel,
        containment.map_of_tunnel,
        *asked.of_flows_in(flows),
        containment.holes,
        reach,
    )
    pairs = len(pair_flow)
    seen = np.bincount(run_pair * KINDS + run_kind, minlength=pairs * KINDS)
    part = _Part(
        pair_flow,
        pair_tunnel,
        _starts(first_group)[:-1],
        run_up[begins],
        group_runs[:-1],
        group_links[:-1],
        group_first,
        run_kind,
        run_edges[:-1],
        run_record,
        slot,
        link_record,
        np.repeat(pair_flow[group_pair], links),
        unseen.ravel() - seen,
    )
    counts = _Counts(pairs, len(group_first), len(run_kind), len(slot), len(link_record))
    return part, counts, asked.sought(flows)


def _edges(
    containment: Containment, asked: Asked, reach: Reach, flows: slice
) -> tuple[Packets, Int32s, Int32s, Int32s]:
    """Packets of some flows, under one length map after the other, and their edges: packet, row of the
    record, bin of the delay.
    """
    classes = containment.classes
    each: list[Packets] = []
    edges: list[tuple[Int32s, Int32s, Int32s]] = []
    for number in range(len(asked.size_class)):
        packets = asked.packets(number, flows)
        count = int(count_edges(packets, classes.start, classes.ts_ns, reach).sum())
        packet, row, slot = fill_edges(packets, classes.start, classes.ts_ns, reach, count)
        edges.append((packet + np.int32(sum(len(before.flow) for before in each)), row, slot))
        each.append(packets)
    columns = [np.concatenate(of_maps) for of_maps in zip(*each, strict=True)]
    packet, row, slot = (np.concatenate(of_maps) for of_maps in zip(*edges, strict=True))
    return Packets(*columns), packet, row, slot


def _starts(first: Bools) -> Ints:
    """Starts of the ranges whose first rows are marked, and the end."""
    return np.asarray(np.r_[np.flatnonzero(first), len(first)], np.int64)
