"""Which outer conversations are tunnels, and the records inside them.

Recognition looks at the first datagrams of each conversation; records are then taken from all of them,
one protocol at a time. What no protocol claims stays a *candidate*: it becomes a tunnel only where a
length map learned from the case proves that it carries the egress traffic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import PROTO_ESP, PROTO_TCP, PROTO_UDP, PacketTable
from vpnforensics.tunnels import dtls, esp, nebula, openvpn, tinc, unknown, wireguard
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import Datagrams, Recognition, VpnProtocol

PROTOCOLS: Mapping[str, VpnProtocol] = MappingProxyType(
    {
        module.name: cast(VpnProtocol, module)
        for module in (wireguard, openvpn, esp, nebula, dtls, tinc, unknown)
    }
)
SURE = 0.5
_SAMPLE_DATAGRAMS = 400
_TRANSPORTS = {PROTO_UDP: "udp", PROTO_TCP: "tcp", PROTO_ESP: "esp"}
_TLS_HANDSHAKE, _TINC_GREETING = 22, b"0 "


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One client endpoint's outer association with a VPN server."""

    client: str
    server: str
    transport: str
    protocol: str
    variant: str
    confidence: float
    first_ns: int
    last_ns: int
    packets_up: int
    packets_down: int
    """All outer packets of the direction: records, handshakes and keep-alives."""
    length_maps: tuple[LengthMap, ...]
    """Maps the protocol may have, likeliest first; empty where one has to be learned."""
    conversation: int
    """Its number in the ingress FlowTable."""

    @property
    def sure(self) -> bool:
        """True for a recognised tunnel, False for a candidate."""
        return self.confidence >= SURE


@dataclass(frozen=True, eq=False)
class RecordTable:
    """Records (outer packets that carry one inner packet each) of all tunnels, in order of time."""

    ts_ns: npt.NDArray[np.int64]
    tunnel: npt.NDArray[np.int32]
    up: npt.NDArray[np.bool_]
    size: npt.NDArray[np.int32]
    """Outer payload bytes, the length map's range."""
    counter: npt.NDArray[np.int64]
    """Clear tunnel counter, or -1."""
    row: npt.NDArray[np.int64]
    """Row of the outer packet in the ingress PacketTable."""

    def __len__(self) -> int:
        return len(self.ts_ns)

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> RecordTable:
        """The records at ``index``."""
        return RecordTable(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class TunnelSet:
    """The tunnels and candidates of an ingress capture, with their records."""

    tunnels: tuple[Tunnel, ...]
    records: RecordTable
    plain: npt.NDArray[np.int64]
    """Conversations that are neither tunnel nor candidate, by number in the FlowTable."""

    def __len__(self) -> int:
        return len(self.tunnels)

    def select(self, keep: npt.NDArray[np.bool_]) -> TunnelSet:
        """The tunnels where ``keep`` is true, renumbered, with their records."""
        number = np.cumsum(keep) - 1
        records = self.records.take(keep[self.records.tunnel])
        records = replace(records, tunnel=number[records.tunnel].astype(np.int32))
        dropped = [t.conversation for t, kept in zip(self.tunnels, keep, strict=True) if not kept]
        return TunnelSet(
            tuple(t for t, kept in zip(self.tunnels, keep, strict=True) if kept),
            records,
            np.sort(np.concatenate([self.plain, np.array(dropped, np.int64)])),
        )

    def to_pandas(self) -> pd.DataFrame:
        """One row a tunnel or candidate."""
        columns = ("client", "server", "transport", "protocol", "variant", "confidence", "first_ns", "last_ns", "packets_up", "packets_down")  # fmt: skip
        frame = pd.DataFrame([[getattr(t, c) for c in columns] for t in self.tunnels], columns=columns)
        frame["length_map"] = [
            str(t.length_maps[0]) if t.length_maps else "to be learned" for t in self.tunnels
        ]
        frame.insert(0, "id", [f"t{n + 1}" for n in range(len(self.tunnels))])
        return frame

    def __repr__(self) -> str:
        sure = sum(t.sure for t in self.tunnels)
        return f"TunnelSet({sure} tunnels, {len(self) - sure} candidates, {len(self.records):,} records)"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{self.to_pandas().to_html(index=False)}"


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
    packets = conversations.packets
    tcp_pairs = _tcp_services(conversations)
    degree = _degrees(conversations)
    tunnels: list[Tunnel] = []
    claimed: dict[str, list[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.bool_]]]] = {}
    plain: list[int] = []
    for number in range(len(conversations)):
        total = int(conversations.packets_up[number] + conversations.packets_down[number])
        if conversations.proto[number] not in (PROTO_UDP, PROTO_ESP) or total < 2:
            plain.append(number)
            continue
        rows = conversations.rows_of(number)
        sample = _datagrams(packets, conversations, number, rows[:_SAMPLE_DATAGRAMS])
        protocol, recognition = _recognise(sample, conversations, number, tcp_pairs)
        if recognition is None:
            plain.append(number)
            continue
        keep_direction = _client_is_src(conversations, number, protocol, recognition, degree)
        up = conversations.up[rows] == keep_direction
        datagrams = _datagrams(packets, conversations, number, rows)
        src, dst = conversations.source(number), conversations.destination(number)
        claimed.setdefault(protocol.name, []).append((len(tunnels), rows, up))
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
                packets_up=int(up.sum()),
                packets_down=int((~up).sum()),
                length_maps=protocol.length_maps(datagrams, recognition.variant),
                conversation=number,
            )
        )
    return TunnelSet(tuple(tunnels), _records(packets, claimed), np.array(plain, np.int64))


