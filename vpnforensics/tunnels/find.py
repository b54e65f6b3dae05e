"""Which outer conversations are tunnels, and the records inside them.

Recognition looks at the first datagrams of each conversation; records are then taken from all of them,
one protocol at a time; TCP has to be put together first (:mod:`vpnforensics.tunnels.tcp_streams`). What no
protocol claims stays a *candidate*: it becomes a tunnel only where a length map learned from the case proves
that it carries the egress traffic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import cast

import numpy as np
import numpy.typing as npt

from vpnforensics.errors import PlugInError
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import PROTO_ESP, PROTO_GRE, PROTO_TCP, PROTO_UDP, PacketTable
from vpnforensics.scratch import beside
from vpnforensics.tunnels import (
    _record_kernels,
    dtls,
    esp,
    ike,
    l2tp,
    nebula,
    openvpn,
    plugged,
    pptp,
    tinc,
    unknown,
    wireguard,
)
from vpnforensics.tunnels.protocol import (
    CONSISTENT,
    OWN_SHAPE,
    SURE,
    Datagrams,
    Recognition,
    Records,
    VpnProtocol,
)
from vpnforensics.tunnels.table import RecordTable, Tunnel, TunnelSet, merge_records
from vpnforensics.tunnels.tcp_streams import FoundStream, find_streams

__all__ = ["PROTOCOLS", "SURE", "RecordTable", "Tunnel", "TunnelSet", "find_tunnels"]

PROTOCOLS: Mapping[str, VpnProtocol] = MappingProxyType(
    {
        module.name: cast(VpnProtocol, module)
        for module in (wireguard, openvpn, esp, nebula, ike, dtls, tinc, pptp, l2tp, unknown)
    }
)
_SAMPLE_DATAGRAMS = 400
_OPENING_DATAGRAMS = 64
_TRANSPORTS = {PROTO_UDP: "udp", PROTO_ESP: "esp", PROTO_GRE: "gre"}


def find_tunnels(conversations: FlowTable) -> TunnelSet:
    """Tunnels and candidates among the outer conversations of an ingress capture.

    Parameters
    ----------
    conversations : FlowTable
        Assembled without idle time-outs, so that one five-tuple is one conversation.

    Returns
    -------
    TunnelSet
        Ordered by first packet.
    """
    plug_ins = plugged.installed()
    protocols: dict[str, VpnProtocol] = {**PROTOCOLS, **cast(Mapping[str, VpnProtocol], plug_ins.working)}
    unheard = list(map(str, plug_ins.broken.values()))
    while True:
        try:
            return replace(_found(conversations, protocols), unheard=tuple(unheard))
        except PlugInError as error:  # found anew, as if it were not installed
            del protocols[error.name]
            unheard.append(str(error))


def _found(conversations: FlowTable, protocols: Mapping[str, VpnProtocol]) -> TunnelSet:
    packets = conversations.packets
    connections, greeting = _tcp_connections(conversations)
    degree = _degrees(conversations)
    controls = _controls(conversations)
    streams = {stream.number: stream for stream in find_streams(conversations)}
    tunnels: list[Tunnel] = []
    parts: list[RecordTable] = []
    single = _DatagramRecords(conversations)
    plain: list[int] = []
    for number in range(len(conversations)):
        if number in streams:
            tunnel, records = _stream_tunnel(conversations, streams[number], len(tunnels), degree)
            tunnels.append(tunnel)
            parts.append(records)
            continue
        total = int(conversations.packets_up[number] + conversations.packets_down[number])
        if conversations.proto[number] not in _TRANSPORTS or total < 2:
            plain.append(number)
            continue
        rows = conversations.rows_of(number)
        sample = _datagrams(packets, conversations, number, rows[:_SAMPLE_DATAGRAMS])
        services = (_service(conversations, number, reverse=reverse) for reverse in (False, True))
        twin = next((connections[service] for service in services if service in connections), -1)
        protocol, recognition = _recognise(sample, protocols, greeted=twin in greeting)
        if recognition is None:
            plain.append(number)
            continue
        keep_direction = _calls(conversations, number, controls) if protocol.name == pptp.name else None
        if keep_direction is None:
            ports = protocol.server_ports
            keep_direction = _client_is_src(conversations, number, ports, recognition, degree)
        datagrams = _datagrams(packets, conversations, number, rows)
        up = datagrams.up == keep_direction
        sent_up = int(np.count_nonzero(up))
        src, dst = conversations.source(number), conversations.destination(number)
        single.add(len(tunnels), number, up, protocol.records(datagrams, recognition.variant))
        tunnels.append(
            Tunnel(
                client=src if keep_direction else dst,
                server=dst if keep_direction else src,
                transport=_TRANSPORTS[int(conversations.proto[number])],
                protocol=protocol.name,
                variant=recognition.variant,
                confidence=recognition.confidence,
                first_ns=int(conversations.first_ns[number]),
                last_ns=int(conversations.last_ns[number]),
                packets_up=sent_up,
                packets_down=total - sent_up,
                length_maps=protocol.length_maps(datagrams, recognition.variant),
                conversation=number,
                number=len(tunnels),
                twin=twin if protocol.name == tinc.name else -1,
                handshake=protocol.handshake(
                    replace(datagrams, up=up).take(np.arange(min(total, _OPENING_DATAGRAMS)))
                ),
                copies_ecn=protocol.copies_ecn,
            )
        )
    halves = _halves(conversations, tunnels, controls)
    tunnels = [replace(t, beside=beside) for t, beside in zip(tunnels, halves, strict=True)]
    return TunnelSet(tuple(tunnels), merge_records([single.table(), *parts]), np.array(plain, np.int64))


def _datagrams(
    packets: PacketTable, conversations: FlowTable, number: int, rows: npt.NDArray[np.int32]
) -> Datagrams:
    return Datagrams(
        packets.payload_bytes.take(rows),
        packets.head.take(rows, axis=0),  # five times as quick as indexing
        conversations.up.take(rows),
        int(conversations.proto[number]),
        (int(conversations.sport[number]), int(conversations.dport[number])),
    )


def _recognise(
    sample: Datagrams, protocols: Mapping[str, VpnProtocol], *, greeted: bool
) -> tuple[VpnProtocol, Recognition | None]:
    """The protocol that is surest of a conversation; tinc's tells only by its greeting over TCP."""
    best: tuple[VpnProtocol, Recognition | None] = (PROTOCOLS["unknown"], None)
    for protocol in protocols.values():
        found = protocol.recognise(sample)
        if found is not None and (best[1] is None or found.confidence > best[1].confidence):
            best = (protocol, found)
            if found.confidence >= OWN_SHAPE:
                break
    if greeted and best[1] and best[0].name in (unknown.name, tinc.name):
        return PROTOCOLS[tinc.name], replace(best[1], confidence=CONSISTENT)
    return best


