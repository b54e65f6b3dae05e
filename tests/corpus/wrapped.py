"""Encapsulations that hold packets in clear: no VPN, as nothing is encrypted."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.corpus.inner import browse
from tests.corpus.ordinary import talk, written
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import Wire


def _inner(draft: Draft) -> list[tuple[bool, bytes]]:
    """Ethernet frames of somebody's browsing, and whether they go up."""
    wire = Wire(draft.name + ", inner")
    browse(wire, 40000)
    browse(wire, 40002)
    return [(packet.frame[26:30] == b"\xcb\0\x71\1", packet.frame) for packet in wire.packets]


def vxlan_between_hosts(draft: Draft) -> None:
    """Flags with the I bit, and a network identifier (RFC 7348, 5), beside traffic that is not wrapped."""
    line = talk(draft, 4789)
    for up, frame in _inner(draft):
        line.say(up, b"\x08\0\0\0\0\0\x2a\0" + frame)
    browse(draft.wire, 45000)


def geneve(draft: Draft) -> None:
    """Version and options, protocol type 0x6558, a network identifier (RFC 8926, 3.4)."""
    line = talk(draft, 6081)
    for up, frame in _inner(draft):
        line.say(up, b"\0\0\x65\x58\0\0\x2a\0" + frame)
    browse(draft.wire, 45000)


def gtp_u(draft: Draft) -> None:
    """G-PDU: flags, type 255, length, the tunnel's endpoint (TS 29.281, 5.1), with a sequence number."""
    line = talk(draft, 2152, here=2152)
    for number, (up, frame) in enumerate(_inner(draft)):
        packet = frame[14:]
        line.say(
            up,
            struct.pack(">BBHIHBB", 0x32, 255, len(packet) + 4, 0xBEEF if up else 0xCAFE, number, 0, 0)
            + packet,
        )
    browse(draft.wire, 45000)


def gtp_u_echo(draft: Draft) -> None:
    line = talk(draft, 2152, here=2152)
    for number in range(14):
        line.up(struct.pack(">BBHIHBB", 0x32, 1, 4, 0, number, 0, 0))
        line.down(struct.pack(">BBHIHBB", 0x32, 2, 6, 0, number, 0, 0) + b"\x0e\0")


def l2tp(draft: Draft) -> None:
    """Control messages, then PPP in data messages: flags, tunnel and session ids (RFC 2661, 3.1)."""
    line = talk(draft, 1701, here=1701)
    for number in range(4):
        line.say(
            number % 2 == 0,
            struct.pack(">HHHHHH", 0xC802, 20, 7, 0, number // 2, number // 2) + b"\x80\x08\0\0\0\0\0\1",
        )
    for up, frame in _inner(draft):
        line.say(up, struct.pack(">HHHH", 0x0002, 7 if up else 9, 1, 0xFF03) + b"\0\x21" + frame[14:])
    browse(draft.wire, 45000)


def teredo(draft: Draft) -> None:
    """IPv6 in UDP (RFC 4380, 2.8): bubbles, and an ICMPv6 echo."""
    line, rng = talk(draft, 3544), draft.wire.rng
    here = b"\x20\1\0\0" + bytes([203, 0, 113, 77]) + rng.randbytes(8)
    there = b"\x20\1\x0d\xb8" + rng.randbytes(12)
    for number in range(24):
        up = number % 2 == 0
        body = b"\x80\0\0\0" + struct.pack(">HH", 1, number) + bytes(32)
        head = struct.pack(">IHBB", 0x60000000, len(body), 58, 21) + (here + there if up else there + here)
        line.say(up, head + body)


def capwap_data(draft: Draft) -> None:
    """Access points' frames in clear (RFC 5415, 4.3): header length, radio, fragment number."""
    line = talk(draft, 5247)
    for number, (up, frame) in enumerate(_inner(draft)):
        line.say(up, b"\0\x20\3\x20" + struct.pack(">HH", number, 0) + frame)


def specimens() -> Iterator[Specimen]:
    yield from written("wrapped", vxlan_between_hosts, geneve, gtp_u, gtp_u_echo, l2tp, teredo, capwap_data)
