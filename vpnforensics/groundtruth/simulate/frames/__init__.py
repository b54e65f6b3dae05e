"""Packets as records, and records as the bytes of a capture file."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

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
_BATCH = 32_768
_FILLER_BYTES = 1 << 17
_RECORD_TYPES = [*range(14), *range(20, 27), 0x80]


def usual_filler(rows: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Where the pseudo-random payload of records begins in the filler (the kernel's own rule)."""
    sport, dport, src, seq = (rows[name].astype(np.int64) for name in ("sport", "dport", "src", "seq"))
    mixed = (sport * 40503 + dport * 30011 + src) * 2654435761
    begin = np.where(rows["proto"] == 6, (mixed >> 7) + seq, (mixed + rows["ts_ns"] * 40503) >> 9)
    return begin & (_FILLER_BYTES - 1)


def write_capture(
    path: Path,
    records: npt.NDArray[np.void],
    content: npt.NDArray[np.uint8],
    order: npt.NDArray[np.int64],
    shown_ns: npt.NDArray[np.int64],
    capture: Capture,
    seed: int,
) -> None:
    """Write records as a nanosecond pcap file.

    Parameters
    ----------
    path : Path
        File to write.
    records : ndarray of RECORD, shape (n,)
        Every packet, in any order; may be a memory map.
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
    link_bytes = _LINK_BYTES[capture.linktype]
    most = min(capture.snaplen, 65535 + link_bytes) + 16
    magic = 0xA1B23C4D if capture.resolution_ns == 1 else 0xA1B2C3D4
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", magic, 2, 4, 0, 0, capture.snaplen, LINKTYPES[capture.linktype]))
        buffer = np.empty(0, np.uint8)
        scratch = np.empty(66_000, np.uint8)
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            need = int(
                np.minimum(records["length"][rows].astype(np.int64) + 100 + link_bytes, most).sum()
            ) + 16 * len(rows)
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
                link_bytes,
                capture.snaplen,
                buffer,
                scratch,
            )
            buffer[:used].tofile(file)
    if capture.cut_bytes:
        os.truncate(path, max(path.stat().st_size - capture.cut_bytes, 0))
