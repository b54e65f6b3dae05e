"""Header fields of what clients send: outer packets of each tunnel, inner packets of each flow.

Both are on the ingress clock, in order of time. The client's stack fills the fields of both where the VPN
runs on it; the server only forwards the inner ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vpnforensics.arrays import Bools, Int32s, Ints
from vpnforensics.features.ip_id import IpIdProfile, classify_ip_ids
from vpnforensics.flows.grouping import rows_in_time
from vpnforensics.packets.table import FRAG_LATER, PacketTable
from vpnforensics.scratch import beside, rows_where

if TYPE_CHECKING:
    from vpnforensics.engines.case import Case


@dataclass(frozen=True, eq=False)
class Upstream:
    """Packets grouped by sender: ``start[k]:start[k+1]`` are tunnel or flow k's."""

    start: Ints
    ts_ns: Ints
    """On the ingress clock."""
    row: Ints
    """Row of the packet table of its side."""

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def owner(self) -> Ints:
        """Sender of each packet."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    def keep(self, wanted: Bools) -> Upstream:
        """Only the packets where ``wanted`` is true."""
        scratch, kept = beside(self.row), rows_where(len(wanted), lambda rows: wanted[rows])
        start = np.searchsorted(kept, self.start)
        return Upstream(start, scratch.taken(self.ts_ns, wanted), scratch.taken(self.row, wanted))


def outer_upstream(case: Case) -> Upstream:
    """What the client of each tunnel sends to the server, whole packets and first fragments."""
    conversations = case.conversations
    tunnel_of = np.full(len(conversations), -1, np.int32)
    client_is_src = np.ones(len(conversations), np.bool_)
    for t, tunnel in enumerate(case.tunnels.tunnels):
        tunnel_of[tunnel.conversation] = t
        client_is_src[tunnel.conversation] = conversations.source(tunnel.conversation) == tunnel.client
    packets, flow, up = conversations.packets, conversations.flow, conversations.up

    def owner(rows: slice) -> Int32s:
        sent = (up[rows] == client_is_src[flow[rows]]) & (packets.frag[rows] != FRAG_LATER)
        return np.where(sent, tunnel_of[flow[rows]], np.int32(-1))

    row, start = rows_in_time(
        beside(flow).filled(len(flow), np.int32, owner), len(case.tunnels), packets.ts_ns
    )
    return Upstream(start, beside(row).taken(packets.ts_ns, row), _wide(row))


def inner_upstream(case: Case) -> Upstream:
    """What the client side of each flow sends."""
    flows, packets, flow = case.flows, case.flows.packets, case.flows.flow

    def owner(rows: slice) -> Int32s:
        sent = flows.up[rows] & (packets.frag[rows] != FRAG_LATER)
        return np.where(sent, flow[rows], np.int32(-1))

    row, start = rows_in_time(beside(flow).filled(len(flow), np.int32, owner), len(flows), packets.ts_ns)
    ts_ns = case.alignment.to_ingress(beside(row).taken(packets.ts_ns, row))
    return Upstream(start, ts_ns, _wide(row))


def _wide(row: Int32s) -> Ints:
    return beside(row).filled(len(row), np.int64, lambda rows: row[rows])


def outer_profiles(case: Case) -> list[IpIdProfile]:
    """Class of the outer IP IDs of each tunnel's client."""
    packets = case.conversations.packets
    outer = case.outer.keep(packets.ip_id[case.outer.row] >= 0)
    ids = field(packets, outer, "ip_id")
    profiles = []
    for t in range(len(outer)):
        mine = slice(int(outer.start[t]), int(outer.start[t + 1]))
        one = np.zeros(mine.stop - mine.start, np.int64)
        profiles.append(classify_ip_ids(outer.ts_ns[mine], ids[mine], one, one))
    return profiles


def field(packets: PacketTable, side: Upstream, name: str) -> Ints:
    """A column of the packets, as int64."""
    column: Ints = getattr(packets, name)[side.row].astype(np.int64)
    return column