def _service(conversations: FlowTable, number: int, *, reverse: bool) -> tuple[int, int, int]:
    """Client address, server address and server port of a conversation."""
    src, dst = int(conversations.src[number]), int(conversations.dst[number])
    if reverse:
        return dst, src, int(conversations.sport[number])
    return src, dst, int(conversations.dport[number])


def _tcp_connections(conversations: FlowTable) -> tuple[dict[tuple[int, int, int], int], set[int]]:
    """TCP connections by client, server and server port, the last of each; and those that greet as tinc does.

    A meta connection that was opened before the capture is one all the same: tinc's port tells.
    """
    connections: dict[tuple[int, int, int], int] = {}
    greeting: set[int] = set()
    packets = conversations.packets
    for number in np.flatnonzero(conversations.proto == PROTO_TCP).tolist():
        rows = conversations.rows_of(number)[:12]
        spoken = rows[packets.payload_bytes[rows] > 0]
        if len(spoken) and packets.head[spoken[0]].tobytes().startswith(tinc.GREETING):
            greeting.add(number)
        for reverse in (True, False):  # who opened it may lie before the capture
            connections[_service(conversations, number, reverse=reverse)] = number
    return connections, greeting


def _stream_tunnel(
    conversations: FlowTable, found: FoundStream, tunnel: int, degree: dict[tuple[int, int], int]
) -> tuple[Tunnel, RecordTable]:
    """A tunnel over TCP with its records; whoever sent the SYN is the client."""
    number, packets = found.number, conversations.packets
    forward = found.client_opened
    if forward is None:
        forward = _client_is_src(conversations, number, found.server_ports, found.recognition, degree)
    src, dst = conversations.source(number), conversations.destination(number)
    sent = (int(conversations.packets_up[number]), int(conversations.packets_down[number]))
    records = RecordTable(
        packets.ts_ns[found.row],
        np.full(len(found.row), tunnel, np.int32),
        found.up == forward,
        found.size,
        found.counter,
        found.row.astype(np.int32),
    )
    return (
        Tunnel(
            client=src if forward else dst,
            server=dst if forward else src,
            transport="tcp",
            protocol=found.protocol,
            variant=found.recognition.variant,
            confidence=found.recognition.confidence,
            first_ns=int(conversations.first_ns[number]),
            last_ns=int(conversations.last_ns[number]),
            packets_up=sent[0] if forward else sent[1],
            packets_down=sent[1] if forward else sent[0],
            length_maps=found.length_maps,
            conversation=number,
            number=tunnel,
            stream=found.health,
        ),
        records,
    )


