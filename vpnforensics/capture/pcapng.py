"""pcapng: blocks in sections, packets of several interfaces, each with its own clock unit.

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html. Packet blocks are walked by a
kernel; the rare blocks that say how to read them (sections, interfaces) are read here.
"""

from __future__ import annotations

import struct

import numpy as np

from vpnforensics.capture import _kernels, linktypes
from vpnforensics.capture.records import RecordBatch, Step
from vpnforensics.capture.stream import Window
from vpnforensics.errors import UnsupportedLinkTypeError

MAGIC = b"\x0a\x0d\x0d\x0a"

_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_SMALLEST_SECTION_HEADER = 28
_SMALLEST_INTERFACE = 20
_OPTION_END = 0
_OPTION_NAME = 2
_OPTION_TSRESOL = 9
_OPTION_TSOFFSET = 14
_MICROSECONDS = 6


def is_pcapng(first: bytes) -> bool:
    """Whether the first twelve bytes are those of a section header."""
    return first[:4] == MAGIC and (
        len(first) < 12
        or _BYTE_ORDER_MAGIC in (int.from_bytes(first[8:12], "big"), int.from_bytes(first[8:12], "little"))
    )


class InterfaceNumbers:
    """Numbers of the interfaces of a capture, over its sections and files.

    An interface that is named again in a later section or file keeps its number; an unnamed one is
    told by its place in its file, so that rotated files go on with the numbers of the first.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}
        self._unnamed = 0
        self._in_section: dict[bytes, int] = {}

    def begin_file(self) -> None:
        """Count unnamed interfaces from the start again."""
        self._unnamed = 0

    def begin_section(self) -> None:
        """Count interfaces of the same name from the start again."""
        self._in_section = {}

    def number(self, name: bytes, linktype: int) -> int:
        """The number of the interface that is described next."""
        if name:
            occurrence = self._in_section.get(name, 0)
            self._in_section[name] = occurrence + 1
            key: tuple[object, ...] = (name, linktype, occurrence)
        else:
            key = (self._unnamed, linktype)
            self._unnamed += 1
        return self._numbers.setdefault(key, len(self._numbers))


class PcapngRecords:
    """Walks the blocks of a pcapng."""

    format = "pcapng"

    def __init__(self, window: Window, interface_numbers: InterfaceNumbers) -> None:
        self.body = window.start
        self.linktypes: tuple[str, ...] = ()
        self.damaged_records = 0
        self.unknown_blocks = 0
        self.first_damage_offset = -1
        self.long_block_offset = -1
        self.damage = ""
        self._interface_numbers = interface_numbers
        interface_numbers.begin_file()
        self._big_endian = False
        self._count = 0  # interfaces of all sections so far
        self._base = 0  # the first of this section
        self._unsupported: tuple[int, int] | None = None  # offset and link type of the first such
        self.kinds = np.zeros(4, np.uint8)
        self.numbers = np.zeros(4, np.uint16)
        self._snaplens = np.zeros(4, np.int64)
        self._resolutions = np.zeros(4, np.uint8)
        self._offsets_s = np.zeros(4, np.int64)

    def walk(self, window: Window, pos: int, batch: RecordBatch) -> Step:
        """Index the next packet blocks of the window."""
        while True:
            findings = np.array([0, 0, -1, -1], np.int64)
            count, pos, status = _kernels.walk_pcapng(
                window.buf,
                pos,
                window.end,
                self._big_endian,
                (self._snaplens, self._resolutions, self._offsets_s),
                self._base,
                self._count - self._base,
                batch,
                findings,
            )
            self.unknown_blocks += int(findings[_kernels.UNKNOWN_BLOCKS])
            if findings[_kernels.DAMAGED_RECORDS]:
                self._damage(window.offset_of(int(findings[_kernels.FIRST_DAMAGE])))
                self.damaged_records += int(findings[_kernels.DAMAGED_RECORDS]) - 1
            if findings[_kernels.LONG_BLOCK] >= 0:
                self.long_block_offset = window.offset_of(int(findings[_kernels.LONG_BLOCK]))
            if status == _kernels.CONTROL and count == 0:
                pos, status = self._control(window, pos)
                if status == _kernels.CONTROL:
                    continue
            elif status == _kernels.CONTROL:
                status = _kernels.FULL  # hand over what precedes the block, then come back
            if status == _kernels.DAMAGED:
                self.damage = self.damage or "a block contradicts itself (a damaged record?)"
                self._damage(window.offset_of(pos))
            return Step(count, pos, status)

    def check(self, path: str) -> None:
        """Raise where no interface has a link type that is decoded.

        Raises
        ------
        UnsupportedLinkTypeError
            It names the first link type found.
        """
        if self._unsupported is not None and not self.kinds[: self._count].any():
            offset, linktype = self._unsupported
            raise UnsupportedLinkTypeError(path, offset, linktypes.not_decoded(linktype))

    def _damage(self, offset: int) -> None:
        self.damaged_records += 1
        if self.first_damage_offset < 0:
            self.first_damage_offset = offset

    def _control(self, window: Window, pos: int) -> tuple[int, int]:
        """Read a section header or an interface; returns where to go on and a walker's status."""
        head = window.buf[pos : min(window.end, pos + 12)].tobytes()
        is_section = head[:4] == MAGIC
        big_endian = self._big_endian
        if is_section:
            order_magic = head[8:12]
            big_endian = int.from_bytes(order_magic, "big") == _BYTE_ORDER_MAGIC
            if not big_endian and int.from_bytes(order_magic, "little") != _BYTE_ORDER_MAGIC:
                self.damage = "a section header without its byte-order magic (a damaged record?)"
                return pos, _kernels.DAMAGED
        length = int.from_bytes(head[4:8], "big" if big_endian else "little")
        smallest = _SMALLEST_SECTION_HEADER if is_section else _SMALLEST_INTERFACE
        if length < smallest or length % 4 or length > _kernels.MAX_BLOCK_BYTES:
            return pos, _kernels.DAMAGED
        if length > window.end - pos:
            return pos, _kernels.MORE
        block = window.buf[pos : pos + length].tobytes()
        if block[-4:] != block[4:8]:
            return pos, _kernels.DAMAGED
        if is_section:
            if not self._section(block, big_endian):
                return pos, _kernels.DAMAGED
        else:
            self._interface(block, window.offset_of(pos))
        return pos + length, _kernels.CONTROL

    def _section(self, block: bytes, big_endian: bool) -> bool:
        major, minor = struct.unpack_from(">HH" if big_endian else "<HH", block, 12)
        if major != 1:
            self.damage = f"pcapng version {major}.{minor} is not known; 1.0 is (a damaged record?)"
            return False
        self._big_endian = big_endian
        self._base = self._count
        self._interface_numbers.begin_section()
        return True

    def _interface(self, block: bytes, offset: int) -> None:
        order = ">" if self._big_endian else "<"
        linktype, _, snaplen = struct.unpack_from(order + "HHI", block, 8)
        name, resolution, offset_s = b"", _MICROSECONDS, 0
        at, end = 16, len(block) - 4
        while end - at >= 4:
            code, size = struct.unpack_from(order + "HH", block, at)
            value = block[at + 4 : at + 4 + size]
            if code == _OPTION_END:
                break
            if size > end - at - 4:
                self._damage(offset + at)
                break
            if code == _OPTION_NAME:
                name = value.rstrip(b"\0")
            elif code == _OPTION_TSRESOL and size == 1:
                resolution = value[0]
            elif code == _OPTION_TSOFFSET and size == 8:
                (offset_s,) = struct.unpack(order + "q", value)
            at += 4 + size + -size % 4
        i = self._count
        if i == len(self.kinds):
            for attribute in ("kinds", "numbers", "_snaplens", "_resolutions", "_offsets_s"):
                array = getattr(self, attribute)
                setattr(self, attribute, np.concatenate([array, np.zeros_like(array)]))
        self.kinds[i] = linktypes.kind(linktype)
        self.numbers[i] = min(self._interface_numbers.number(name, linktype), 0xFFFF)
        self._snaplens[i] = snaplen
        self._resolutions[i] = resolution
        self._offsets_s[i] = offset_s
        self._count += 1
        text = linktypes.name(linktype)
        if text not in self.linktypes:
            self.linktypes += (text,)
        if self._unsupported is None and self.kinds[i] == linktypes.KIND_UNSUPPORTED:
            self._unsupported = (offset, linktype)
