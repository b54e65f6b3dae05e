"""Carriers: the outer streams of one client at a relay, and what they may have carried, as writes.

One outer connection may carry one connection of the egress side (Shadowsocks, SOCKS, trojan, HTTP CONNECT),
or one stream may carry many (ssh, Tor, TLS around a VPN). Either way those of one client are one carrier: in
the result it is a *tunnel* of transport ``stream``, and what its writes tell is its :class:`WriteLaw`. A
client is an address, for its connections have a port each: several clients behind one NAT are one carrier.

What takes the place of records and of egress packets are writes of one segment: larger ones are read, and
passed on, in pieces of any size, and have no single partner on the relay's other side. What is no such write
is in no table, so that nobody misses it. Where ssh's lengths are in clear, each of its messages is a record,
and those that open and end a channel stand for packets of its flow that carry nothing. A flow without any
(datagrams; a connection that only opened) has one entry that no law can have, to stand for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import PROTO_TCP, TCP_ACK, TCP_FIN, TCP_SYN
from vpnforensics.tunnels.find import find_tunnels
from vpnforensics.tunnels.protocol import SURE
from vpnforensics.tunnels.relays import Relay, find_relays
from vpnforensics.tunnels.table import RecordTable, Tunnel, TunnelSet
from vpnforensics.tunnels.write_law import (
    CHANNEL_ENDED_BYTES,
    CHANNEL_OPENED_BYTES,
    MOST_WRITE_BYTES,
    OPENING,
    VARIES,
    WriteLaw,
)
from vpnforensics.tunnels.writes import WriteTable, find_writes

TRANSPORT = "stream"
_MANY_HOSTS = 3
"""A relay's client talks to one relay, or to two."""
_ACCEPTED = TCP_SYN | TCP_ACK
_NO_WRITE_BYTES = 3 * OPENING
"""Size of what stands for a flow without writes: more than any law's."""


@dataclass(frozen=True, eq=False)
class Carriers:
    """Carriers, sure ones and candidates, in order of their first packets; and their writes."""

    conversations: FlowTable
    writes: WriteTable
    tunnels: tuple[Tunnel, ...]
    carrier_of: npt.NDArray[np.int64]
    """Carrier of each conversation, by its number in the flow table; -1 for others."""
    forward: npt.NDArray[np.bool_]
    """Whether the carrier's client is the one by the flow table, of each conversation."""
    frames: RecordTable
    """What has its length in clear, in these or other conversations; ``tunnel`` is the conversation's."""

    def __len__(self) -> int:
        return len(self.tunnels)

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """What names each of them beside other tunnels and candidates of its capture."""
        return np.array([t.number for t in self.tunnels], np.int64)

    def select(self, keep: npt.NDArray[np.bool_]) -> Carriers:
        """The carriers where ``keep`` is true, renumbered."""
        number = np.r_[np.where(keep, np.cumsum(keep) - 1, -1), -1]
        tunnels = tuple(t for t, kept in zip(self.tunnels, keep, strict=True) if kept)
        return replace(self, tunnels=tunnels, carrier_of=number[self.carrier_of])

    def records(self, law: WriteLaw) -> RecordTable:
        """The writes that can carry one write (or packet) by a law, in order of time.

        A write that opens its connection has its size without the opening's own bytes, and the mark.
        """
        if law.of_frames:
            framed = self.frames.take(self.carrier_of[self.frames.tunnel] >= 0)
            return replace(framed, tunnel=self.carrier_of[framed.tunnel].astype(np.int32))
        writes = self.writes
        told = writes.whole & (writes.segments == 1) & (self.carrier_of[writes.connection] >= 0)
        up = writes.up == self.forward[writes.connection]
        size = writes.size.copy()
        if law.opening is None:
            told &= ~writes.opens
        else:
            more = np.where(up, *law.opening)
            told &= ~writes.opens | ((more != VARIES) & (size > more))
            size[writes.opens] += (OPENING - more)[writes.opens]
        kept = np.flatnonzero(told)
        kept = kept[np.lexsort((writes.row[kept], writes.last_ns[kept]))]
        return RecordTable(
            writes.last_ns[kept],
            self.carrier_of[writes.connection[kept]].astype(np.int32),
            up[kept],
            size[kept].astype(np.int32),
            np.full(len(kept), -1, np.int64),
            writes.row[kept],
        )


