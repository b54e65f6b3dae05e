"""Packets to conversations.

A flow is a bidirectional five-tuple, split where the same five-tuple is used again: after an idle
time-out, or by a TCP SYN with a new initial sequence number. Which end is the client side is decided by
behaviour, not by address: clients *open* conversations (send a SYN without ACK, an echo request,
the first datagram). An address that opens to more addresses than it accepts from is a client side; on the
egress side of a NAT that is the server's public address, however many servers it talks to. Three rules keep
what others send to it from turning its flows round: only an opening that was answered counts (a scan is
not), a pair of addresses counts once (one host that knocks again and again does not), and who was seen to
send the SYN is the client, but for a connection *into* a client side: there a port of the server leads into
a tunnel, so that the answers, not the SYN, travel towards the Internet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.flows._kernels import assign_flows, flow_totals
from vpnforensics.flows.community_id import community_id
from vpnforensics.flows.grouping import group_rows
from vpnforensics.packets.table import (
    FRAG_LATER,
    FRAG_WHOLE,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    TCP_ACK,
    TCP_SYN,
    PacketTable,
)
from vpnforensics.scratch import beside, blocks, rows_where

IDLE_TCP_S = 300.0
IDLE_OTHER_S = 30.0  # Linux forgets a NATed UDP port after so long (nf_conntrack_udp_timeout)

# ICMP messages that carry an identifier: echo, timestamp, information, address mask.
_ICMP_QUERY = (0, 8, 13, 14, 15, 16, 17, 18)
_ICMPV6_QUERY = (128, 129)


@dataclass(frozen=True, eq=False)
class FlowTable:
    """Conversations of one capture; rows in order of first packet.

    ``flow`` and ``up`` have one entry per packet of the table they were made from; the rest one per flow.
    """

    packets: PacketTable
    flow: npt.NDArray[np.int32]
    """Flow number of each packet."""
    up: npt.NDArray[np.bool_]
    """True where the packet travels from the client side."""
    src: npt.NDArray[np.int32]
    """Address id of the client-side endpoint."""
    dst: npt.NDArray[np.int32]
    sport: npt.NDArray[np.uint16]
    dport: npt.NDArray[np.uint16]
    proto: npt.NDArray[np.uint8]
    first_ns: npt.NDArray[np.int64]
    last_ns: npt.NDArray[np.int64]
    packets_up: npt.NDArray[np.int64]
    packets_down: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    """IP bytes, both directions."""
    icmp_type: npt.NDArray[np.uint8]
    """Type of the first ICMP message of the client side, for the Community ID; else 0."""
    icmp_code: npt.NDArray[np.uint8]
    number: npt.NDArray[np.int64]
    """Place of each flow among all of its capture, from 0: what names it, though others be left out."""

    def __len__(self) -> int:
        return len(self.src)

    def source(self, flow: int) -> str:
        """``addr:port`` of the client side."""
        return self.packets.addresses.endpoint(int(self.src[flow]), int(self.sport[flow]))

    def destination(self, flow: int) -> str:
        """``addr:port`` of the far side."""
        return self.packets.addresses.endpoint(int(self.dst[flow]), int(self.dport[flow]))

    @cached_property
    def ids(self) -> list[str]:
        """Name of every flow, the same whatever is left out of its capture."""
        return [f"f{n + 1}" for n in self.number.tolist()]

    @cached_property
    def community_ids(self) -> list[str]:
        """Community ID v1 of every flow."""
        table = self.packets.addresses
        packed = [
            row[12:].tobytes() if version == 4 else row.tobytes()
            for row, version in zip(table.packed, table.version, strict=True)
        ]
        icmp = (self.proto == PROTO_ICMP) | (self.proto == PROTO_ICMPV6)
        sport = np.where(icmp, self.icmp_type, self.sport).tolist()
        dport = np.where(icmp, self.icmp_code, self.dport).tolist()
        rows = zip(self.src.tolist(), self.dst.tolist(), self.proto.tolist(), sport, dport, strict=True)
        return [community_id(packed[s], packed[d], proto, sp, dp) for s, d, proto, sp, dp in rows]

    @cached_property
    def order(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Packet rows grouped by flow, file order kept, and the start of each group (one more than flows)."""
        rows, starts = group_rows(self.flow, len(self))
        return rows, starts

    def rows_of(self, flow: int) -> npt.NDArray[np.int32]:
        """Rows of one flow's packets, in file order."""
        rows, starts = self.order
        return rows[starts[flow] : starts[flow + 1]]

    def of_first(
        self, wanted: npt.NDArray[np.bool_], values: npt.NDArray[np.integer[Any]]
    ) -> npt.NDArray[np.int64]:
        """Of each flow the value of its first wanted packet in file order, -1 without one.

        Parameters
        ----------
        wanted : ndarray of bool, shape (packets,)
        values : ndarray of an integer type, shape (packets,)
        """
        found = np.full(len(self), -1, np.int64)
        rows = np.flatnonzero(wanted)[::-1]
        found[self.flow[rows]] = values[rows]  # of several the last one written, which is the first packet
        return found

    def at_times(self, packets: PacketTable) -> FlowTable:
        """The same conversations of the same packets at other times."""
        first_ns, last_ns, *_ = flow_totals(
            self.flow, self.up, packets.ts_ns, packets.ip_len_bytes, len(self)
        )
        return replace(self, packets=packets, first_ns=first_ns, last_ns=last_ns)

    def to_pandas(self) -> pd.DataFrame:
        """One row a flow."""
        flows = range(len(self))
        return pd.DataFrame(
            {
                "id": self.ids,
                "proto": self.proto,
                "src": [self.source(f) for f in flows],
                "dst": [self.destination(f) for f in flows],
                "community_id": self.community_ids,
                "packets_up": self.packets_up,
                "packets_down": self.packets_down,
                "bytes": self.bytes,
                "first_ns": self.first_ns,
                "last_ns": self.last_ns,
            }
        )

    def __repr__(self) -> str:
        return f"FlowTable({len(self):,} flows, {len(self.flow):,} packets)"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{self.to_pandas().head(20).to_html(index=False)}"