def _controls(conversations: FlowTable) -> dict[tuple[int, int], tuple[int, ...]]:
    """PPTP's control connections by client and server address."""
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    for number in np.flatnonzero(conversations.proto == PROTO_TCP).tolist():
        for reverse in (False, True):
            client, server, port = _service(conversations, number, reverse=reverse)
            if port in pptp.server_ports:
                found[client, server] = (*found.get((client, server), ()), number)
    return found


def _calls(
    conversations: FlowTable, number: int, controls: Mapping[tuple[int, int], tuple[int, ...]]
) -> bool | None:
    """Whether a conversation's source called its destination; ``None`` where that was not seen."""
    src, dst = int(conversations.src[number]), int(conversations.dst[number])
    called, calling = (src, dst) in controls, (dst, src) in controls
    return None if called == calling else called


def _halves(
    conversations: FlowTable,
    tunnels: list[Tunnel],
    controls: Mapping[tuple[int, int], tuple[int, ...]],
) -> Iterator[tuple[int, ...]]:
    """The conversations that belong to each tunnel: tinc's over TCP, what set ESP or GRE of its hosts up."""
    hosts = [
        frozenset((int(conversations.src[t.conversation]), int(conversations.dst[t.conversation])))
        for t in tunnels
    ]
    setting_up: dict[tuple[str, frozenset[int]], tuple[int, ...]] = {}
    for t, pair in zip(tunnels, hosts, strict=True):
        if t.protocol == ike.name:
            setting_up[esp.name, pair] = (*setting_up.get((esp.name, pair), ()), t.conversation)
    for ends, numbers in controls.items():
        pair = frozenset(ends)
        setting_up[pptp.name, pair] = (*setting_up.get((pptp.name, pair), ()), *numbers)
    for t, pair in zip(tunnels, hosts, strict=True):
        yield (t.twin,) if t.twin >= 0 else setting_up.get((t.protocol, pair), ())


def _degrees(conversations: FlowTable) -> dict[tuple[int, int], int]:
    """In how many conversations each endpoint (address, port) takes part: a server's in many."""
    degree: dict[tuple[int, int], int] = {}
    for addresses, ports in (
        (conversations.src, conversations.sport),
        (conversations.dst, conversations.dport),
    ):
        for endpoint in zip(addresses.tolist(), ports.tolist(), strict=True):
            degree[endpoint] = degree.get(endpoint, 0) + 1
    return degree


def _client_is_src(
    conversations: FlowTable,
    number: int,
    server_ports: tuple[int, ...],
    recognition: Recognition,
    degree: dict[tuple[int, int], int],
) -> bool:
    """Which end is the VPN client: by the protocol's port, by who opened, by who is shared.

    A shared end may be one client's socket that talks to several servers, so it comes last.
    """
    src = (int(conversations.src[number]), int(conversations.sport[number]))
    dst = (int(conversations.dst[number]), int(conversations.dport[number]))
    if (src[1] in server_ports) != (dst[1] in server_ports):
        return dst[1] in server_ports
    if recognition.client_first is not None:
        return recognition.client_first == bool(conversations.up[conversations.rows_of(number)[0]])
    return degree[src] <= degree[dst]


class _DatagramRecords:
    """Records of tunnels over datagrams, at most one a packet, gathered conversation by conversation."""

    def __init__(self, conversations: FlowTable) -> None:
        packets = len(conversations.packets)
        self._scratch = beside(conversations.packets.ts_ns)
        self._conversations = conversations
        self._tunnel = np.full(len(conversations), -1, np.int32)
        self._carries = self._scratch.full(packets, False, np.bool_)
        self._up = self._scratch.empty(packets, np.bool_)
        self._counter = self._scratch.empty(packets, np.int64)
        self._size = conversations.packets.payload_bytes

    def add(self, tunnel: int, conversation: int, up: npt.NDArray[np.bool_], found: Records) -> None:
        start = self._conversations.order[1]
        mine = slice(start[conversation], start[conversation + 1])
        self._tunnel[conversation] = tunnel
        self._carries[mine], self._up[mine], self._counter[mine] = found.carries, up, found.counter
        if found.size is not None:
            payload = self._conversations.packets.payload_bytes
            self._size = self._scratch.copy(payload) if self._size is payload else self._size
            self._size[self._conversations.rows_of(conversation)] = found.size

    def table(self) -> RecordTable:
        """In the order of the file."""
        conversations, packets = self._conversations, self._conversations.packets
        count = int(np.count_nonzero(self._carries))
        kinds = (np.int64, np.int32, np.bool_, np.int32, np.int64, np.int32)
        records = _record_kernels.Records(*(self._scratch.empty(count, kind) for kind in kinds))
        _record_kernels.in_order_of_file(
            conversations.flow,
            conversations.order[1],
            self._tunnel,
            self._carries,
            self._up,
            self._counter,
            packets.ts_ns,
            self._size,
            records,
        )
        return RecordTable(*records)
