"""Header fields of what clients send: outer packets of each tunnel, inner packets of each flow.

Both are on the ingress clock, in order of time. The client's stack fills the fields of both where the VPN
runs on it; the server only forwards the inner ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vpnforensics.arrays import Bools, Ints
from vpnforensics.features.ip_id import IpIdProfile, classify_ip_ids
from vpnforensics.flows.grouping import rows_in_time
from vpnforensics.packets.table import FRAG_LATER, PacketTable

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
        kept = np.r_[0, np.cumsum(wanted)]
        return Upstream(kept[self.start], self.ts_ns[wanted], self.row[wanted])


def outer_upstream(case: Case) -> Upstream:
    """What the client of each tunnel sends to the server, whole packets and first fragments."""
    conversations = case.conversations
    tunnel_of = np.full(len(conversations), -1, np.int64)
    client_is_src = np.ones(len(conversations), np.bool_)
    for t, tunnel in enumerate(case.tunnels.tunnels):
        tunnel_of[tunnel.conversation] = t
        client_is_src[tunnel.conversation] = conversations.source(tunnel.conversation) == tunnel.client
    up = conversations.up == client_is_src[conversations.flow]
    wanted = up & (conversations.packets.frag != FRAG_LATER)
    owner = np.where(wanted, tunnel_of[conversations.flow], -1)
    row, start = rows_in_time(owner, len(case.tunnels), conversations.packets.ts_ns)
    return Upstream(start, conversations.packets.ts_ns[row], row.astype(np.int64))


def inner_upstream(case: Case) -> Upstream:
    """What the client side of each flow sends."""
    flows, packets = case.flows, case.flows.packets
    wanted = flows.up & (packets.frag != FRAG_LATER)
    row, start = rows_in_time(np.where(wanted, flows.flow, -1), len(flows), packets.ts_ns)
    ts_ns = case.alignment.to_ingress(packets.ts_ns[row])
    return Upstream(start, ts_ns, row.astype(np.int64))


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
