"""Frames on a crafted wire: endpoints, datagrams and TCP connections, built with dpkt."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from dpkt.ethernet import ETH_TYPE_IP, ETH_TYPE_IP6, Ethernet
from dpkt.icmp import ICMP
from dpkt.ip import IP, IP_PROTO_ESP, IP_PROTO_TCP, IP_PROTO_UDP
from dpkt.ip6 import IP6
from dpkt.tcp import TCP, TH_ACK, TH_FIN, TH_PUSH, TH_SYN
from dpkt.udp import UDP

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
_MAC = {True: b"\x02\0\0\0\0\x01", False: b"\x02\0\0\0\0\x02"}
_FULL_SEGMENT = 1400

__all__ = ["IP_PROTO_ESP", "MS", "START_NS", "Connection", "Endpoint", "Packet", "Talk", "Wire"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a port (0 where the protocol has none)."""

    address: str
    port: int = 0

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def packed(self) -> bytes:
        return ip_address(self.address).packed


@dataclass(frozen=True, slots=True)
class Packet:
    """One Ethernet frame at a time in nanoseconds."""

    ts_ns: int
    frame: bytes


class Wire:
    """Where frames are put, in any order; a capture has them in order of time."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)  # of a string: the same on every machine and Python
        self.packets: list[Packet] = []
        self.now_ns = START_NS
        self._ident: dict[str, int] = {}

    def later(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)

    def put(self, src: Endpoint, dst: Endpoint, proto: int, payload: bytes, *, ttl: int = 64) -> None:
        """An IP packet at the present moment, the next one a little later."""
        if ":" in src.address:
            packet = IP6(src=src.packed, dst=dst.packed, nxt=proto, hlim=ttl, plen=len(payload), data=payload)
            kind = ETH_TYPE_IP6
        else:
            ident = self._ident.setdefault(src.address, self.rng.randrange(1, 60000))
            self._ident[src.address] = (ident + 1) % 65536
            packet = IP(
                src=src.packed, dst=dst.packed, p=proto, ttl=ttl, id=ident, df=1, len=20 + len(payload),
                data=payload,
            )  # fmt: skip
            kind = ETH_TYPE_IP
        outward = src.address < dst.address
        frame = Ethernet(src=_MAC[outward], dst=_MAC[not outward], type=kind, data=packet)
        self.packets.append(Packet(self.now_ns, bytes(frame)))
        self.now_ns += self.rng.randrange(20_000, 400_000)

    def udp(self, src: Endpoint, dst: Endpoint, payload: bytes, *, ttl: int = 64) -> None:
        datagram = UDP(sport=src.port, dport=dst.port, ulen=8 + len(payload), data=payload)
        if ":" in src.address:
            datagram.sum = 0xFFFF  # dpkt sums for IPv4 only; RFC 8200, 8.1 wants one that is not zero
        self.put(src, dst, IP_PROTO_UDP, bytes(datagram), ttl=ttl)

    def ping(self, src: Endpoint, dst: Endpoint) -> None:
        """An ICMP echo request: what an ordinary host does beside everything else."""
        self.put(src, dst, 1, bytes(ICMP(type=8, data=ICMP.Echo(id=7, seq=1, data=bytes(32)))))

    def sorted(self) -> list[Packet]:
        return sorted(self.packets, key=lambda packet: packet.ts_ns)


@dataclass
class Talk:
    """Datagrams between a client and a server, of which a capture may see one direction only."""

    wire: Wire
    client: Endpoint
    server: Endpoint
    seen: str = "both"
    """``both``, ``up`` or ``down``."""
    proto: int = IP_PROTO_UDP
    pause_s: tuple[float, float] = (0.002, 0.03)

    def say(self, up: bool, payload: bytes) -> None:
        rng = self.wire.rng
        self.wire.later(rng.uniform(*self.pause_s))
        if self.seen not in ("both", "up" if up else "down"):
            return
        src, dst = (self.client, self.server) if up else (self.server, self.client)
        if self.proto == IP_PROTO_UDP:
            self.wire.udp(src, dst, payload)
        else:
            self.wire.put(src, dst, self.proto, payload)

    def up(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.say(True, payload)

    def down(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.say(False, payload)


class Connection:
    """A TCP connection with timestamps (RFC 9293, RFC 7323), of which a capture may begin in the middle."""

    def __init__(
        self,
        wire: Wire,
        client: Endpoint,
        server: Endpoint,
        *,
        opened: bool = True,
        seen: str = "both",
        pause_s: tuple[float, float] = (0.002, 0.03),
    ) -> None:
        self.wire, self.client, self.server, self.seen, self.pause_s = wire, client, server, seen, pause_s
        self._next = {True: wire.rng.randrange(1 << 31), False: wire.rng.randrange(1 << 31)}
        self._clock = {True: wire.rng.randrange(1 << 30), False: wire.rng.randrange(1 << 30)}
        if opened:
            self._segment(True, TH_SYN)
            self._segment(False, TH_SYN | TH_ACK)
            self._segment(True, TH_ACK)

    def say(self, up: bool, payload: bytes, *, answered: bool = True, full: int = _FULL_SEGMENT) -> None:
        """Some bytes, cut into segments, and their acknowledgement."""
        self.wire.later(self.wire.rng.uniform(*self.pause_s))
        for at in range(0, len(payload), full):
            part = payload[at : at + full]
            self._segment(up, TH_ACK | (TH_PUSH if at + full >= len(payload) else 0), part)
        if answered:
            self._segment(not up, TH_ACK)

    def up(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.say(True, payload)

    def down(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.say(False, payload)

    def close(self) -> None:
        self._segment(True, TH_FIN | TH_ACK)
        self._segment(False, TH_FIN | TH_ACK)
        self._segment(True, TH_ACK)

    def _segment(self, up: bool, flags: int, payload: bytes = b"") -> None:
        ticks = {side: (self._clock[side] + self.wire.now_ns // MS) & 0xFFFFFFFF for side in (True, False)}
        opens = bool(flags & TH_SYN)
        options = b"\x02\x04\x05\xb4" if opens else b""
        options += b"\x01\x01\x08\x0a" + struct.pack(
            ">II", ticks[up], 0 if flags == TH_SYN else ticks[not up]
        )
        src, dst = (self.client, self.server) if up else (self.server, self.client)
        segment = TCP(
            sport=src.port, dport=dst.port, seq=self._next[up], flags=flags, win=65000,
            ack=self._next[not up] if flags & TH_ACK else 0, off=5 + len(options) // 4, opts=options,
            data=payload,
        )  # fmt: skip
        self._next[up] = (self._next[up] + len(payload) + bool(flags & (TH_SYN | TH_FIN))) & 0xFFFFFFFF
        if self.seen in ("both", "up" if up else "down"):
            self.wire.put(src, dst, IP_PROTO_TCP, bytes(segment))
        else:
            self.wire.later(0.0001)


def pcap(
    packets: Iterable[Packet],
    *,
    end: str = "<",
    nanoseconds: bool = False,
    snap: int = 262144,
    linktype: int = 1,
) -> bytes:
    """The classic format (draft-ietf-opsawg-pcap, 4 and 5) in either byte order."""
    magic, tick = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1000)
    parts = [struct.pack(end + "IHHiIII", magic, 2, 4, 0, 0, snap, linktype)]
    for packet in packets:
        seconds, rest = divmod(packet.ts_ns, 1_000_000_000)
        kept = packet.frame[:snap]
        parts.append(struct.pack(end + "IIII", seconds, rest // tick, len(kept), len(packet.frame)) + kept)
    return b"".join(parts)
