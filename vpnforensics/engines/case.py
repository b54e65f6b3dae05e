"""What an engine is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vpnforensics.align.alignment import Alignment
from vpnforensics.align.kept_bytes import KeptBytes
from vpnforensics.arrays import Bools, Columns, Floats, Int32s, Ints
from vpnforensics.engines.circle import Circle, circle_of
from vpnforensics.engines.upstream import Upstream, outer_profiles, outer_upstream
from vpnforensics.features.devices import Devices, find_devices
from vpnforensics.features.ip_id import IpIdProfile
from vpnforensics.features.senders import find_senders
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.flows.grouping import changes
from vpnforensics.scratch import beside
from vpnforensics.tunnels.carriers import TRANSPORT
from vpnforensics.tunnels.find import TunnelSet
from vpnforensics.tunnels.write_law import LengthLaw, WriteLaw

USUAL_MISS = 0.03
"""Share of packets that a capture lacks, where it cannot be told: captures of busy machines lost 1 to 3 %."""
LONGEST_STAY_NS = 1_000_000_000
"""No queue of a server holds a packet for longer."""


@dataclass(frozen=True, eq=False)
class Case:
    """Ingress tunnels, egress flows and the relation of the two clocks."""

    conversations: FlowTable
    """Outer conversations of the ingress capture."""
    tunnels: TunnelSet
    flows: FlowTable
    """Conversations of the egress capture."""
    alignment: Alignment
    maps: tuple[LengthLaw, ...]
    map_of_tunnel: Ints
    """Number of each tunnel's length map in ``maps``; -1 where none is known."""
    kept: KeptBytes | None = None
    """Of relays that keep bytes: what equal payloads say."""
    captured: FlowTable | None = None
    """The same flows with all their packets, where ``flows`` has only the writes that a relay carried."""
    linked: Int32s | None = None
    """Tunnel that each flow is linked to by its packets, or -1, once they have been asked."""

    @property
    def by_writes(self) -> bool:
        """Whether all its tunnels are relays' carriers: records are their writes, and egress packets are
        writes or what a stream carried in them.
        """
        tunnels = self.tunnels.tunnels
        return bool(tunnels) and all(tunnel.transport == TRANSPORT for tunnel in tunnels)

    @property
    def of_packets(self) -> bool:
        """Whether its tunnels carry IP packets, in records of their own or in a stream (``ssh -w``)."""
        return not self.by_writes or any(isinstance(law, WriteLaw) and law.of_packets for law in self.maps)

    @cached_property
    def egress(self) -> EgressRows:
        """Egress packets grouped by flow, in the file's order within a flow, on the ingress clock."""
        rows, start = self.flows.order
        packets, scratch = self.flows.packets, beside(rows)
        return EgressRows(
            start,
            rows,
            self.alignment.to_ingress(scratch.taken(packets.ts_ns, rows)),
            scratch.taken(packets.ip_len_bytes, rows),
            scratch.taken(self.flows.up, rows),
        )

    @cached_property
    def circle(self) -> Circle:
        """On which flows are turned, to make copies that no tunnel carried."""
        records = self.tunnels.records
        outer = records.ts_ns if len(records) else self.conversations.packets.ts_ns
        return circle_of(self.begin_ns, outer)

    @property
    def begin_ns(self) -> Ints:
        """First packet of each flow, on the ingress clock."""
        return self.egress.ts_ns[self.egress.start[:-1]]

    @cached_property
    def outer(self) -> Upstream:
        """What the client of each tunnel sends to the server."""
        return outer_upstream(self)

    @cached_property
    def devices(self) -> Devices:
        """The flows grouped by the device that opened them."""
        return find_devices(find_senders(self.flows))

    def turned(self, turn: float) -> tuple[Case, Bools]:
        """The same case with every flow moved by a share of the circle: no tunnel carried it there.

        A flow is moved whole, and keeps everything but its place in time.

        Returns
        -------
        case : Case
        away : ndarray of bool, shape (flows,)
            Flows that did not land near their true place.
        """
        shift_ns, away = self.circle.turned(self.begin_ns, turn)
        packets, flow = self.flows.packets, self.flows.flow
        ts_ns = beside(flow).filled(
            len(packets), np.int64, lambda rows: packets.ts_ns[rows] + shift_ns[flow[rows]]
        )
        moved = replace(packets, ts_ns=ts_ns)
        case = replace(self, flows=self.flows.at_times(moved))
        return self._lent(case, "outer", "outer_ip_ids", "devices"), away  # of things that did not move

    def knowing(self, linked: Int32s) -> Case:
        """The same case, with the links that packets made."""
        return self._lent(
            replace(self, linked=linked), "egress", "circle", "outer", "outer_ip_ids", "devices"
        )

    def _lent(self, case: Case, *names: str) -> Case:
        """Another case with what was found out here already."""
        vars(case).update({name: vars(self)[name] for name in names if name in vars(self)})
        return case

    @cached_property
    def outer_ip_ids(self) -> list[IpIdProfile]:
        """Class of the outer IP IDs of each tunnel's client: the engine's and the report's."""
        return outer_profiles(self)


@dataclass(frozen=True, eq=False)
class EgressRows:
    """Egress packets grouped by flow: ``start[f]:start[f+1]`` are flow f's."""

    start: Ints
    row: Int32s
    """Row in the egress PacketTable."""
    ts_ns: Ints
    """On the ingress clock."""
    inner_bytes: Int32s
    up: Bools


@dataclass(frozen=True, eq=False)
class ScoreTable(Columns):
    """Raw scores of (flow, tunnel) pairs; pairs not listed are below every listed score that matters."""

    flow: Int32s
    tunnel: Int32s
    score: Floats
    """Decimal logarithm of the engine's uncalibrated ratio."""
    hits: Int32s
    """Packets of the flow that the tunnel explains."""

    def best(self, flows: int) -> tuple[Ints, Floats]:
        """Row of each flow's best pair, -1 without, and how far its score is above 0 and above the next
        one's.
        """
        order = np.lexsort((self.tunnel, -self.score, self.flow))
        flow = self.flow[order]
        leads = np.flatnonzero(changes(flow))
        best = np.full(flows, -1, np.int64)
        best[flow[leads]] = order[leads]
        following = np.minimum(leads + 1, max(len(flow) - 1, 0))
        has_next = (following > leads) & (flow[following] == flow[leads])
        score = np.maximum(self.score[order], 0.0)
        lead = np.full(flows, -np.inf)
        lead[flow[leads]] = score[leads] - np.where(has_next, score[following], 0.0)
        return best, lead


def concatenate(tables: list[ScoreTable]) -> ScoreTable:
    """One table of several."""
    if not tables:
        return ScoreTable(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.int32))
    return ScoreTable.joined(tables)
