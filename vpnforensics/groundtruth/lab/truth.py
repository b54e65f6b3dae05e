"""Which client sent each egress flow, from the inner side of the server.

The truth never comes from the correlator, nor from this project's own packet reader. It comes from
captures of the server's tun devices, where the inner address names the client, joined to the egress
capture over what source NAT leaves alone: the remote endpoint and, for TCP, sequence and acknowledgement
numbers, flags and length; for UDP and ICMP, the payload. The kernel's connection-tracking events are a
second, independent account: where the two disagree the flow goes without truth. A relay has no inner
packets: there the kernel's mark, set by the user that owns the socket, is the account.

Weakness: two clients that send the same bytes to the same remote endpoint within a second cannot be
told apart by one packet; a flow's packets vote, and a split vote that the kernel's events do not
settle is not truth.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab.conntrack import Endpoint, Key, Translations

_NS_PER_UNIT = {0xA1B23C4D: 1, 0xA1B2C3D4: 1000}
_ETHERNET = 1
_NEAR_NS = 1_000_000_000
_IDLE_NS = {"tcp": 120_000_000_000, "udp": 30_000_000_000, "icmp": 30_000_000_000}
_ICMP_ERRORS = (3, 4, 5, 11, 12)
_ICMP_ECHO = (0, 8)
_ICMP, _TCP, _UDP = 1, 6, 17
_NAMES = {_ICMP: "icmp", _TCP: "tcp", _UDP: "udp"}
_PORTS = struct.Struct(">HH")
_SEQUENCE = struct.Struct(">IIBB")


@dataclass(frozen=True, slots=True)
class SeenPacket:
    """One IPv4 packet as the truth needs it: near is the client's side, far the Internet's."""

    ts_ns: int
    proto: str
    near: Endpoint
    far: Endpoint
    up: bool
    invariant: tuple[object, ...]
    opens: int | None
    """Initial sequence number of a SYN sent by the near side."""


@dataclass(slots=True)
class EgressFlow:
    """One egress flow and what is known of its sender.

    Parameters
    ----------
    proto, near, far
        Its five-tuple; near is the server's (NATed) endpoint.
    last_ns : int
        Time of its latest packet.
    packets : list of int
        Positions of its packets in the egress capture.
    opens : int or None
        Initial sequence number of its client's SYN.
    votes : Counter of Endpoint
        Inner endpoints that its packets were seen from.
    """

    proto: str
    near: Endpoint
    far: Endpoint
    last_ns: int
    packets: list[int] = field(default_factory=list)
    opens: int | None = None
    votes: Counter[Endpoint] = field(default_factory=Counter)

    @property
    def key(self) -> Key:
        """As connection tracking names it."""
        return self.proto, self.near, self.far


@dataclass(frozen=True, slots=True)
class Egress:
    """The egress capture, cut into flows.

    Parameters
    ----------
    flows : list of EgressFlow
        In order of their first packets.
    packets : int
        All packets of the capture.
    other : list of (int, int, str)
        Position, time and description of those that are no TCP, UDP, ICMP echo or ICMP error.
    matched : int
        Those seen on a tun device too.
    """

    flows: list[EgressFlow]
    packets: int
    other: list[tuple[int, int, str]]
    matched: int


def read_frames(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Time, frame, and whether it is Ethernet (else bare IP), of each packet that tcpdump wrote.

    A dozen lines of its own, as the decoding below: the truth is to owe nothing to the project's reader, and
    general readers take several times as long.
    """
    content = path.read_bytes()
    magic, _, _, _, _, _, linktype = struct.unpack_from("<IHHiIII", content)
    if magic not in _NS_PER_UNIT:
        raise ScenarioError(f"{path.name}: not a capture of this machine's byte order")
    unit_ns = _NS_PER_UNIT[magic]
    at = 24
    while at + 16 <= len(content):
        seconds, fraction, size, _ = struct.unpack_from("<IIII", content, at)
        at += 16 + size
        yield seconds * 10**9 + fraction * unit_ns, content[at - size : at], linktype == _ETHERNET


def read_packets(path: Path, near_prefix: str) -> Iterator[SeenPacket | None]:
    """IPv4 packets of a capture; None for one that is no TCP, UDP, ICMP echo or ICMP error.

    The identifier of an echo stands for its ports; an error has ports 0.

    Parameters
    ----------
    path : Path
        A pcap file, Ethernet or RAW.
    near_prefix : str
        Address prefix, as text, of the near side.
    """
    for ts_ns, frame, ethernet in read_frames(path):
        yield _packet(ts_ns, frame[14:] if ethernet else frame, near_prefix)


