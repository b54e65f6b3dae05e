"""The record walkers once more, slow and obvious, with exact rational times."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction

MAX_BLOCK = 1 << 20
LAST_SECOND = 9_223_372_035


@dataclass
class Walk:
    """Records as (offset, captured, wire, ns or None, interface), and how it ended."""

    records: list[tuple[int, int, int, int | None, int]] = field(default_factory=list)
    linktypes: list[int] = field(default_factory=list)
    damaged: int = 0
    unknown: int = 0
    stopped_at: int = -1
    cut_tail: int = 0


def walk_pcap(raw: bytes) -> Walk:
    walk = Walk()
    order = ">" if raw[:1] == b"\xa1" else "<"
    magic, *_, snaplen, _network = struct.unpack_from(order + "IHHiIII", raw)
    tick_ns = 1 if magic == 0xA1B23C4D else 1000
    head = 24 if magic == 0xA1B2CD34 else 16
    limit = min(max(snaplen, 262144), MAX_BLOCK - 64)
    at = 24
    while len(raw) - at >= head:
        seconds, ticks, captured, wire = struct.unpack_from(order + "IIII", raw, at)
        if captured > limit:
            walk.damaged, walk.stopped_at = 1, at
            break
        if len(raw) - at - head < captured:
            break
        ns = seconds * 10**9 + ticks * tick_ns
        walk.records.append((at + head, captured, max(captured, min(wire, 2**31 - 1)), ns, 0))
        at += head + captured
    walk.cut_tail = len(raw) - at
    return walk


@dataclass
class Interface:
    linktype: int
    snaplen: int
    resolution: int = 6
    offset_s: int = 0

    def ns(self, ticks: int) -> int | None:
        exponent = self.resolution & 0x7F
        base = 2 if self.resolution & 0x80 else 10
        total = Fraction(ticks * 10**9, base**exponent)
        ns = total.numerator // total.denominator
        seconds = ns // 10**9
        if seconds > LAST_SECOND or abs(self.offset_s) > LAST_SECOND:
            return None
        if seconds + self.offset_s > LAST_SECOND:
            return None
        return ns + self.offset_s * 10**9


def walk_pcapng(raw: bytes) -> Walk:
    walk = Walk()
    order = "<"
    interfaces: list[Interface] = []
    base = at = 0

    def number(pos: int, width: int = 4) -> int:
        return int.from_bytes(raw[pos : pos + width], "big" if order == ">" else "little")

    while len(raw) - at >= 12:
        if raw[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            magic = raw[at + 8 : at + 12]
            if magic not in (b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"):
                break_damaged(walk, at)
                break
            new_order = ">" if magic[0] == 0x1A else "<"
            length = struct.unpack_from(new_order + "I", raw, at + 4)[0]
            if length < 28 or length % 4 or length > MAX_BLOCK:
                break_damaged(walk, at)
                break
            if at + length > len(raw):
                break
            major = struct.unpack_from(new_order + "H", raw, at + 12)[0]
            if raw[at + 4 : at + 8] != raw[at + length - 4 : at + length] or major != 1:
                break_damaged(walk, at)
                break
            order, base = new_order, len(interfaces)
            at += length
            continue
        kind, length = number(at), number(at + 4)
        if length < 12 or length % 4 or (length > MAX_BLOCK and kind in (1, 2, 3, 6)):
            break_damaged(walk, at)
            break
        if length > MAX_BLOCK:
            walk.unknown += unknown(kind)
            if at + length > len(raw):
                break
            at += length
            continue
        if kind == 1 and length < 20 and (at + length > len(raw) or number(at + length - 4) == length):
            if at + length <= len(raw):
                break_damaged(walk, at)
            break
        if at + length > len(raw):
            break
        if number(at + length - 4) != length:
            break_damaged(walk, at)
            break
        if kind == 1:
            interfaces.append(read_interface(raw[at : at + length], order, walk))
            walk.linktypes.append(interfaces[-1].linktype)
        elif kind in (2, 3, 6):
            record = read_packet(raw, at, kind, length, number, interfaces, base)
            if record is None:
                walk.damaged += 1
            else:
                walk.records.append(record)
        else:
            walk.unknown += unknown(kind)
        at += length
    walk.cut_tail = len(raw) - at
    return walk


def break_damaged(walk: Walk, at: int) -> None:
    walk.damaged += 1
    walk.stopped_at = at


def unknown(kind: int) -> bool:
    return not (4 <= kind <= 10 or kind in (0xBAD, 0x40000BAD) or 0x201 <= kind <= 0x20D)


def read_interface(block: bytes, order: str, walk: Walk) -> Interface:
    linktype, _, snaplen = struct.unpack_from(order + "HHI", block, 8)
    found = Interface(linktype, snaplen)
    options = block[16:-4]
    while len(options) >= 4:
        code, size = struct.unpack_from(order + "HH", options)
        if code == 0:
            break
        if size > len(options) - 4:
            walk.damaged += 1
            break
        value = options[4 : 4 + size]
        if code == 9 and size == 1:
            found.resolution = value[0]
        if code == 14 and size == 8:
            found.offset_s = struct.unpack(order + "q", value)[0]
        options = options[4 + size + -size % 4 :]
    return found


def read_packet(raw, at, kind, length, number, interfaces, base):
    if kind == 3:
        if length < 16 or base >= len(interfaces):
            return None
        captured = min(number(at + 8), length - 16, interfaces[base].snaplen or 1 << 40)
        wire = max(captured, min(number(at + 8), 2**31 - 1))
        return at + 12, captured, wire, None, base
    if length < 32:
        return None
    index = number(at + 8, 2 if kind == 2 else 4)
    captured, wire = number(at + 20), number(at + 24)
    if base + index >= len(interfaces) or captured > length - 32:
        return None
    ns = interfaces[base + index].ns(number(at + 12) << 32 | number(at + 16))
    if ns is None:
        return None
    return at + 28, captured, max(captured, min(wire, 2**31 - 1)), ns, base + index
