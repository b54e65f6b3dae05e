"""pcap: one header for the file, then records of one link type.

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html; the "modified" form with 24-byte
record headers was written by Alexey Kuznetsov's patches to libpcap.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from vpnforensics.capture import linktypes
from vpnforensics.capture._kernels import DAMAGED, MAX_BLOCK_BYTES, walk_pcap
from vpnforensics.capture.records import RecordBatch, Step
from vpnforensics.capture.stream import Window
from vpnforensics.errors import CaptureError, NotACaptureError, UnsupportedLinkTypeError

HEADER_BYTES = 24
_LARGEST_USUAL_SNAPLEN = 262_144

_FORMS = {  # magic, as a big-endian number: (record header bytes, nanoseconds a tick)
    0xA1B2C3D4: (16, 1000),
    0xA1B23C4D: (16, 1),
    0xA1B2CD34: (24, 1000),
}


def is_pcap(first: bytes) -> bool:
    """Whether the first four bytes are one of the magics, in either byte order."""
    return len(first) == 4 and (
        int.from_bytes(first, "big") in _FORMS or int.from_bytes(first, "little") in _FORMS
    )


@dataclass(frozen=True, slots=True)
class PcapHeader:
    """What the file header says about the records."""

    big_endian: bool
    record_header_bytes: int
    tick_ns: int
    snaplen: int
    linktype: int

    @classmethod
    def parse(cls, raw: bytes, path: str) -> PcapHeader:
        """Read the 24-byte file header.

        Raises
        ------
        NotACaptureError
            Fewer bytes than that.
        CaptureError
            A version that was never defined.
        """
        if len(raw) < HEADER_BYTES:
            raise NotACaptureError(  # as one of no bytes: of a folder, it is skipped
                path,
                len(raw),
                f"cut inside the pcap file header ({HEADER_BYTES} bytes): no packet was stored",
            )
        big_endian = int.from_bytes(raw[:4], "big") in _FORMS
        order = ">" if big_endian else "<"
        magic, major, minor, _zone, _sigfigs, snaplen, network = struct.unpack_from(order + "IHHiIII", raw)
        if major != 2:
            raise CaptureError(
                path, 4, f"pcap version {major}.{minor} is not known; 2.4 is: a damaged header?"
            )
        header_bytes, tick_ns = _FORMS[magic]
        # The upper half of the link-type field tells of frame check sequences, which lengths exclude.
        return cls(big_endian, header_bytes, tick_ns, snaplen, network & 0xFFFF)


class PcapRecords:
    """Walks the records of a pcap."""

    format = "pcap"
    damage = "a record claims to be longer than any frame is (a damaged record?)"

    def __init__(self, window: Window, path: str) -> None:
        raw = window.buf[window.start : min(window.end, window.start + HEADER_BYTES)].tobytes()
        header = PcapHeader.parse(raw, path)
        if linktypes.kind(header.linktype) == linktypes.KIND_UNSUPPORTED:
            raise UnsupportedLinkTypeError(path, 20, linktypes.not_decoded(header.linktype))
        self.header = header
        self.body = window.start + HEADER_BYTES
        self.linktypes: tuple[str, ...] = (linktypes.name(header.linktype),)
        self.kinds = np.array([linktypes.kind(header.linktype)], np.uint8)
        self.numbers = np.zeros(1, np.uint16)
        self.limit_bytes = min(max(header.snaplen, _LARGEST_USUAL_SNAPLEN), MAX_BLOCK_BYTES - 64)
        self.damaged_records = 0
        self.long_block_offset = -1
        self.unknown_blocks = 0
        self.first_damage_offset = -1

    def walk(self, window: Window, pos: int, batch: RecordBatch) -> Step:
        """Index the next records of the window."""
        header = self.header
        count, pos, status = walk_pcap(
            window.buf,
            pos,
            window.end,
            header.big_endian,
            header.record_header_bytes,
            header.tick_ns,
            self.limit_bytes,
            batch,
        )
        if status == DAMAGED:
            self.damaged_records += 1
            self.first_damage_offset = window.offset_of(pos)
        return Step(count, pos, status)

    def check(self, path: str) -> None:
        """Nothing to raise: the one link type was checked with the header."""
