"""Frames built by hand, header by header."""

from __future__ import annotations

import ipaddress
import struct

V4 = ("192.0.2.1", "198.51.100.7")
V6 = ("2001:db8::1", "2001:db8:ffff::7")


def ethernet(payload: bytes, ethertype: int = 0x0800, vlans: tuple[int, ...] = ()) -> bytes:
    tags = b"".join(struct.pack(">HH", tpid, 100 + i) for i, tpid in enumerate(vlans))
    return bytes(range(12)) + tags + struct.pack(">H", ethertype) + payload


def ipv4(
    payload: bytes,
    proto: int,
    *,
    src: str = V4[0],
    dst: str = V4[1],
    ident: int = 0x1234,
    flags_offset: int = 0x4000,
    ttl: int = 64,
    tos: int = 0,
    options: bytes = b"",
    total: int | None = None,
) -> bytes:
    ihl = 5 + len(options) // 4
    total = ihl * 4 + len(payload) if total is None else total
    head = struct.pack(">BBHHHBBH", 0x40 | ihl, tos, total, ident, flags_offset, ttl, proto, 0)
    addresses = ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed
    raw = bytearray(head + addresses + options)
    struct.pack_into(">H", raw, 10, checksum(bytes(raw)))
    return bytes(raw) + payload


def ipv6(
    payload: bytes,
    proto: int,
    *,
    src: str = V6[0],
    dst: str = V6[1],
    hops: int = 60,
    traffic_class: int = 0,
    length: int | None = None,
) -> bytes:
    length = len(payload) if length is None else length
    head = struct.pack(">IHBB", 6 << 28 | traffic_class << 20 | 0xABCDE, length, proto, hops)
    return head + ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed + payload


def tcp(
    payload: bytes = b"",
    *,
    sport: int = 40000,
    dport: int = 443,
    seq: int = 0x11223344,
    ack: int = 0x55667788,
    flags: int = 0x18,
    window: int = 502,
    options: bytes = b"",
    offset: int | None = None,
    check: int = 0xBEEF,
) -> bytes:
    offset = 5 + len(options) // 4 if offset is None else offset
    return (
        struct.pack(">HHIIHHHH", sport, dport, seq, ack, offset << 12 | flags, window, check, 0)
        + options
        + payload
    )


def timestamps(tsval: int, tsecr: int) -> bytes:
    return b"\x01\x01\x08\x0a" + struct.pack(">II", tsval, tsecr)


def syn_options(mss: int, tsval: int) -> bytes:
    return (
        struct.pack(">BBH", 2, 4, mss)
        + b"\x04\x02\x08\x0a"
        + struct.pack(">II", tsval, 0)
        + b"\x01\x03\x03\x07"
    )


def udp(
    payload: bytes = b"",
    *,
    sport: int = 50000,
    dport: int = 51820,
    length: int | None = None,
    check: int = 0xCAFE,
) -> bytes:
    length = 8 + len(payload) if length is None else length
    return struct.pack(">HHHH", sport, dport, length, check) + payload


def icmp(kind: int = 8, code: int = 0, ident: int = 0x4242, payload: bytes = b"ping") -> bytes:
    return struct.pack(">BBHHH", kind, code, 0xD00D, ident, 1) + payload


def quotes(version: int) -> list[bytes]:
    """Packets that an ICMP error may quote: with ports, an identifier, neither, cut."""
    if version == 6:
        return [ipv6(udp(sport=53, dport=40_003), 17), ipv6(icmp(128, ident=0x4321), 58), ipv6(b"", 59), b""]
    return [
        ipv4(udp(sport=53, dport=40_001), 17),
        ipv4(tcp(sport=443, dport=40_002), 6, options=b"\x01" * 4)[:32],
        ipv4(icmp(ident=0x4321), 1),
        ipv4(udp(sport=53, dport=40_001), 17, flags_offset=0x00B9),
        ipv4(udp(sport=53, dport=40_001), 17)[:23],
        ipv4(b"unknown transport", 253),
        b"\x42" + bytes(40),
        b"",
    ]


def labels(*values: int) -> bytes:
    """MPLS labels, the last with the bottom of the stack."""
    bottom = [0] * (len(values) - 1) + [0x100]
    return b"".join(
        struct.pack(">I", value << 12 | last | 64) for value, last in zip(values, bottom, strict=True)
    )