def find_carriers(conversations: FlowTable, framed: TunnelSet) -> Carriers:
    """The carriers among the conversations of an ingress capture.

    Parameters
    ----------
    conversations : FlowTable
        Assembled without idle time-outs.
    framed : TunnelSet
        What was found in them that has records, candidates included.
    """
    writes = find_writes(conversations)
    forward = client_is_source(conversations, writes)
    of: dict[tuple[int, int, str], list[int]] = {}
    relays: dict[tuple[int, int, str], Relay] = {}
    for relay in find_relays(conversations, writes, forward):
        for number in relay.connections.tolist():
            client = conversations.src if forward[number] else conversations.dst
            key = int(client[number]), relay.server, relay.protocol
            of.setdefault(key, []).append(number)
            relays.setdefault(key, relay)
    outward = _opening_outward(conversations, writes, forward)
    of = {key: mine for key, mine in of.items() if relays[key].confidence >= SURE or key[0] not in outward}
    carrier_of = np.full(len(conversations), -1, np.int64)
    tunnels: list[Tunnel] = []
    for key, numbers in sorted(of.items(), key=lambda item: min(item[1])):
        carrier_of[numbers] = len(tunnels)
        mine = np.sort(np.array(numbers, np.int64))
        tunnels.append(
            _tunnel(conversations, relays[key], mine, bool(forward[mine[0]]), len(framed) + len(tunnels))
        )
    number = np.array([t.conversation for t in framed.tunnels], np.int32)
    frames = replace(framed.records, tunnel=number[framed.records.tunnel])
    return Carriers(conversations, writes, tuple(tunnels), carrier_of, forward, frames)


def list_tunnels(conversations: FlowTable) -> TunnelSet:
    """The tunnels, relays' carriers and candidates of an ingress capture, to look at.

    Carriers stand in the place of streams of which nothing but bytes is known. Most TLS is the web: of that,
    only what :func:`~vpnforensics.tunnels.find.find_tunnels` takes for a candidate is listed.
    """
    found = find_tunnels(conversations)
    carriers = find_carriers(conversations, found)
    shown = [t for t in carriers.tunnels if t.protocol != "tls"]
    theirs = {c for t in shown for c in (t.conversation, *t.beside)}
    framed = np.bincount(found.records.tunnel, minlength=len(found)) > 0
    keep = np.array([t.sure or t.conversation not in theirs for t in found.tunnels], np.bool_) | framed
    kept = found.select(keep)
    known = {c for t in kept.tunnels for c in (t.conversation, *t.beside)}
    said = {t.conversation: t.variant for t in found.tunnels}  # what the ends of an ssh connection agreed on
    more = tuple(
        replace(t, variant=said.get(t.conversation, ""))
        for t in shown
        if not known & {t.conversation, *t.beside}
    )
    return replace(kept, tunnels=(*kept.tunnels, *more))


def _opening_outward(
    conversations: FlowTable, writes: WriteTable, forward: npt.NDArray[np.bool_]
) -> set[int]:
    """Addresses that talk to many hosts: no relay's client, which has its relay for that, but a relay's
    outside (in a capture of both its sides), or a host that browses.
    """
    talked = np.diff(writes.start) > 0
    client = np.where(forward, conversations.src, conversations.dst)[talked]
    server = np.where(forward, conversations.dst, conversations.src)[talked]
    pairs = np.unique(np.stack([client, server]), axis=1)
    address, hosts = np.unique(pairs[0], return_counts=True)
    return set(address[hosts >= _MANY_HOSTS].tolist())


def client_is_source(conversations: FlowTable, writes: WriteTable) -> npt.NDArray[np.bool_]:
    """Whether the flow table's client is one; where nobody was seen to open, a service is what many share."""
    ends = [
        address.astype(np.int64) << 16 | port
        for address, port in (
            (conversations.src, conversations.sport),
            (conversations.dst, conversations.dport),
        )
    ]
    talked = np.diff(writes.start) > 0
    _, number, shared = np.unique(
        np.concatenate([e[talked] for e in ends]), return_inverse=True, return_counts=True
    )
    by_src, by_dst = shared[number].reshape(2, -1)
    forward = np.ones(len(conversations), np.bool_)
    forward[talked] = by_src <= by_dst
    forward[writes.connection[writes.opens]] = True
    return forward


