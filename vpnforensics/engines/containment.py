"""A case prepared for containment: records by size and time, and who owns them.

What the score means is said in :mod:`vpnforensics.engines.packets`; here are the tables that it is taken
from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.align.classes import SizeClasses
from vpnforensics.arrays import Floats, Int32s
from vpnforensics.engines._kernels import (
    ByTunnel,
    Packets,
    Records,
    candidates,
    chance_gaps,
    rarest_packets,
)
from vpnforensics.engines._pair_kernels import Given, own_records, score_pairs, take_records
from vpnforensics.engines.case import EgressRows, ScoreTable, concatenate
from vpnforensics.engines.circle import Circle
from vpnforensics.engines.delay_law import DelayLaw
from vpnforensics.engines.holes import Holes
from vpnforensics.flows.grouping import group_rows
from vpnforensics.scratch import MEMORY, beside, concatenated, parts_of

_LEAST_PIECE = 256
"""Flows or pairs that are worth a thread."""
PROBES = 16
"""Of a longer flow so many packets are looked for in all tunnels; all of them where those are found."""
_PROBES_THERE = 0.25
"""A tunnel with fewer of a flow's rarest packets did not carry it."""
_CHANCE_WINDOW_NS = 20_000_000_000
"""Either side of a record, for its chance rate: shorter ones contain too much of the flow itself (ADR 1)."""


@dataclass(frozen=True, eq=False)
class TunnelOrder:
    """The records once more, tunnel by tunnel: ``start[k]:start[k+1]`` are tunnel k's."""

    start: npt.NDArray[np.int64]
    row: npt.NDArray[np.int32]
    """Row of the size classes, ascending within a tunnel."""
    ts_ns: npt.NDArray[np.int64]
    gap_ns: npt.NDArray[np.float32]
    """Mean gap of chance records around each: one over the chance rate."""


@dataclass(frozen=True, eq=False)
class Ownership:
    """Which flow each record is given to; records in the order of :attr:`Containment.by_tunnel`."""

    owner: npt.NDArray[np.int32]
    """Flow of each record, or -1."""
    matched: npt.NDArray[np.int32]
    """Record that each egress packet got, or -1."""


