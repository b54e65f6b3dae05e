"""The case of three WireGuard clients as taps and mirrors deliver it: every packet wrapped, or seen twice."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

from dpkt.ip import IP, IP_PROTO_GRE

from tests.corpus.clocks import case
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import Endpoint, Packet, Wire, pcap

_MIRROR, _COLLECTOR = Endpoint("192.0.2.200", 49500), Endpoint("192.0.2.201")
_ETHERNET = 14
Wrap = Callable[[Packet, int], bytes]
"""A frame, and which it is, to the frame that is captured."""


def _in_udp(port: int, head: Callable[[Packet, int], bytes], *, ethernet: bool = True) -> Wrap:
    def wrap(packet: Packet, number: int) -> bytes:
        wire = Wire("mirror")
        inner = packet.frame if ethernet else packet.frame[_ETHERNET:]
        source = Endpoint(_MIRROR.address, _MIRROR.port + number % 7)  # by a hash of the inner flow
        wire.udp(source, Endpoint(_COLLECTOR.address, port), head(packet, number) + inner)
        return wire.packets[0].frame

    return wrap


def _in_gre(head: Callable[[Packet, int], bytes], *, ethernet: bool = True) -> Wrap:
    def wrap(packet: Packet, number: int) -> bytes:
        wire = Wire("mirror")
        inner = packet.frame if ethernet else packet.frame[_ETHERNET:]
        wire.put(_MIRROR, _COLLECTOR, IP_PROTO_GRE, head(packet, number) + inner)
        return wire.packets[0].frame

    return wrap


def _after_addresses(inserted: Callable[[Packet], bytes]) -> Wrap:
    """Something between the Ethernet addresses and the IP packet."""
    return lambda packet, _: packet.frame[:12] + inserted(packet) + packet.frame[_ETHERNET:]


def _gtp(packet: Packet, number: int) -> bytes:
    return struct.pack(">BBHI", 0x30, 255, len(packet.frame) - _ETHERNET, 0xBEEF)


def _pppoe(packet: Packet) -> bytes:
    return b"\x88\x64\x11\0\0\x07" + struct.pack(">H", len(packet.frame) - _ETHERNET + 2) + b"\0\x21"


_WRAPS: dict[str, Wrap] = {
    # RFC 7348, 5
    "vxlan": _in_udp(4789, lambda p, n: b"\x08\0\0\0\0\0\x2a\0"),
    # RFC 8926, 3.4; with an option of 4 + 4 bytes
    "geneve": _in_udp(6081, lambda p, n: b"\x02\0\x65\x58\0\0\x2a\0\1\2\x80\1\0\0\0\0"),
    # TS 29.281, 5.1
    "gtp-u": _in_udp(2152, _gtp, ethernet=False),
    # RFC 2784, 2 with IPv4 inside, and with Ethernet inside (0x6558) and a key (RFC 2890, 2)
    "gre": _in_gre(lambda p, n: b"\0\0\x08\0", ethernet=False),
    "gre-ethernet": _in_gre(lambda p, n: b"\x20\0\x65\x58\0\0\0\7"),
    # draft-foschiano-erspan, 4.1 to 4.3
    "erspan-1": _in_gre(lambda p, n: b"\0\0\x88\xbe"),
    "erspan-2": _in_gre(lambda p, n: b"\x10\0\x88\xbe" + struct.pack(">IHHI", n, 0x1001, 0x0064, 0)),
    "erspan-3": _in_gre(lambda p, n: b"\x10\0\x22\xeb" + struct.pack(">IHHIHH", n, 0x2001, 0x0064, n, 0, 0)),
    # RFC 3032, 2.1: two labels, the lower one with the bottom-of-stack bit
    "mpls": _after_addresses(lambda p: b"\x88\x47\0\x06\x40\x40\0\x0c\x81\x40"),
    # RFC 2516, 4, and PPP's number of IPv4
    "pppoe": _after_addresses(_pppoe),
    # IEEE 802.1Q: a service tag and a customer's
    "vlan": _after_addresses(lambda p: b"\x88\xa8\0\x64\x81\0\0\x07\x08\0"),
}


def _wrapped(wrap: Wrap) -> Callable[[list[Packet]], bytes]:
    return lambda packets: pcap([replace(p, frame=wrap(p, n)) for n, p in enumerate(packets)])


def _twice(change: Callable[[Packet], Packet]) -> Callable[[list[Packet]], bytes]:
    def write(packets: list[Packet]) -> bytes:
        return pcap(sorted([*packets, *map(change, packets)], key=lambda p: p.ts_ns))

    return write


def _one_hop_later(packet: Packet) -> Packet:
    """The same IP packet behind a router: its time to live is less by one (RFC 1812, 5.3.1)."""
    inner = IP(packet.frame[_ETHERNET:])
    inner.ttl -= 1
    inner.sum = 0
    return Packet(packet.ts_ns + 40_000, packet.frame[:_ETHERNET] + bytes(inner))


def _headed(linktype: int, head: Callable[[Packet], bytes]) -> Callable[[list[Packet]], bytes]:
    """Another link layer's header in place of Ethernet's."""

    def write(packets: list[Packet]) -> bytes:
        return pcap([replace(p, frame=head(p) + p.frame[_ETHERNET:]) for p in packets], linktype=linktype)

    return write


def _cooked(packet: Packet) -> bytes:
    """LINKTYPE_LINUX_SLL (https://www.tcpdump.org/linktypes/)."""
    return b"\0\0\0\1\0\6" + packet.frame[6:12] + b"\0\0\x08\0"


def _cooked_2(packet: Packet) -> bytes:
    """LINKTYPE_LINUX_SLL2: protocol, reserved, interface, ARPHRD type, packet type, address."""
    return b"\x08\0\0\0\0\0\0\2\0\1\0\6" + packet.frame[6:12] + b"\0\0"


_LINKS = {
    "linux-cooked": (113, _cooked),
    "linux-cooked-2": (276, _cooked_2),
    "raw-ip": (101, lambda p: b""),
    "bsd-loopback": (0, lambda p: struct.pack("<I", 2)),
}


def specimens() -> Iterator[Specimen]:
    for name, wrap in _WRAPS.items():
        yield _case(f"tap-{name}").done(_wrapped(wrap))
    yield _case("tap-vxlan-of-both", apart=True).done(_wrapped(_WRAPS["vxlan"]))
    yield _case("tap-seen-twice").done(_twice(lambda p: replace(p, ts_ns=p.ts_ns + 3_000)))
    yield _case("tap-one-hop-later").done(_twice(_one_hop_later))
    yield _case("tap-one-hop-later-of-ingress", apart=True).done(_twice(_one_hop_later), write_outside=pcap)
    for name, (linktype, head) in _LINKS.items():
        yield _case(f"link-{name}").done(_headed(linktype, head))


def _case(name: str, *, apart: bool = False) -> Draft:
    return case(name, "tapped", apart=apart)
