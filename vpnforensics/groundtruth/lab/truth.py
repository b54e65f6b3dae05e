"""Which client sent each egress flow, from the inner side of the server.

The truth never comes from the correlator, nor from this project's own packet reader. It comes from a
capture of the server's tun device, where the inner address names the client, joined to the egress capture
over what source NAT leaves alone: the remote endpoint and, for TCP, sequence and acknowledgement
numbers, flags and length; for UDP and ICMP, the payload. The kernel's connection-tracking events are a
second, independent account: where the two disagree the flow goes to ``unattributed``.

Weakness: two clients that send the same bytes to the same remote endpoint within a second cannot be
told apart by one packet; a flow's packets vote, and a split vote that the kernel's events do not
settle is not truth.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import dpkt

_NEAR_NS = 1_000_000_000
_IDLE_NS = {"tcp": 120_000_000_000, "udp": 30_000_000_000, "icmp": 30_000_000_000}
_NAMES = {1: "icmp", 6: "tcp", 17: "udp"}
_PORTS = re.compile(r"src=(\S+) dst=(\S+) (?:sport=(\d+) dport=(\d+)|type=\d+ code=\d+ id=(\d+))")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and port (for ICMP echo, the identifier)."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


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
class TrueFlow:
    """One egress flow and who sent it."""

    proto: str
    near: Endpoint
    far: Endpoint
    first_ns: int
    last_ns: int
    packets: int = 0
    opens: int | None = None
    votes: Counter[Endpoint] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Translation:
    """One connection-tracking event: at the NATed endpoint, who stands behind it."""

    proto: str
    near: Endpoint
    far: Endpoint
    inner: Endpoint


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the egress capture the truth explains."""

    egress_packets: int
    in_true_flows: int
    matched_packets: int
    flows: int
    conntrack_agrees: int
    conntrack_silent: int

    @property
    def share(self) -> float:
        """Share of egress packets that belong to a flow with a truth row."""
        return self.in_true_flows / self.egress_packets if self.egress_packets else 0.0

    def as_dict(self) -> dict[str, object]:
        """For the manifest."""
        return asdict(self) | {"share": round(self.share, 6)}


def read_packets(path: Path, near_prefix: str) -> Iterator[SeenPacket | None]:
    """IPv4 packets of a capture; None for one that is no TCP, UDP or ICMP echo.

    Parameters
    ----------
    path : Path
        A pcap file, Ethernet or RAW.
    near_prefix : str
        Address prefix, as text, of the near side.
    """
    with path.open("rb") as file:
        reader = dpkt.pcap.Reader(file)
        ethernet = reader.datalink() == dpkt.pcap.DLT_EN10MB
        for stamp, frame in reader:
            yield _packet(int(stamp * 10**9), frame[14:] if ethernet else frame, near_prefix)


def _packet(ts_ns: int, raw: bytes, near_prefix: str) -> SeenPacket | None:
    try:
        ip = dpkt.ip.IP(raw)
    except dpkt.UnpackError:
        return None
    source, target = (".".join(map(str, a)) for a in (ip.src, ip.dst))
    up = source.startswith(near_prefix)
    inside = ip.data
    opens = None
    if isinstance(inside, dpkt.tcp.TCP):
        source_port, target_port = inside.sport, inside.dport
        invariant: tuple[object, ...] = (inside.seq, inside.ack, inside.flags, ip.len, len(inside.data))
        if up and inside.flags & 0x12 == 0x02:
            opens = inside.seq
    elif isinstance(inside, dpkt.udp.UDP):
        source_port, target_port = inside.sport, inside.dport
        invariant = (ip.len, hashlib.blake2b(bytes(inside.data), digest_size=8).digest())
    elif isinstance(inside, dpkt.icmp.ICMP) and isinstance(inside.data, dpkt.icmp.ICMP.Echo):
        source_port = target_port = inside.data.id
        body = hashlib.blake2b(bytes(inside.data.data), digest_size=8).digest()
        invariant = (ip.len, inside.type, inside.data.seq, body)
    else:
        return None
    proto = _NAMES[ip.p]
    near, far = Endpoint(source, source_port), Endpoint(target, target_port)
    if not up:
        near, far = far, near
    # The far port of an echo is its identifier too, which NAT may rewrite: leave it out of the key.
    key = (proto, up, far.address, None if proto == "icmp" else far.port, *invariant)
    return SeenPacket(ts_ns, proto, near, far, up, key, opens)