def _packet(ts_ns: int, raw: bytes, near_prefix: str) -> SeenPacket | None:
    start = 4 * (raw[0] & 15) if raw else 0
    if start < 20 or len(raw) < start + 8 or raw[6] & 0x1F or raw[7]:  # no ports in a later fragment
        return None
    size, proto = int.from_bytes(raw[2:4], "big"), raw[9]
    source, target = _dotted(raw[12:16]), _dotted(raw[16:20])
    up = source.startswith(near_prefix)
    source_port, target_port = _PORTS.unpack_from(raw, start)
    opens = None
    if proto == _TCP and len(raw) >= start + 20:
        seq, ack, header, flags = _SEQUENCE.unpack_from(raw, start + 4)
        invariant: tuple[object, ...] = (seq, ack, flags, size, size - start - 4 * (header >> 4))
        if up and flags & 0x12 == 0x02:
            opens = seq
    elif proto == _UDP:
        invariant = (size, _digest(raw[start + 8 : size]))
    elif proto == _ICMP and raw[start] in _ICMP_ECHO:
        source_port = target_port = int.from_bytes(raw[start + 4 : start + 6], "big")
        invariant = (size, raw[start], raw[start + 6 : start + 8], _digest(raw[start + 8 : size]))
    elif proto == _ICMP and (quoted := _quoted(raw, up)) is not None:
        source_port = target_port = 0
        invariant = (size, raw[start], raw[start + 1], *quoted)
    else:
        return None
    name = _NAMES[proto]
    near, far = Endpoint(source, source_port), Endpoint(target, target_port)
    if not up:
        near, far = far, near
    # The far port of an echo is its identifier too, which NAT may rewrite: leave it out of the key.
    key = (name, up, far.address, None if proto == _ICMP else far.port, *invariant)
    return SeenPacket(ts_ns, name, near, far, up, key, opens)


@cache
def _dotted(address: bytes) -> str:
    return ".".join(map(str, address))


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=8).digest()


def _quoted(raw: bytes, up: bool) -> tuple[int, int, int] | None:
    """What NAT leaves alone of the packet that an ICMP error quotes: IP ID, length and far port."""
    start = 4 * (raw[0] & 15)
    quote = raw[start + 8 :]
    if raw[start] not in _ICMP_ERRORS or len(quote) < 28:
        return None
    ports = 4 * (quote[0] & 15)
    far = quote[ports : ports + 2] if up else quote[ports + 2 : ports + 4]
    return int.from_bytes(quote[4:6], "big"), int.from_bytes(quote[2:4], "big"), int.from_bytes(far, "big")


def _describe(raw: bytes) -> str:
    """What a packet is that belongs to no conversation."""
    if len(raw) < 20:
        return "cut short"
    if int.from_bytes(raw[6:8], "big") & 0x1FFF:
        return "a later fragment"
    if raw[9] == 1:
        at = 4 * (raw[0] & 15)
        return f"ICMP type {raw[at]} code {raw[at + 1]}, about a flow and no flow itself"
    return f"IP protocol {raw[9]}"


def cut_flows(egress: Path, inner: Sequence[Path], *, public: str, inner_prefix: str) -> Egress:
    """Cut the egress capture into flows and let their packets vote for inner endpoints.

    Parameters
    ----------
    egress : Path
        The Internet-facing capture.
    inner : sequence of Path
        Captures of the server's tun devices.
    public : str
        The server's public address.
    inner_prefix : str
        Prefix of the inner addresses, ``10.8.0.``.
    """
    seen: dict[tuple[object, ...], list[tuple[int, Endpoint]]] = defaultdict(list)
    for path in inner:
        for packet in read_packets(path, inner_prefix):
            if packet is not None and packet.near.address.startswith(inner_prefix):
                seen[packet.invariant].append((packet.ts_ns, packet.near))
    latest: dict[Key, EgressFlow] = {}
    flows: list[EgressFlow] = []
    total = matched = 0
    other: list[tuple[int, int, str]] = []
    for position, (ts_ns, frame, _) in enumerate(read_frames(egress)):
        total += 1
        packet = _packet(ts_ns, frame[14:], public)
        if packet is None:
            other.append((position, ts_ns, _describe(frame[14:])))
            continue
        whos = {who for t, who in seen.get(packet.invariant, ()) if abs(t - packet.ts_ns) <= _NEAR_NS}
        matched += bool(whos)
        key = (packet.proto, packet.near, packet.far)
        flow = latest.get(key)
        if flow is None or _starts_anew(flow, packet, whos):
            flow = EgressFlow(packet.proto, packet.near, packet.far, packet.ts_ns)
            latest[key] = flow
            flows.append(flow)
        flow.opens = packet.opens if packet.opens is not None else flow.opens
        flow.packets.append(position)
        flow.last_ns = packet.ts_ns
        flow.votes.update(whos)
    return Egress(flows, total, other, matched)


def inner_endpoint(flow: EgressFlow, kernel: Translations) -> Endpoint | str:
    """The inner endpoint that sent a flow, or the reason why it is not known."""
    said = kernel.inner.get(flow.key, set())
    leaders = {who for who, n in flow.votes.items() if n == max(flow.votes.values())}
    if len(leaders) > 1 and len(said & leaders) == 1:
        leaders &= said
    if not leaders:
        return "no packet of it was seen on the server's tun device"
    if len(leaders) > 1:
        return f"its packets fit {len(leaders)} inner endpoints equally"
    (leader,) = leaders
    if said and leader not in said:
        return f"packets say {leader}, connection tracking says {', '.join(sorted(map(str, said)))}"
    return leader


def _starts_anew(flow: EgressFlow, packet: SeenPacket, whos: set[Endpoint]) -> bool:
    """Whether the packet belongs to a later flow on the same five-tuple.

    A SYN with another sequence number, a long silence, or another sender behind the NATed port: the kernel
    gives a port to the next client as soon as its translation has run out.
    """
    if packet.opens is not None and flow.opens is not None and packet.opens != flow.opens:
        return True
    if packet.ts_ns - flow.last_ns > _IDLE_NS[flow.proto]:
        return True
    return bool(whos) and bool(flow.votes) and whos.isdisjoint(flow.votes)
