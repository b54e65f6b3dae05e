"""Loops over the records of a capture: where each frame lies, how long it is, and when it was seen.

Both walkers are resumable: they stop at the last whole record of the window, and the caller comes
back with more bytes. They touch record headers only.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from vpnforensics.capture._loads import be32, le32

MORE = 0
"""The window holds no further whole record."""
FULL = 1
"""The batch is full; call again."""
CONTROL = 2
"""A pcapng block that Python must read stands at the position."""
DAMAGED = 3
"""The record at the position cannot be, and nothing after it can be found."""

MAX_BLOCK_BYTES = 1 << 20
"""No packet record is longer; longer pcapng blocks of other types are skipped unread."""

_SHB = 0x0A0D0D0A
_IDB = 1
_OPB = 2
_SPB = 3
_EPB = 6
_LAST_NS = 9_223_372_036_854_775_807


@njit(cache=True, nogil=True)
def walk_pcap(
    buf: Any,
    pos: Any,
    end: Any,
    big_endian: Any,
    header_bytes: Any,
    tick_ns: Any,
    limit_bytes: Any,
    records: Any,
) -> Any:
    """Index whole pcap records of ``buf[pos:end]``; returns (records, position, status)."""
    at, caplen, wire, ts_ns, iface = records
    n = 0
    while n < len(at):
        if end - pos < header_bytes:
            return n, pos, MORE
        if big_endian:
            seconds, ticks, captured, original = (
                be32(buf, pos),
                be32(buf, pos + 4),
                be32(buf, pos + 8),
                be32(buf, pos + 12),
            )
        else:
            seconds, ticks, captured, original = (
                le32(buf, pos),
                le32(buf, pos + 4),
                le32(buf, pos + 8),
                le32(buf, pos + 12),
            )
        if captured > limit_bytes:
            return n, pos, DAMAGED
        if end - pos - header_bytes < captured:
            return n, pos, MORE
        at[n] = pos + header_bytes
        caplen[n] = captured
        wire[n] = max(captured, min(original, 0x7FFFFFFF))
        ts_ns[n] = seconds * 1_000_000_000 + ticks * tick_ns
        iface[n] = 0
        pos += header_bytes + captured
        n += 1
    return n, pos, FULL