def _datagrams(
    packets: PacketTable, conversations: FlowTable, number: int, rows: npt.NDArray[np.int64]
) -> Datagrams:
    return Datagrams(
        packets.payload_bytes[rows],
        packets.head[rows],
        conversations.up[rows],
        int(conversations.proto[number]),
        (int(conversations.sport[number]), int(conversations.dport[number])),
    )


def _recognise(
    sample: Datagrams,
    conversations: FlowTable,
    number: int,
    tcp_services: dict[tuple[int, int, int], bytes],
) -> tuple[VpnProtocol, Recognition | None]:
    """The protocol that is surest of a conversation."""
    best: tuple[VpnProtocol, Recognition | None] = (PROTOCOLS["unknown"], None)
    for protocol in PROTOCOLS.values():
        found = protocol.recognise(sample)
        if found is not None and (best[1] is None or found.confidence > best[1].confidence):
            best = (protocol, found)
    if best[1] is None:
        return best
    beside = tcp_services.get(_service(conversations, number, reverse=False)) or tcp_services.get(
        _service(conversations, number, reverse=True)
    )
    if beside and best[0].name == "dtls" and beside[0] == _TLS_HANDSHAKE:
        return best[0], replace(best[1], confidence=0.9)
    if beside and beside.startswith(_TINC_GREETING) and best[0].name in ("unknown", "tinc"):
        return PROTOCOLS["tinc"], replace(best[1], confidence=0.95)
    return best


def _service(conversations: FlowTable, number: int, *, reverse: bool) -> tuple[int, int, int]:
    """Client address, server address and server port of a conversation."""
    src, dst = int(conversations.src[number]), int(conversations.dst[number])
    if reverse:
        return dst, src, int(conversations.sport[number])
    return src, dst, int(conversations.dport[number])


def _tcp_services(conversations: FlowTable) -> dict[tuple[int, int, int], bytes]:
    """First payload bytes of the TCP sessions, by client, server and server port."""
    services: dict[tuple[int, int, int], bytes] = {}
    packets = conversations.packets
    for number in np.flatnonzero(conversations.proto == PROTO_TCP):
        rows = conversations.rows_of(int(number))[:12]
        spoken = rows[packets.payload_bytes[rows] > 0]
        if len(spoken):
            services[_service(conversations, int(number), reverse=False)] = packets.head[spoken[0]].tobytes()
    return services


def _degrees(conversations: FlowTable) -> dict[tuple[int, int], int]:
    """In how many conversations each endpoint (address, port) takes part: a server's in many."""
    datagram = (conversations.proto == PROTO_UDP) | (conversations.proto == PROTO_ESP)
    degree: dict[tuple[int, int], int] = {}
    for addresses, ports in (
        (conversations.src, conversations.sport),
        (conversations.dst, conversations.dport),
    ):
        for endpoint in zip(addresses[datagram].tolist(), ports[datagram].tolist(), strict=True):
            degree[endpoint] = degree.get(endpoint, 0) + 1
    return degree


def _client_is_src(
    conversations: FlowTable,
    number: int,
    protocol: VpnProtocol,
    recognition: Recognition,
    degree: dict[tuple[int, int], int],
) -> bool:
    """Which end is the VPN client: by who is shared, by the protocol's port, by who opened."""
    src = (int(conversations.src[number]), int(conversations.sport[number]))
    dst = (int(conversations.dst[number]), int(conversations.dport[number]))
    if degree[src] != degree[dst]:
        return degree[src] < degree[dst]
    if (src[1] in protocol.server_ports) != (dst[1] in protocol.server_ports):
        return dst[1] in protocol.server_ports
    first_from_src = bool(conversations.up[conversations.rows_of(number)[0]])
    if recognition.client_first is not None:
        return recognition.client_first == first_from_src
    return True


def _records(
    packets: PacketTable,
    claimed: dict[str, list[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.bool_]]]],
) -> RecordTable:
    """Records of all tunnels, merged in order of time (ties: order of the file)."""
    parts: list[RecordTable] = []
    for protocol, members in claimed.items():
        for tunnel, rows, up in members:
            datagrams = Datagrams(packets.payload_bytes[rows], packets.head[rows], up, 0, (0, 0))
            found = PROTOCOLS[protocol].records(datagrams)
            kept = rows[found.carries]
            parts.append(
                RecordTable(
                    packets.ts_ns[kept],
                    np.full(len(kept), tunnel, np.int32),
                    up[found.carries],
                    packets.payload_bytes[kept],
                    found.counter[found.carries],
                    kept,
                )
            )
    if not parts:
        none = np.zeros(0, np.int64)
        return RecordTable(
            none, none.astype(np.int32), none.astype(np.bool_), none.astype(np.int32), none, none
        )
    merged = RecordTable(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in RecordTable.__dataclass_fields__)
    )
    return merged.take(np.lexsort((merged.row, merged.ts_ns)))