def assemble_flows(
    packets: PacketTable, *, idle_tcp_s: float = IDLE_TCP_S, idle_other_s: float = IDLE_OTHER_S
) -> FlowTable:
    """Conversations of a capture.

    Parameters
    ----------
    packets : PacketTable
    idle_tcp_s, idle_other_s : float
        Silence that ends a conversation; ``inf`` never splits on silence.

    Returns
    -------
    FlowTable
    """
    sport, dport = _ports(packets)
    scratch = beside(packets.ts_ns)
    flow, up = scratch.empty(len(packets), np.int32), scratch.empty(len(packets), np.bool_)
    first = assign_flows(
        packets.ts_ns,
        packets.src,
        packets.dst,
        sport,
        dport,
        packets.proto,
        packets.tcp_flags,
        packets.seq,
        _to_ns(idle_tcp_s),
        _to_ns(idle_other_s),
        flow,
        up,
    )
    count = len(first)
    first_src, first_dst = packets.src[first], packets.dst[first]
    opening = _openings(packets, first)
    client_is_first_src = _client_is_first_src(
        first_src, first_dst, opening, _answered(packets, flow, up), len(packets.addresses)
    )
    for rows in blocks(len(packets)):  # until here, whether it goes the way of the first one
        up[rows] ^= ~client_is_first_src[flow[rows]]

    first_ns, last_ns, packets_up, packets_down, ip_bytes = flow_totals(
        flow, up, packets.ts_ns, packets.ip_len_bytes, count
    )
    icmp = np.isin(packets.proto[first], (PROTO_ICMP, PROTO_ICMPV6))
    return FlowTable(
        packets=packets,
        flow=flow,
        up=up,
        src=np.where(client_is_first_src, first_src, first_dst),
        dst=np.where(client_is_first_src, first_dst, first_src),
        sport=np.where(client_is_first_src, sport[first], dport[first]).astype(np.uint16),
        dport=np.where(client_is_first_src, dport[first], sport[first]).astype(np.uint16),
        proto=packets.proto[first],
        first_ns=first_ns,
        last_ns=last_ns,
        packets_up=packets_up,
        packets_down=packets_down,
        bytes=ip_bytes,
        icmp_type=np.where(icmp, packets.sport[first], 0).astype(np.uint8),
        icmp_code=np.where(icmp, packets.dport[first], 0).astype(np.uint8),
        number=np.arange(count),
    )


def _to_ns(seconds: float) -> int:
    return int(seconds * 1e9) if np.isfinite(seconds) else int(np.iinfo(np.int64).max)


@dataclass(frozen=True, eq=False)
class _Openings:
    """What the first packet of each flow says of who opened it."""

    visible: npt.NDArray[np.bool_]
    """It may be the opening, or the answer to an unseen one; else the conversation was under way."""
    certain: npt.NDArray[np.bool_]
    """It is one of these for sure: a first datagram seen need not be the first sent."""
    answers: npt.NDArray[np.bool_]
    """It answers an unseen opening: its destination opened the flow."""


def _openings(packets: PacketTable, first: npt.NDArray[np.int64]) -> _Openings:
    proto, kind = packets.proto[first], packets.sport[first]
    tcp, icmp, icmpv6 = proto == PROTO_TCP, proto == PROTO_ICMP, proto == PROTO_ICMPV6
    syn = tcp & (packets.tcp_flags[first] & TCP_SYN != 0)
    echo_reply = (icmp & (kind == 0)) | (icmpv6 & (kind == 129))
    echo_request = (icmp & (kind == 8)) | (icmpv6 & (kind == 128))
    syn_ack = syn & (packets.tcp_flags[first] & TCP_ACK != 0)
    return _Openings(syn | ~tcp, syn | echo_request | echo_reply, syn_ack | echo_reply)


