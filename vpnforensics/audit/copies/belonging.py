"""What an audit's own correlation knows of a recording: which record carried which packet, and lengths.

Copies are made of the capture's own tables. Where a flow was not linked, nothing says whose it is: its
packets keep their times when their tunnel's records are delayed, and a copy takes it further from being
linked than it may be. Such flows were not linked before either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vpnforensics.align.alignment import Alignment
from vpnforensics.arrays import Bools, Ints
from vpnforensics.audit.recording import Recording
from vpnforensics.engines.case import Case
from vpnforensics.errors import VpnForensicsError
from vpnforensics.packets.table import PacketTable
from vpnforensics.tunnels.length_map import UNCAPPED, LengthMap
from vpnforensics.tunnels.table import RecordTable, Tunnel
from vpnforensics.weighing import Weighed

USUAL_MTU_BYTES = 1420
"""Inner MTU of a tunnel that has shown no full packet: WireGuard's default, 1500 less 80 of overhead."""
_LEAST_MTU_BYTES = 1280
"""Of IPv6 (RFC 8200, section 5): no usual tunnel has less, so that smaller packets were not full ones."""


class NoCopyError(VpnForensicsError):
    """A copy that cannot be made of this recording, and why."""


@dataclass(frozen=True, eq=False)
class Belonging:
    """A recording with what is known of it; both tables are on the ingress clock."""

    ingress: PacketTable
    egress: PacketTable
    records: RecordTable
    tunnels: tuple[Tunnel, ...]
    case: Case
    record_of: Ints
    """RecordTable row that carried each egress packet, in the order of ``case.egress``; -1 where not
    known."""
    tunnel_of: Ints
    """Tunnel of each flow, or -1."""

    @cached_property
    def datagrams(self) -> Bools:
        """Tunnels of a record a packet; those over TCP have streams, which are not copied."""
        return np.array([t.transport in ("udp", "esp") for t in self.tunnels], np.bool_)

    @cached_property
    def mapped(self) -> Bools:
        """Tunnels of datagrams whose length map is known."""
        return self.datagrams & (self.case.map_of_tunnel >= 0)

    @property
    def rules(self) -> dict[str, LengthMap]:
        """Length map of each client's tunnel, as far as known."""
        laws = [self.case.maps[n] if n >= 0 else None for n in self.case.map_of_tunnel.tolist()]
        return {
            t.client: law for t, law in zip(self.tunnels, laws, strict=True) if isinstance(law, LengthMap)
        }

    @cached_property
    def inner_bytes(self) -> Ints:
        """Length of each record's packet, or the longest that fits; 0 unknown."""
        records = self.records
        inner = np.zeros(len(records), np.int64)
        number = np.where(self.mapped, self.case.map_of_tunnel, -1)[records.tunnel]
        for i, length_map in enumerate(self.case.maps):
            if isinstance(length_map, LengthMap):
                mine = number == i
                inner[mine] = np.maximum(length_map.longest_inner(records.size[mine]), 0)
        known = np.flatnonzero(self.record_of >= 0)
        inner[self.record_of[known]] = self.case.egress.inner_bytes[known]
        return inner

    @cached_property
    def mtu_bytes(self) -> Ints:
        """Inner MTU of each tunnel: its length map's cap, else its longest packet if that may be full."""
        longest = np.zeros(len(self.tunnels), np.int64)
        np.maximum.at(longest, self.records.tunnel, self.inner_bytes)
        full = np.where(longest >= _LEAST_MTU_BYTES, longest, USUAL_MTU_BYTES)
        caps = np.array([m.cap for m in self.case.maps] + [UNCAPPED], np.int64)[self.case.map_of_tunnel]
        return np.where(caps < UNCAPPED, np.maximum(caps, longest), full)


def belonging(recording: Recording, found: Weighed) -> Belonging:
    """What a weighed case says of the recording that it was made of.

    Parameters
    ----------
    recording : Recording
    found : Weighed
        With links at the laxest level that is wanted: they say which record carried which packet.

    Raises
    ------
    NoCopyError
        The clocks cannot be aligned, so that nothing is known of what carried what; or it is a relay's.
    """
    case = found.case
    if case.by_writes:
        raise NoCopyError(
            "a relay's streams have no packets of their clients, whose fields or times could change"
        )
    if not case.alignment.usable:
        raise NoCopyError(f"the clocks cannot be aligned: {case.alignment.reason}")
    return Belonging(
        _with_heads(case.conversations.packets, recording.ingress),
        on_ingress_clock(_with_heads(case.flows.packets, recording.egress), case.alignment),
        case.tunnels.records,
        case.tunnels.tunnels,
        case,
        found.decision.record.astype(np.int64),
        found.decision.tunnel.astype(np.int64),
    )


def _with_heads(packets: PacketTable, read: PacketTable) -> PacketTable:
    """The case's table (its clock may have been put straight) with the payloads that the case forgot."""
    if packets is read or len(packets) != len(read):
        return replace(packets, source=None)
    return replace(packets, head=read.head, source=None)


def on_ingress_clock(egress: PacketTable, alignment: Alignment) -> PacketTable:
    """The egress side with its times on the ingress clock, so that one clock stamped both."""
    return replace(egress, ts_ns=alignment.to_ingress(egress.ts_ns))


def in_order(packets: PacketTable) -> PacketTable:
    """The packets in order of time (ties: as they stand), with frames numbered anew."""
    ordered = packets.take(np.argsort(packets.ts_ns, kind="stable"))
    return replace(ordered, frame=np.arange(1, len(ordered) + 1, dtype=np.uint32), source=None)
