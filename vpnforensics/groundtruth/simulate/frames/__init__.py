"""Packets as records, and records as the bytes of a capture file."""

from __future__ import annotations

import struct
from typing import IO, Final

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate.frames._kernels import assemble
from vpnforensics.groundtruth.simulate.spec import Capture

RECORD: Final = np.dtype(
    [
        ("ts_ns", "i8"),  # true time since the start of the simulation
        ("content", "i8"),  # where the payload's first bytes stand in the content store
        ("filler", "i8"),  # where the rest begins in the filler, plus 1; 0 for where it is usual
        ("src", "u4"),
        ("dst", "u4"),
        ("seq", "u4"),
        ("ack", "u4"),
        ("tsval", "u4"),
        ("tsecr", "u4"),
        ("sack_left", "u4"),
        ("sack_right", "u4"),
        ("sport", "u2"),
        ("dport", "u2"),
        ("ip_id", "u2"),
        ("length", "u2"),  # transport payload
        ("window", "u2"),
        ("mss", "u2"),
        ("content_length", "u2"),
        ("proto", "u1"),
        ("ttl", "u1"),
        ("tos", "u1"),
        ("df", "u1"),
        ("flags", "u1"),
        ("layout", "u1"),  # which TCP options; see LAYOUTS
        ("scale", "u1"),
        ("outgoing", "u1"),  # leaves the server
        ("version", "u1"),  # 6 for IPv6, whose addresses are IPV6_PREFIX and src, dst
    ],
    align=True,
)

NO_OPTIONS, DATA_TS, SYN_LINUX, SYN_LINUX_PLAIN, SYN_WINDOWS, SYN_MACOS, SYN_MACOS_PLAIN = range(7)
OPTION_BYTES: Final = np.array([0, 12, 20, 12, 12, 24, 12], np.int64)

IPV6_PREFIX: Final = "2001:db8::"
"""For documentation (RFC 3849): an address is this and 32 bits, those of the IPv4 address in its place."""
LINKTYPES: Final = {"ethernet": 1, "sll2": 276, "raw": 101}
_LINK_BYTES: Final = {"ethernet": 14, "sll2": 20, "raw": 0}
_RECORD_HEADER = 16
_BATCH = 32_768
_FILLER_BYTES = 1 << 17
_RECORD_TYPES = [*range(14), *range(20, 27), 0x80]


def usual_filler(rows: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Where the pseudo-random payload of records begins in the filler (the kernel's own rule)."""
    sport, dport, src, seq = (rows[name].astype(np.int64) for name in ("sport", "dport", "src", "seq"))
    mixed = (sport * 40503 + dport * 30011 + src) * 2654435761
    begin = np.where(rows["proto"] == 6, (mixed >> 7) + seq, (mixed + rows["ts_ns"] * 40503) >> 9)
    return begin & (_FILLER_BYTES - 1)


def frame_bytes(rows: npt.NDArray[np.void], capture: Capture) -> npt.NDArray[np.int64]:
    """What each record takes in a capture file (as the kernel writes it), its header included."""
    proto, length = rows["proto"], rows["length"].astype(np.int64)
    options = OPTION_BYTES[rows["layout"]] + 12 * (rows["sack_right"] != rows["sack_left"])
    transport = np.where(proto == 6, 20 + options, np.where(proto == 50, 0, 8))
    network = np.where(rows["version"] == 6, 40, 20)
    return _RECORD_HEADER + np.minimum(
        _LINK_BYTES[capture.linktype] + network + transport + length, capture.snaplen
    )


def write_header(file: IO[bytes], capture: Capture) -> None:
    """Begin a nanosecond or microsecond pcap file."""
    magic = 0xA1B23C4D if capture.resolution_ns == 1 else 0xA1B2C3D4
    file.write(struct.pack("<IHHiIII", magic, 2, 4, 0, 0, capture.snaplen, LINKTYPES[capture.linktype]))


def write_frames(
    file: IO[bytes],
    records: npt.NDArray[np.void],
    content: npt.NDArray[np.uint8],
    order: npt.NDArray[np.int64],
    shown_ns: npt.NDArray[np.int64],
    capture: Capture,
    seed: int,
) -> None:
    """Write records as frames of a pcap file.

    Parameters
    ----------
    file : binary file
        Where they are written, from its position on.
    records : ndarray of RECORD, shape (n,)
        Every packet, in any order.
    content : ndarray of uint8
        First payload bytes, which records point into; the rest of a payload is pseudo-random.
    order : ndarray of int64, shape (m,)
        Which records, in file order.
    shown_ns : ndarray of int64, shape (m,)
        Their capture times since the epoch.
    capture : Capture
        Link type, snap length, resolution.
    seed : int
        Of the pseudo-random payload.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    filler = np.tile(random.integers(0, 256, _FILLER_BYTES, np.uint8), 2)
    # Dissectors take a byte within TCP that could begin a TLS record, or end a line, for one: leave them out.
    letters = np.setdiff1d(np.arange(256, dtype=np.uint8), _RECORD_TYPES)
    text = np.tile(letters[random.integers(0, len(letters), _FILLER_BYTES)], 2)
    content = content if len(content) else np.empty(1, np.uint8)
    buffer = np.empty(0, np.uint8)
    scratch = np.empty(66_000, np.uint8)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        need = int(frame_bytes(records[rows], capture).sum())
        if len(buffer) < need:
            buffer = np.empty(need, np.uint8)
        used = assemble(
            records,
            rows,
            shown_ns[start : start + _BATCH],
            content,
            filler,
            text,
            capture.resolution_ns,
            _LINK_BYTES[capture.linktype],
            capture.snaplen,
            buffer,
            scratch,
        )
        assert used == need, "frames are as long as was said"
        file.write(buffer[:used].data)
