"""pcap and pcapng files built by hand, in either byte order and every form."""

from __future__ import annotations

import struct


def pcap_file(
    records: list[tuple[int, bytes]],
    *,
    order: str = "<",
    magic: int = 0xA1B2C3D4,
    linktype: int = 1,
    snaplen: int = 262144,
) -> bytes:
    """Records are (time in ticks of the magic, frame)."""
    per_second = 1_000_000_000 if magic == 0xA1B23C4D else 1_000_000
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, linktype)
    for ticks, frame in records:
        out += struct.pack(
            order + "IIII", ticks // per_second, ticks % per_second, len(frame[:snaplen]), len(frame)
        )
        if magic == 0xA1B2CD34:
            out += struct.pack(order + "IHBB", 3, 0x0800, 0, 0)
        out += frame[:snaplen]
    return out


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<", options: bytes = b"", version: int = 1) -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, version, 0, -1) + options, order)


def interface(
    linktype: int = 1,
    *,
    order: str = "<",
    resolution: int | None = None,
    offset_s: int | None = None,
    name: bytes = b"",
    snaplen: int = 0,
) -> bytes:
    options = option(2, name, order) if name else b""
    if resolution is not None:
        options += option(9, bytes([resolution]), order)
    if offset_s is not None:
        options += option(14, struct.pack(order + "q", offset_s), order)
    if options:
        options += option(0, b"", order)
    return block(1, struct.pack(order + "HHI", linktype, 0, snaplen) + options, order)


def enhanced(
    ticks: int,
    frame: bytes,
    *,
    interface: int = 0,
    order: str = "<",
    original: int | None = None,
    options: bytes = b"",
) -> bytes:
    wire = len(frame) if original is None else original
    head = struct.pack(order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), wire)
    return block(6, head + frame + bytes(-len(frame) % 4) + options, order)


def obsolete(ticks: int, frame: bytes, *, interface: int = 0, order: str = "<") -> bytes:
    head = struct.pack(
        order + "HHIIII", interface, 9, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame)
    )
    return block(2, head + frame + bytes(-len(frame) % 4), order)


def simple(frame: bytes, *, order: str = "<", original: int | None = None) -> bytes:
    wire = len(frame) if original is None else original
    return block(3, struct.pack(order + "I", wire) + frame + bytes(-len(frame) % 4), order)
