"""Captures as other taps would have them: at two hops of a route."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.packets.frames import checksum
from vpnforensics.capture.writer import PcapWriter

LATER_NS = 40_000
_IPV4 = b"\x08\x00"


class Frame(NamedTuple):
    """One record of a capture file."""

    ts_ns: int
    captured: bytes
    wire_bytes: int


def frames_of(capture: Path) -> Iterator[Frame]:
    """The records of a pcap file with nanoseconds, as the samples are."""
    raw = capture.read_bytes()
    assert raw[:4] == b"\x4d\x3c\xb2\xa1"
    at = 24
    while at < len(raw):
        second, ns, captured, wire = struct.unpack_from("<IIII", raw, at)
        yield Frame(second * 10**9 + ns, raw[at + 16 : at + 16 + captured], wire)
        at += 16 + captured


def write_frames(target: Path, frames: list[Frame]) -> None:
    """A capture of these frames, in the order of their times."""
    with PcapWriter(target) as writer:
        for frame in sorted(frames, key=lambda frame: frame.ts_ns):
            writer.write(*frame)


def write_behind_a_router(capture: Path, target: Path) -> int:
    """Every packet of a capture, and those of IPv4 once more behind a router; returns how many."""
    frames = list(frames_of(capture))
    again = [
        Frame(frame.ts_ns + LATER_NS, _routed(frame.captured), frame.wire_bytes)
        for frame in frames
        if frame.captured[12:14] == _IPV4
    ]
    write_frames(target, frames + again)
    return len(again)


def _routed(frame: bytes) -> bytes:
    head = bytearray(frame[14:34])
    head[8] -= 1
    head[10:12] = b"\0\0"
    head[10:12] = struct.pack(">H", checksum(bytes(head)))
    return frame[6:12] + frame[:6] + frame[12:14] + bytes(head) + frame[34:]
