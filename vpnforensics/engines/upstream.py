"""Header fields of what clients send: outer packets of each tunnel, inner packets of each flow.

Both are on the ingress clock, in order of time. The client's stack fills the fields of both where the VPN
runs on it; the server only forwards the inner ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import Case
from vpnforensics.packets.table import FRAG_LATER, PacketTable

Ints = npt.NDArray[np.int64]


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

    def keep(self, wanted: npt.NDArray[np.bool_]) -> Upstream:
        """Only the packets where ``wanted`` is true."""
        counts = np.bincount(self.owner[wanted], minlength=len(self))
        return Upstream(_starts(counts), self.ts_ns[wanted], self.row[wanted])


def outer_upstream(case: Case) -> Upstream:
    """What the client of each tunnel sends to the server, whole packets and first fragments."""
    conversations = case.conversations
    tunnel_of = np.full(len(conversations), -1, np.int64)
    client_is_src = np.ones(len(conversations), np.bool_)
    for t, tunnel in enumerate(case.tunnels.tunnels):
        tunnel_of[tunnel.conversation] = t
        client_is_src[tunnel.conversation] = conversations.source(tunnel.conversation) == tunnel.client
    owner = tunnel_of[conversations.flow]
    up = conversations.up == client_is_src[conversations.flow]
    wanted = (owner >= 0) & up & (conversations.packets.frag != FRAG_LATER)
    rows = np.flatnonzero(wanted)
    return _grouped(owner[rows], conversations.packets.ts_ns[rows], rows, len(case.tunnels))


def inner_upstream(case: Case, shift_ns: int = 0) -> Upstream:
    """What the client side of each flow sends; times turned by ``shift_ns`` on the circle of the case.

    A turned copy keeps everything of a flow but its place in time: under it no tunnel carried the flow.
    """
    flows = case.flows
    rows = np.flatnonzero(flows.up & (flows.packets.frag != FRAG_LATER))
    ts_ns = case.alignment.to_ingress(flows.packets.ts_ns[rows])
    if shift_ns and len(rows):
        outer = case.conversations.packets.ts_ns
        first = min(int(ts_ns.min()), int(outer.min()) if len(outer) else int(ts_ns.min()))
        last = max(int(ts_ns.max()), int(outer.max()) if len(outer) else int(ts_ns.max()))
        # A flow is turned whole, by its first packet: cut in two it would be no flow.
        begin = np.full(len(flows), np.iinfo(np.int64).max)
        np.minimum.at(begin, flows.flow[rows], ts_ns)
        moved = (begin - first + shift_ns) % max(last - first, 1) + first - begin
        ts_ns = ts_ns + moved[flows.flow[rows]]
    return _grouped(flows.flow[rows].astype(np.int64), ts_ns, rows, len(flows))


def field(packets: PacketTable, side: Upstream, name: str) -> Ints:
    """A column of the packets, as int64."""
    column: Ints = getattr(packets, name)[side.row].astype(np.int64)
    return column


def _grouped(owner: Ints, ts_ns: Ints, rows: npt.NDArray[np.intp], count: int) -> Upstream:
    order = np.lexsort((ts_ns, owner))
    return Upstream(_starts(np.bincount(owner, minlength=count)), ts_ns[order], rows[order].astype(np.int64))


def _starts(counts: npt.NDArray[np.integer]) -> Ints:
    starts: Ints = np.r_[0, np.cumsum(counts)].astype(np.int64)
    return starts