def _tunnel(
    conversations: FlowTable, relay: Relay, mine: npt.NDArray[np.int64], forward: bool, number: int
) -> Tunnel:
    first = int(mine[0])
    ends = conversations.source(first), conversations.destination(first)
    sent = int(conversations.packets_up[mine].sum()), int(conversations.packets_down[mine].sum())
    return Tunnel(
        client=ends[0] if forward else ends[1],
        server=ends[1] if forward else ends[0],
        transport=TRANSPORT,
        protocol=relay.protocol,
        variant="",
        confidence=relay.confidence,
        first_ns=int(conversations.first_ns[mine].min()),
        last_ns=int(conversations.last_ns[mine].max()),
        packets_up=sent[0] if forward else sent[1],
        packets_down=sent[1] if forward else sent[0],
        length_maps=(),
        conversation=first,
        number=number,
        beside=tuple(mine[1:].tolist()),
    )


def as_carried(flows: FlowTable, writes: WriteTable, law: WriteLaw) -> FlowTable:
    """The egress flows as a relay of this law would have carried them: its writes in the place of packets.

    Flows keep their numbers, endpoints, times and counts. A row's ``ip_len_bytes`` is what the law is of.

    Parameters
    ----------
    flows : FlowTable
    writes : WriteTable
        Of these flows.
    law : WriteLaw
    """
    if law.of_packets:
        return flows
    told = writes.whole & (writes.segments == 1) & (writes.size <= MOST_WRITE_BYTES)
    size = writes.size.copy()
    if law.opening is not None:
        told &= ~writes.opens | (np.where(writes.up, *law.opening) != VARIES)
        size[writes.opens] += OPENING
    kept = np.flatnonzero(told)
    said = _channel_messages(flows) if law.of_frames else np.zeros(0, np.int64)
    ended = (flows.packets.tcp_flags[said] & TCP_FIN) != 0
    without = np.ones(len(flows), np.bool_)
    without[writes.connection[kept]] = False
    without[flows.flow[said]] = False
    rows, start = flows.order
    alone = np.flatnonzero(without)
    row = np.r_[writes.row[kept], said, rows[start[:-1][alone]]].astype(np.int64)
    message_bytes = np.where(ended, CHANNEL_ENDED_BYTES, CHANNEL_OPENED_BYTES)
    size = np.r_[size[kept], message_bytes, np.full(len(alone), _NO_WRITE_BYTES, np.int64)]
    flow = np.r_[writes.connection[kept], flows.flow[said], alone]
    up = np.r_[writes.up[kept], flows.up[said], np.ones(len(alone), np.bool_)]
    order = np.argsort(row, kind="stable")
    packets = flows.packets.take(row[order])
    packets = replace(packets, ip_len_bytes=size[order].astype(packets.ip_len_bytes.dtype))
    return replace(flows, packets=packets, flow=flow[order].astype(np.int32), up=up[order])


def _channel_messages(flows: FlowTable) -> npt.NDArray[np.int64]:
    """Rows of packets for which ssh sends a message without data: that a connection was accepted, that an end
    sends no more, and, with the second end once more, that all is over. What is sent again says nothing new.
    """
    flags, flow = flows.packets.tcp_flags, flows.flow.astype(np.int64)
    opened = (flags & _ACCEPTED) == _ACCEPTED
    kind = np.where((flags & TCP_FIN) != 0, 1 + flows.up, np.where(opened, 0, -1))
    row = np.flatnonzero((flows.proto[flow] == PROTO_TCP) & (kind >= 0))
    _, first = np.unique(flow[row] * 3 + kind[row], return_index=True)
    row = row[first]
    ends = row[kind[row] > 0]  # by flow, its two directions one after the other
    both = np.flatnonzero(flow[ends][1:] == flow[ends][:-1])
    return np.asarray(np.r_[row, np.maximum(ends[both], ends[both + 1])])