@dataclass(frozen=True, eq=False)
class Containment:
    """A case prepared for scoring: size classes, local rates and the delay law."""

    classes: SizeClasses
    egress: EgressRows
    egress_class: tuple[npt.NDArray[np.int32], ...]
    """Class of each egress packet, one array a length map."""
    fresh: npt.NDArray[np.uint8]
    """1 for an egress packet that does not merely continue a burst of its flow and size."""
    probes: tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]], ...]
    """Packets that are looked for first, by flow: starts and rows, one pair a length map."""
    by_tunnel: TunnelOrder
    law: DelayLaw
    holes: Holes
    """When tunnels' counters say that records were missed."""
    miss: npt.NDArray[np.float64]
    """Share of packets that miss their record, by kind (:mod:`vpnforensics.engines._hole_kernels`)."""
    tunnels: int
    map_of_tunnel: npt.NDArray[np.int64]
    """Length map of each tunnel, -1 without one."""
    circle: Circle
    """On which rotations turn the egress times."""
    of_writes: bool = False
    """Whether records are a relay's writes, some of which it makes of several and parts."""
    of_packets: bool = False
    """Whether these writes carry packets."""

    def score(
        self,
        flows: npt.NDArray[np.int32],
        *,
        floor_log10: float = -np.inf,
        thorough: bool = False,
    ) -> ScoreTable:
        """Scores of the flows in every tunnel with a record in reach.

        Parameters
        ----------
        flows : ndarray of int32, shape (n,)
        floor_log10 : float
            Scores up to this are left out.
        thorough : bool
            Also look into tunnels that lack most of a long flow's rarest packets.

        Returns
        -------
        ScoreTable
        """
        # Of a flow of few packets any may be all that its tunnel has; of others a quarter has to be there.
        looked = replace(self, probes=(self._every_packet(),) * len(self.probes)) if thorough else self
        share = 0.0 if thorough else _PROBES_THERE
        found = beside(self.egress.ts_ns).each(_candidates, _pieces(len(flows)), looked, flows, share)
        # Of one length map after the other: pairs of the same score stay in this order.
        by_map = [list(tables) for tables in zip(*found, strict=True)]
        pairs = self.score_again(concatenate([table for tables in by_map for table in tables]))
        return pairs.take(pairs.score > floor_log10)

    def _every_packet(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """All as probes."""
        packets = len(self.egress.ts_ns)
        every = beside(self.egress.ts_ns).filled(
            packets, np.int32, lambda rows: np.arange(rows.start, rows.stop, dtype=np.int32)
        )
        return self.egress.start, every

    def packets(self, number: int) -> Packets:
        """The egress packets as tunnels of one length map would have carried them."""
        egress = self.egress
        return Packets(egress.start, egress.ts_ns, self.egress_class[number], egress.up, self.fresh)

    def records_by_tunnel(self) -> ByTunnel:
        """The records as kernels take them that go through tunnels."""
        order = self.by_tunnel
        return ByTunnel(self.classes.start, order.start, order.row, order.ts_ns, order.gap_ns)

    def own(
        self, flows: npt.NDArray[np.int32], tunnels: npt.NDArray[np.int32], scores: npt.NDArray[np.float64]
    ) -> Ownership:
        """Which record carried which packet, if each flow listed was in its tunnel: strongest flows first.

        Parameters
        ----------
        flows, tunnels : ndarray of int32, shape (links,)
        scores : ndarray of float64, shape (links,)
            Decides who takes a record that two want.
        """
        # Tunnel by tunnel: its flows compete for its own records only, and those stay in the cache.
        order = np.lexsort((flows, -scores, tunnels))
        flows, tunnels = flows[order], tunnels[order]
        records = len(self.classes.ts_ns)
        owner = beside(self.classes.ts_ns).full(records, -1, np.int32)
        matched = beside(self.egress.ts_ns).full(len(self.egress.ts_ns), -1, np.int32)
        carried = beside(self.classes.ts_ns).full(records, -1, np.int32)
        # A tunnel's flows compete for its own records only, so tunnels can be shared out among threads.
        parts = parts_of(np.r_[0, np.cumsum(np.bincount(tunnels, minlength=self.tunnels))], _LEAST_PIECE)
        _ = list(MEMORY.each(_own, parts, self, (flows, tunnels), Given(owner, carried, matched)))
        return Ownership(owner, matched)

    def score_again(self, pairs: ScoreTable) -> ScoreTable:
        """The same pairs with their scores here: all packets looked for."""
        score, hits = self._score_pairs(pairs)
        return ScoreTable(pairs.flow, pairs.tunnel, score, hits)

    def _score_pairs(self, pairs: ScoreTable) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
        """Score and hits of each pair."""
        order = np.argsort(pairs.tunnel, kind="stable")  # a tunnel's records stay in the cache
        flow, tunnel = pairs.flow[order], pairs.tunnel[order]

        best, most = np.full(len(pairs), -np.inf), np.zeros(len(pairs), np.int32)
        found = beside(self.egress.ts_ns).each(_scores, _pieces(len(pairs)), self, (flow, tunnel))
        for of_map in zip(*found, strict=True):
            # A tunnel has one length map: by another's it has nothing of the flow.
            best[order] = np.maximum(best[order], np.concatenate([score for score, _ in of_map]))
            most[order] = np.maximum(most[order], np.concatenate([hits for _, hits in of_map]))
        return best, most

    def take_out(
        self, flows: npt.NDArray[np.int32], owned: Ownership, record: npt.NDArray[np.int32]
    ) -> Containment:
        """Note the records that these flows own, and return the same case with those gone: what is left.

        Parameters
        ----------
        flows : ndarray of int32
        owned : Ownership
        record : ndarray of int32, one an egress packet
            Gets the RecordTable rows of their packets' records.
        """
        free = beside(owned.owner).full(len(owned.owner), True, np.bool_)
        take_records(
            flows, self.egress.start, owned.matched, self.by_tunnel.row, self.classes.record, record, free
        )
        classes = self.classes.keep(free)
        return replace(self, classes=classes, by_tunnel=in_order(classes, self.law.width_ns, self.tunnels))

    def with_copies(self, flows: npt.NDArray[np.int32], shift_ns: npt.NDArray[np.int64]) -> Containment:
        """The same case with copies of flows behind its own, turned in time on its circle.

        Parameters
        ----------
        flows : ndarray of int32, shape (n,)
        shift_ns : ndarray of int64, shape (n,)
        """
        egress, circle, scratch = self.egress, self.circle, beside(self.egress.ts_ns)
        sizes = np.diff(egress.start)[flows]
        begins = np.cumsum(sizes) - sizes
        copy = np.repeat(np.arange(len(flows), dtype=np.int32), sizes)
        first = egress.start[flows] - begins
        rows = scratch.filled(
            len(copy), np.int32, lambda some: np.arange(some.start, some.stop) + first[copy[some]]
        )

        def turned_ns(some: slice) -> npt.NDArray[np.int64]:
            since = egress.ts_ns[rows[some]] - circle.origin_ns + shift_ns[copy[some]]
            return np.asarray(circle.origin_ns + since % circle.period_ns)

        def extended(of: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return concatenated([of, scratch.taken(of, rows)])

        turned = replace(
            egress,
            start=np.r_[egress.start, egress.start[-1] + begins + sizes],
            row=extended(egress.row),
            ts_ns=concatenated([egress.ts_ns, scratch.filled(len(copy), np.int64, turned_ns)]),
            inner_bytes=extended(egress.inner_bytes),
            up=extended(egress.up),
        )
        classes = tuple(map(extended, self.egress_class))
        fresh = extended(self.fresh)
        probes = tuple(rarest_packets(turned.start, c, fresh, self.classes.counts, PROBES) for c in classes)
        return replace(self, egress=turned, egress_class=classes, fresh=fresh, probes=probes)


def _pieces(items: int) -> list[slice]:
    """Even parts of so many flows or pairs, none of none; what they are does not change any result."""
    return parts_of(np.arange(items + 1), _LEAST_PIECE) if items else []


def _candidates(piece: slice, case: Containment, flows: Int32s, share: float) -> list[ScoreTable]:
    """First look at some flows, by length map: tunnels that have a share of the probes; not scored."""
    records = Records(case.classes.start, case.classes.ts_ns, case.classes.tunnel)
    tables = []
    for number, probes in enumerate(case.probes):
        listed, tunnel = candidates(
            flows[piece], case.packets(number), *probes, records, case.law.delays, case.tunnels, share
        )
        none = np.zeros(len(listed))
        tables.append(ScoreTable(flows[listed + piece.start], tunnel, none, none.astype(np.int32)))
    return tables


def _scores(piece: slice, case: Containment, pairs: tuple[Int32s, Int32s]) -> list[tuple[Floats, Int32s]]:
    """Score and hits of some pairs, by length map."""
    flow, tunnel = (of[piece] for of in pairs)
    by_tunnel, law = case.records_by_tunnel(), case.law.delays
    tables = []
    for number in range(len(case.egress_class)):
        score, hits = score_pairs(flow, tunnel, case.packets(number), by_tunnel, law, case.holes, case.miss)
        tables.append((score / np.log(10.0), hits))
    return tables


def _own(of: slice, case: Containment, links: tuple[Int32s, Int32s], given: Given) -> None:
    """Give the flows that are linked to some tunnels, in order, their records there."""
    flows, tunnels = links
    mine = slice(*np.searchsorted(tunnels, (of.start, of.stop)).tolist())
    for number in range(len(case.egress_class)):
        own_records(
            flows[mine],
            tunnels[mine],
            case.packets(number),
            case.records_by_tunnel(),
            case.law.delays,
            given,
        )


def in_order(classes: SizeClasses, width_ns: float, tunnels: int) -> TunnelOrder:
    """The records by tunnel, with the mean chance gap around each."""
    row, start = group_rows(classes.tunnel, tunnels)
    scratch = beside(classes.ts_ns)
    ts_ns, gap_ns = scratch.taken(classes.ts_ns, row), scratch.empty(len(row), np.float32)
    chance_gaps(row, start, classes.start, ts_ns, width_ns, _CHANCE_WINDOW_NS, gap_ns)
    return TunnelOrder(start, row, ts_ns, gap_ns)
