"""Writers of pcap and pcapng with nanosecond times and, for the same input, the same bytes.

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html and
https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from vpnforensics.capture.linktypes import ETHERNET

DEFAULT_SNAPLEN = 262_144

_PCAP_NS_MAGIC = 0xA1B23C4D
_SECTION_HEADER = 0x0A0D0D0A
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_INTERFACE_DESCRIPTION = 1
_ENHANCED_PACKET = 6
_OPTION_END = 0
_OPTION_COMMENT = 1
_OPTION_IF_NAME = 2
_OPTION_IF_TSRESOL = 9
_NS_PER_S = 1_000_000_000


class _Writer:
    """A file that was opened by path, or one that the caller keeps."""

    def __init__(self, target: str | Path | BinaryIO) -> None:
        self._owned = isinstance(target, str | Path)
        self._file: BinaryIO = (
            Path(target).open("wb")  # noqa: SIM115 - this object is the context manager
            if isinstance(target, str | Path)
            else target
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file if this object opened it."""
        if self._owned:
            self._file.close()


class PcapWriter(_Writer):
    """Writes a nanosecond pcap, frame by frame; a context manager.

    Parameters
    ----------
    target : str, Path or binary file
        Where to write.
    linktype : int
        Link type of all frames; see :mod:`vpnforensics.capture.linktypes`.
    snaplen : int
        Frames are cut to this many bytes; their original length is kept.
    """

    def __init__(
        self, target: str | Path | BinaryIO, linktype: int = ETHERNET, snaplen: int = DEFAULT_SNAPLEN
    ) -> None:
        super().__init__(target)
        self.snaplen = snaplen
        self._file.write(struct.pack("<IHHiIII", _PCAP_NS_MAGIC, 2, 4, 0, 0, snaplen, linktype))

    def write(self, ts_ns: int, frame: bytes, original_bytes: int | None = None) -> None:
        """Write one frame.

        Parameters
        ----------
        ts_ns : int
            Nanoseconds since the epoch, from 0 to the year 2106: what a pcap can say.
        frame : bytes
            The frame, from its link-layer header on.
        original_bytes : int, optional
            Its length on the wire, where ``frame`` is already cut.
        """
        seconds, ns = divmod(int(ts_ns), _NS_PER_S)
        if not 0 <= seconds < 1 << 32:
            raise ValueError(f"a pcap cannot hold the time {ts_ns} ns")
        kept = frame[: self.snaplen]
        wire_bytes = len(frame) if original_bytes is None else original_bytes
        self._file.write(struct.pack("<IIII", seconds, ns, len(kept), wire_bytes))
        self._file.write(kept)


def write_pcap(
    path: str | Path,
    ts_ns: npt.NDArray[np.int64] | Sequence[int],
    frames: Sequence[bytes],
    *,
    linktype: int = ETHERNET,
    snaplen: int = DEFAULT_SNAPLEN,
    original_bytes: Sequence[int] | None = None,
) -> None:
    """Write frames as a nanosecond pcap, in the order given.

    Parameters
    ----------
    path : str or Path
        File to write.
    ts_ns : ndarray of int64 or sequence of int, shape (n,)
        Capture times, nanoseconds since the epoch.
    frames : sequence of bytes, length n
        The frames, from their link-layer headers on.
    linktype : int
        Link type of all frames.
    snaplen : int
        Frames are cut to this many bytes; their original length is kept.
    original_bytes : sequence of int, optional
        Lengths on the wire, where the frames are already cut.
    """
    lengths = [len(frame) for frame in frames] if original_bytes is None else original_bytes
    with PcapWriter(path, linktype, snaplen) as writer:
        for ts, frame, length in zip(np.asarray(ts_ns).tolist(), frames, lengths, strict=True):
            writer.write(ts, frame, length)


class PcapngWriter(_Writer):
    """Writes a pcapng of one section: several interfaces, nanosecond times, packet comments.

    Parameters
    ----------
    target : str, Path or binary file
        Where to write.
    """

    def __init__(self, target: str | Path | BinaryIO) -> None:
        super().__init__(target)
        self._snaplens: list[int] = []
        self._block(_SECTION_HEADER, struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1))

    def add_interface(
        self, linktype: int = ETHERNET, *, name: str | None = None, snaplen: int = DEFAULT_SNAPLEN
    ) -> int:
        """Describe a further interface; returns its number."""
        options = _option(_OPTION_IF_NAME, name.encode()) if name else b""
        options += _option(_OPTION_IF_TSRESOL, b"\x09") + _option(_OPTION_END, b"")
        self._block(_INTERFACE_DESCRIPTION, struct.pack("<HHI", linktype, 0, snaplen) + options)
        self._snaplens.append(snaplen)
        return len(self._snaplens) - 1

    def write(
        self,
        ts_ns: int,
        frame: bytes,
        *,
        interface: int = 0,
        original_bytes: int | None = None,
        comment: str | Sequence[str] = (),
    ) -> None:
        """Write one frame, with any comments that Wireshark is to show beside it.

        Parameters
        ----------
        ts_ns : int
            Nanoseconds since the epoch, not negative.
        frame : bytes
            The frame, from its link-layer header on.
        interface : int
            A number that :meth:`add_interface` returned.
        original_bytes : int, optional
            Its length on the wire, where ``frame`` is already cut.
        comment : str or sequence of str
            Each becomes a packet comment of its own.
        """
        if ts_ns < 0:
            raise ValueError(f"a pcapng cannot hold the time {ts_ns} ns")
        kept = frame[: self._snaplens[interface] or len(frame)]
        wire_bytes = len(frame) if original_bytes is None else original_bytes
        comments = [comment] if isinstance(comment, str) else comment
        options = b"".join(_option(_OPTION_COMMENT, text.encode()) for text in comments)
        if options:
            options += _option(_OPTION_END, b"")
        ticks = int(ts_ns)
        head = struct.pack("<IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(kept), wire_bytes)
        self._block(_ENHANCED_PACKET, head + _padded(kept) + options)

    def _block(self, block_type: int, body: bytes) -> None:
        length = struct.pack("<I", 12 + len(body))
        self._file.write(struct.pack("<I", block_type) + length + body + length)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    if len(value) > 0xFFFF:
        raise ValueError(f"a pcapng option holds at most 65,535 bytes, not {len(value):,}")
    return struct.pack("<HH", code, len(value)) + _padded(value)
