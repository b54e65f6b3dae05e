"""Frames inside of other frames, as taps send them to a collector."""

from __future__ import annotations

import struct
from collections.abc import Callable

from . import frames

TAP, COLLECTOR = "198.18.0.1", "198.18.0.2"
Wrap = Callable[[bytes], bytes]
"""An Ethernet frame to the frame that a tap sends."""


def _outer(body: bytes, proto: int = 17, src: str = TAP, dst: str = COLLECTOR) -> bytes:
    return frames.ethernet(frames.ipv4(body, proto, src=src, dst=dst, ident=0))


def vxlan(frame: bytes, src: str = TAP, dst: str = COLLECTOR, port: int = 4789) -> bytes:
    return _outer(frames.udp(b"\x08\0\0\0\0\0\x2a\0" + frame, dport=port, check=0), src=src, dst=dst)


def vxlan_linux(frame: bytes) -> bytes:
    return vxlan(frame, port=8472)


def vxlan_with_policy(frame: bytes) -> bytes:
    return _outer(frames.udp(b"\x88\0\0\7\0\0\x2a\0" + frame, dport=4789, check=0))


def vxlan_over_ipv6(frame: bytes) -> bytes:
    body = frames.udp(b"\x08\0\0\0\0\0\x2a\0" + frame, dport=4789)
    return frames.ethernet(frames.ipv6(body, 17), 0x86DD, vlans=(0x8100,))


def geneve(frame: bytes) -> bytes:
    options = b"\1\2\3\1abcd" + b"\1\2\4\0"
    return _outer(frames.udp(b"\3\0\x65\x58\0\0\x2a\0" + options + frame, dport=6081, check=0))


def geneve_of_ip(frame: bytes) -> bytes:
    return _outer(frames.udp(b"\0\x40" + frame[12:14] + b"\0\0\x2a\0" + frame[14:], dport=6081))


def gre_of_ip(frame: bytes) -> bytes:
    return _outer(b"\0\0" + frame[12:14] + frame[14:], 47)


def gre_of_labels(frame: bytes) -> bytes:
    return _outer(b"\0\0\x88\x47" + frames.labels(16) + frame[14:], 47)


def gre_of_ethernet(frame: bytes) -> bytes:
    return _outer(b"\xb0\0\x65\x58" + bytes(4) + b"\0\0\0\7" + b"\0\0\0\1" + frame, 47)


def erspan_1(frame: bytes) -> bytes:
    return _outer(b"\0\0\x88\xbe" + frame, 47)


def erspan_2(frame: bytes) -> bytes:
    return _outer(b"\x10\0\x88\xbe\0\0\0\1" + b"\x10\x64\0\1\0\0\0\2" + frame, 47)


def erspan_3(frame: bytes) -> bytes:
    return _outer(b"\x10\0\x22\xeb\0\0\0\1" + b"\x20\x64\0\1\0\0\0\2\0\0\0\0" + frame, 47)


def erspan_3_with_platform(frame: bytes) -> bytes:
    return _outer(b"\x10\0\x22\xeb\0\0\0\1" + b"\x20\x64\0\1\0\0\0\2\0\0\0\1" + bytes(8) + frame, 47)


def erspan_3_of_ip(frame: bytes) -> bytes:
    return _outer(b"\x10\0\x22\xeb\0\0\0\1" + b"\x20\x64\0\1\0\0\0\2\0\0\x08\0" + frame[14:], 47)


def gtpu(frame: bytes, src: str = TAP, dst: str = COLLECTOR) -> bytes:
    head = struct.pack(">BBHI", 0x30, 255, len(frame) - 14, 0xBEEF)
    return _outer(frames.udp(head + frame[14:], dport=2152), src=src, dst=dst)


def gtpu_with_extensions(frame: bytes) -> bytes:
    head = struct.pack(">BBHIHBB", 0x36, 255, len(frame) - 14 + 16, 0xBEEF, 7, 0, 0x85)
    head += b"\1\0\5\xc0" + b"\2" + bytes(6) + b"\0"
    return _outer(frames.udp(head + frame[14:], dport=2152))


EVERY: tuple[tuple[str, Wrap], ...] = (
    ("vxlan", vxlan),
    ("vxlan", vxlan_linux),
    ("vxlan", vxlan_with_policy),
    ("vxlan", vxlan_over_ipv6),
    ("geneve", geneve),
    ("geneve", geneve_of_ip),
    ("gre", gre_of_ip),
    ("gre", gre_of_ethernet),
    ("gre", gre_of_labels),
    ("erspan", erspan_1),
    ("erspan", erspan_2),
    ("erspan", erspan_3),
    ("erspan", erspan_3_with_platform),
    ("erspan", erspan_3_of_ip),
    ("gtpu", gtpu),
    ("gtpu", gtpu_with_extensions),
)
"""Name of the encapsulation, and each way to write it."""