def true_flows(
    egress: Path, inner: Path, *, public: str, inner_prefix: str, conntrack: Path | None
) -> tuple[list[tuple[TrueFlow, Endpoint]], list[tuple[TrueFlow, str]], Coverage]:
    """Join both captures.

    Parameters
    ----------
    egress, inner : Path
        The Internet-facing capture, and the one of the server's tun device.
    public : str
        The server's public address.
    inner_prefix : str
        Prefix of the inner addresses, ``10.8.0.``.
    conntrack : Path or None
        Output of ``conntrack -E -e NEW``, the second account.

    Returns
    -------
    flows : list of (TrueFlow, Endpoint)
        Flows with the inner endpoint that they belong to.
    rest : list of (TrueFlow, str)
        Flows without truth, and why.
    coverage : Coverage
    """
    seen: dict[tuple[object, ...], list[tuple[int, Endpoint]]] = defaultdict(list)
    for packet in read_packets(inner, inner_prefix):
        if packet is not None and packet.near.address.startswith(inner_prefix):
            seen[packet.invariant].append((packet.ts_ns, packet.near))
    open_flows: dict[tuple[str, Endpoint, Endpoint], TrueFlow] = {}
    flows: list[TrueFlow] = []
    total = matched = other = 0
    for packet in read_packets(egress, public):
        total += 1
        if packet is None:
            other += 1
            continue
        whos = {who for t, who in seen.get(packet.invariant, ()) if abs(t - packet.ts_ns) <= _NEAR_NS}
        matched += bool(whos)
        key = (packet.proto, packet.near, packet.far)
        flow = open_flows.get(key)
        if flow is None or _starts_anew(flow, packet, whos):
            flow = TrueFlow(packet.proto, packet.near, packet.far, packet.ts_ns, packet.ts_ns)
            open_flows[key] = flow
            flows.append(flow)
        flow.opens = packet.opens if packet.opens is not None else flow.opens
        flow.packets += 1
        flow.last_ns = packet.ts_ns
        flow.votes.update(whos)
    known = translations(conntrack) if conntrack is not None else {}
    good: list[tuple[TrueFlow, Endpoint]] = []
    rest: list[tuple[TrueFlow, str]] = []
    agrees = silent = 0
    for flow in flows:
        kernel = known.get((flow.proto, flow.near, flow.far), set())
        leaders = [who for who, n in flow.votes.items() if n == max(flow.votes.values())]
        if len(leaders) > 1 and len(kernel & set(leaders)) == 1:
            leaders = list(kernel & set(leaders))
        if not leaders:
            rest.append((flow, "no packet of it was seen on the server's tun device"))
        elif len(leaders) > 1:
            rest.append((flow, f"its packets fit {len(leaders)} inner endpoints equally"))
        elif kernel and leaders[0] not in kernel:
            rest.append(
                (flow, f"packets say {leaders[0]}, connection tracking says {', '.join(map(str, kernel))}")
            )
        else:
            agrees += bool(kernel)
            silent += not kernel
            good.append((flow, leaders[0]))
    covered = sum(flow.packets for flow, _ in good)
    return good, rest, Coverage(total, covered, matched, len(good), agrees, silent)


def _starts_anew(flow: TrueFlow, packet: SeenPacket, whos: set[Endpoint]) -> bool:
    """Whether the packet belongs to a later flow on the same five-tuple.

    A SYN with another sequence number, a long silence, or another sender behind the NATed port: the kernel
    gives a port to the next client as soon as its translation has run out.
    """
    if packet.opens is not None and flow.opens is not None and packet.opens != flow.opens:
        return True
    if packet.ts_ns - flow.last_ns > _IDLE_NS[flow.proto]:
        return True
    return bool(whos) and bool(flow.votes) and whos.isdisjoint(flow.votes)


def translations(path: Path) -> dict[tuple[str, Endpoint, Endpoint], set[Endpoint]]:
    """Inner endpoints by (protocol, NATed endpoint, far endpoint), from connection-tracking events."""
    found: dict[tuple[str, Endpoint, Endpoint], set[Endpoint]] = defaultdict(set)
    for line in path.read_text().splitlines():
        halves = _PORTS.findall(line)
        proto = next((p for p in ("tcp", "udp", "icmp") if f" {p} " in line), None)
        if len(halves) != 2 or proto is None or "[NEW]" not in line:
            continue
        (source, _, sport, _, echo), (far, near, far_port, near_port, reply_echo) = halves
        inner = Endpoint(source, int(sport or echo))
        near_end = Endpoint(near, int(near_port or reply_echo))
        found[proto, near_end, Endpoint(far, int(far_port or reply_echo))].add(inner)
    return found