def _answered(
    packets: PacketTable, flow: npt.NDArray[np.int32], forward: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Flows that both ends speak in; of TCP, with a SYN-ACK against the first packet (a reset refuses)."""
    answered = np.zeros(int(flow.max(initial=-1)) + 1, np.bool_)
    for rows in blocks(len(packets)):
        syn_ack = packets.tcp_flags[rows] & (TCP_SYN | TCP_ACK) == TCP_SYN | TCP_ACK
        answer = ~forward[rows] & (syn_ack | (packets.proto[rows] != PROTO_TCP))
        answered[flow[rows][answer]] = True
    return answered


def _client_is_first_src(
    first_src: npt.NDArray[np.int32],
    first_dst: npt.NDArray[np.int32],
    opening: _Openings,
    answered: npt.NDArray[np.bool_],
    addresses: int,
) -> npt.NDArray[np.bool_]:
    """Whether each flow's first packet came from its client side."""
    opener = np.where(opening.answers, first_dst, first_src)
    accepter = np.where(opening.answers, first_src, first_dst)
    counted = opening.visible & answered
    if not counted.any():  # one direction only: no opening can be seen answered
        counted = opening.visible
    pair, number = np.unique(opener.astype(np.int64) * addresses + accepter, return_inverse=True)
    strong = np.zeros(len(pair), np.bool_)
    strong[number[counted]] = True
    # All the pairs without a counted opening weigh less than one with; integers, so that ties are ties.
    weight = np.where(strong, len(pair) + 1, 1)
    net = np.bincount(pair // addresses, weight, addresses) - np.bincount(pair % addresses, weight, addresses)
    by_address = np.where(net[first_src] == net[first_dst], ~opening.answers, net[first_src] > net[first_dst])
    into_a_client_side = net[accepter] > np.maximum(net[opener], 0)
    return np.where(opening.certain & ~into_a_client_side, ~opening.answers, by_address)


def _ports(packets: PacketTable) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Port pair of every packet for grouping, where its own are no ports or missing.

    ICMP queries have their identifier for both. ICMP errors answer the packet that they quote, and have its
    ports the other way round: about different conversations they are different flows, though between the
    same two hosts. Later fragments have the first one's.
    """
    proto, sport, dport = packets.proto, packets.sport, packets.dport
    icmp = rows_where(len(proto), lambda rows: np.isin(proto[rows], (PROTO_ICMP, PROTO_ICMPV6)))
    fragments = rows_where(len(proto), lambda rows: packets.frag[rows] != FRAG_WHOLE)
    if not (len(icmp) or len(fragments)):
        return sport, dport
    sport, dport = (beside(ports).copy(ports) for ports in (sport, dport))
    if len(icmp):
        query, head, quoted = is_query(proto[icmp], sport[icmp]), packets.head[icmp], packets.seq[icmp]
        identifier = head[:, 4].astype(np.uint16) << 8 | head[:, 5]
        sport[icmp] = np.where(query, identifier, quoted & 0xFFFF)
        dport[icmp] = np.where(query, identifier, quoted >> 16)
    if len(fragments):
        _inherit_ports(packets, fragments, sport, dport)
    return sport, dport


def is_query(proto: npt.NDArray[np.uint8], kind: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
    """Which ICMP messages, by protocol and type, carry an identifier; the others are errors and the like."""
    return np.where(proto == PROTO_ICMP, np.isin(kind, _ICMP_QUERY), np.isin(kind, _ICMPV6_QUERY))


def _inherit_ports(
    packets: PacketTable,
    rows: npt.NDArray[np.intp],
    sport: npt.NDArray[np.uint16],
    dport: npt.NDArray[np.uint16],
) -> None:
    """Give later fragments the ports of the latest first fragment with their addresses and IP ID."""
    frame = pd.DataFrame(
        {
            "src": packets.src[rows],
            "dst": packets.dst[rows],
            "proto": packets.proto[rows],
            "ip_id": packets.ip_id[rows],
            "later": packets.frag[rows] == FRAG_LATER,
            "sport": sport[rows].astype(np.float64),
            "dport": dport[rows].astype(np.float64),
        }
    )
    frame.loc[frame["later"], ["sport", "dport"]] = np.nan
    filled = frame.groupby(["src", "dst", "proto", "ip_id"])[["sport", "dport"]].ffill().fillna(0)
    sport[rows] = filled["sport"].to_numpy().astype(np.uint16)
    dport[rows] = filled["dport"].to_numpy().astype(np.uint16)
