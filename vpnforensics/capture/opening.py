"""Which format a capture has, by its first bytes, and the walker for it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from vpnforensics.capture import pcap, pcapng
from vpnforensics.capture.records import RecordBatch, Step
from vpnforensics.capture.stream import CaptureStream, Window
from vpnforensics.errors import NotACaptureError

_OTHER_FORMATS = (
    (b"BZh", "bzip2 data; decompress them first"),
    (b"\xfd7zXZ", "xz data; decompress them first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"snoop\0\0\0", "a snoop capture; convert it with editcap"),
    (b"GMBU", "a Microsoft Network Monitor capture; convert it with editcap"),
    (b"RTSS", "a Microsoft Network Monitor capture; convert it with editcap"),
    (b"SQLite format 3", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
)


class RecordWalker(Protocol):
    """What the two formats have in common."""

    format: str
    body: int
    """Position of the first record in the first window."""
    linktypes: tuple[str, ...]
    kinds: npt.NDArray[np.uint8]
    """By interface of the batch: how the IP packet is found."""
    numbers: npt.NDArray[np.uint16]
    """By interface of the batch: its number in the packet table."""
    damaged_records: int
    unknown_blocks: int
    first_damage_offset: int
    long_block_offset: int
    """Where the last block began that was skipped over the end of its window, or -1."""
    damage: str
    """Why the walk stopped at a damaged record."""

    def walk(self, window: Window, pos: int, batch: RecordBatch) -> Step:
        """Index the next records of the window."""

    def check(self, path: str) -> None:
        """Raise where the whole capture turned out to be of unsupported link types."""


def open_records(
    stream: CaptureStream, window: Window, interface_numbers: pcapng.InterfaceNumbers
) -> RecordWalker:
    """The walker for the capture that begins in this window.

    Raises
    ------
    NotACaptureError
        It is neither pcap nor pcapng.
    """
    first = window.buf[window.start : min(window.end, window.start + 16)].tobytes()
    if pcap.is_pcap(first[:4]):
        return pcap.PcapRecords(window, stream.path)
    if pcapng.is_pcapng(first):
        return pcapng.PcapngRecords(window, interface_numbers)
    raise NotACaptureError(stream.path, 0, _likely_cause(first, stream))


def _likely_cause(first: bytes, stream: CaptureStream) -> str:
    inside = f" inside the {stream.compression} data" if stream.compression else ""
    if stream.fault:
        return f"{stream.fault}; nothing of the capture inside can be read"
    if not first:
        return f"there are no bytes{inside}: an empty file is not a capture (was the recorder ever started?)"
    for magic, what in _OTHER_FORMATS:
        if first.startswith(magic):
            return f"not a pcap or pcapng capture but {what}"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in first):
        text = first.decode("ascii").strip()
        return f"not a pcap or pcapng capture but text, it seems (it begins {text!r}{inside})"
    return f"not a pcap or pcapng capture (it begins {first[:4].hex(' ')}{inside})"