def extension(following: int, body_bytes: int = 6) -> bytes:
    """Hop-by-hop, routing or destination options of 8 n bytes, filled with PadN."""
    assert (body_bytes + 2) % 8 == 0
    padding = bytes([1, body_bytes - 2]) + bytes(body_bytes - 2)
    return bytes([following, (body_bytes + 2) // 8 - 1]) + padding


def fragment(following: int, offset: int, more: bool, ident: int = 0x01020304) -> bytes:
    return struct.pack(">BBHI", following, 0, offset << 3 | more, ident)


def authentication(following: int, icv_bytes: int = 12) -> bytes:
    return struct.pack(">BBHII", following, (12 + icv_bytes) // 4 - 2, 0, 0x77, 1) + bytes(icv_bytes)


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def variety() -> list[bytes]:
    """Ethernet frames of every kind that is decoded, each sound."""
    body = bytes(range(64))
    gre = b"\x00\x00\x08\x00" + ipv4(udp(b"inner"), 17)
    esp = struct.pack(">II", 0xC0FFEE01, 7) + body
    return [
        ethernet(ipv4(tcp(options=syn_options(1460, 1000), flags=2, ack=0), 6, ident=0)),
        ethernet(ipv4(tcp(body, options=timestamps(1234, 5678)), 6)),
        ethernet(ipv4(tcp(b"x", flags=0x1FF), 6, tos=0xB9, ttl=1)),
        ethernet(ipv4(tcp(b"sack", options=b"\x01\x01\x05\x0a" + bytes(8) + timestamps(9, 8)), 6)),
        ethernet(ipv4(udp(body), 17, flags_offset=0)),
        ethernet(ipv4(udp(b""), 17, options=b"\x94\x04\x00\x00")) + bytes(18),
        ethernet(ipv4(icmp(), 1)),
        ethernet(ipv4(icmp(3, 4), 1)),
        *(ethernet(ipv4(icmp(3, 3, 0, quoted), 1)) for quoted in quotes(4)),
        ethernet(ipv4(esp, 50)),
        ethernet(ipv4(gre, 47)),
        ethernet(ipv4(b"unknown transport", 253)),
        ethernet(ipv4(authentication(17) + udp(body), 51)),
        ethernet(ipv4(udp(body, length=1500), 17, flags_offset=0x2000)),
        ethernet(ipv4(body, 17, flags_offset=0x00B9)),
        ethernet(ipv4(tcp(body, options=timestamps(1, 2)), 6), vlans=(0x8100,)),
        ethernet(ipv4(udp(body), 17), vlans=(0x88A8, 0x8100)),
        ethernet(ipv4(udp(body), 17), vlans=(0x9100, 0x8100, 0x8100)),
        ethernet(ipv6(tcp(body, options=timestamps(1 << 31, 0xFFFFFFFF)), 6), 0x86DD),
        ethernet(ipv6(udp(body), 17, traffic_class=0xB9), 0x86DD),
        ethernet(ipv6(icmp(128), 58), 0x86DD),
        *(ethernet(ipv6(icmp(1, 4, 0, quoted), 58), 0x86DD) for quoted in quotes(6)),
        ethernet(ipv6(esp, 50), 0x86DD),
        ethernet(ipv6(extension(60) + extension(43, 14) + extension(17) + udp(body), 0), 0x86DD),
        ethernet(ipv6(authentication(6) + tcp(body), 51), 0x86DD),
        ethernet(ipv6(fragment(17, 0, True) + udp(body, length=3000), 44), 0x86DD),
        ethernet(ipv6(fragment(17, 100, False) + body, 44), 0x86DD),
        ethernet(ipv6(fragment(6, 0, False) + tcp(body), 44), 0x86DD),
        ethernet(b"", 59),
        ethernet(b"\x11\x00\x00\x01\x00\x2a\x00\x21" + ipv4(udp(b"pppoe"), 17), 0x8864),
        ethernet(labels(16, 17) + ipv4(udp(b"label"), 17), 0x8847),
        ethernet(labels(3) + ipv6(udp(b"label"), 17), 0x8848, vlans=(0x8100,)),
        ethernet(b"\x00\x01\x08\x00\x06\x04\x00\x01" + bytes(20), 0x0806),
    ]


def pseudowires() -> list[bytes]:
    """Ethernet under a label, with a control word and without: nothing in the frame says which."""
    return [
        ethernet(labels(18) + bytes(4) + ethernet(ipv4(udp(b"wire"), 17), vlans=(0x8100,)), 0x8847),
        ethernet(labels(18) + b"\x52" + ethernet(ipv4(udp(b"wire"), 17))[1:], 0x8847),
    ]
