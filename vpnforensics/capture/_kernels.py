"""Loops over the records of a capture: where each frame lies, how long it is, and when it was seen.

Both walkers are resumable: they stop at the last whole record of the window, and the caller comes
back with more bytes. They touch record headers only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.capture._loads import be16, be32, le16, le32
from vpnforensics.kernels import kernel

MORE = 0
"""The window holds no further whole record."""
FULL = 1
"""The batch is full; call again."""
CONTROL = 2
"""A pcapng block that Python must read stands at the position."""
DAMAGED = 3
"""The record at the position cannot be, and nothing after it can be found."""

# Cells of the array of findings of the pcapng walker.
DAMAGED_RECORDS = 0
UNKNOWN_BLOCKS = 1
FIRST_DAMAGE = 2
"""Position in this window's buffer, -1 for none."""
LONG_BLOCK = 3
"""Position of a block that reaches beyond the window and is skipped, -1 for none."""

MAX_BLOCK_BYTES = 1 << 20
"""No packet record is longer; longer pcapng blocks of other types are skipped unread."""

NO_TIME = np.iinfo(np.int64).min
"""Time of a record that carries none."""

SECTION_HEADER = 0x0A0D0D0A
INTERFACE_DESCRIPTION = 1
_OBSOLETE_PACKET = 2
_SIMPLE_PACKET = 3
_ENHANCED_PACKET = 6

_NS_PER_S = 1_000_000_000
_LAST_SECOND = 9_223_372_035
"""The last whole second since the epoch that int64 nanoseconds can hold."""


@kernel
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


@kernel
def to_ns(high: Any, low: Any, resolution: Any, offset_s: Any) -> Any:
    """Nanoseconds of a pcapng time of 64 bits, and whether they fit.

    ``resolution`` is the if_tsresol byte: ticks are 10^-n s, or 2^-n s with the top bit set.
    """
    ticks = np.uint64(high) << np.uint64(32) | np.uint64(low)
    billion = np.uint64(_NS_PER_S)
    seconds, ns = np.uint64(0), np.uint64(0)
    exponent = np.uint64(resolution & 0x7F)
    if resolution & 0x80:
        fraction = ticks
        if exponent < np.uint64(64):
            seconds = ticks >> exponent
            fraction = ticks - (seconds << exponent)
        if exponent <= np.uint64(32):
            ns = fraction * billion >> exponent
        elif exponent < np.uint64(96):  # in two halves: the product does not fit 64 bits
            upper = (fraction >> np.uint64(32)) * billion
            lower = (fraction & np.uint64(0xFFFFFFFF)) * billion
            ns = (upper + (lower >> np.uint64(32))) >> (exponent - np.uint64(32))
    elif exponent <= np.uint64(28):
        unit = np.uint64(1)
        steps = np.int64(exponent) if exponent <= np.uint64(9) else np.int64(exponent) - 9
        for _ in range(steps):
            unit *= np.uint64(10)
        if exponent <= np.uint64(9):
            seconds = ticks // unit
            ns = (ticks - seconds * unit) * (billion // unit)
        else:
            whole = ticks // unit
            seconds = whole // billion
            ns = whole - seconds * billion
    if seconds > np.uint64(_LAST_SECOND) or offset_s > _LAST_SECOND or offset_s < -_LAST_SECOND:
        return np.int64(0), False
    shifted = np.int64(seconds) + offset_s
    if shifted > _LAST_SECOND:
        return np.int64(0), False
    return shifted * _NS_PER_S + np.int64(ns), True


@kernel
def walk_pcapng(
    buf: Any, pos: Any, end: Any, big_endian: Any, interfaces: Any, base: Any, count: Any,
    records: Any, findings: Any,
) -> Any:  # fmt: skip
    """Index whole pcapng packet blocks of ``buf[pos:end]``; returns (records, position, status).

    ``interfaces`` are the snap length, if_tsresol and if_tsoffset of all interfaces so far;
    those of this section are the ``count`` from ``base`` on. The position may lie beyond ``end``:
    a long block of no interest is to be skipped.
    """
    snaplens, resolutions, offsets_s = interfaces
    at, caplen, wire, ts_ns, iface = records
    n = 0
    while n < len(at):
        left = end - pos
        if left < 12:
            return n, pos, MORE
        block = be32(buf, pos) if big_endian else le32(buf, pos)
        length = be32(buf, pos + 4) if big_endian else le32(buf, pos + 4)
        if block == SECTION_HEADER:  # its byte order is its own
            return n, pos, CONTROL
        if length < 12 or length & 3:
            return n, pos, DAMAGED
        is_packet = block in (_ENHANCED_PACKET, _SIMPLE_PACKET, _OBSOLETE_PACKET)
        if length > MAX_BLOCK_BYTES:
            if is_packet or block == INTERFACE_DESCRIPTION:
                return n, pos, DAMAGED
            findings[UNKNOWN_BLOCKS] += not _is_known(block)
            if length > left:
                findings[LONG_BLOCK] = pos
                return n, pos + length, MORE
            pos += length
            continue
        if length > left:
            return n, pos, MORE
        trailer = be32(buf, pos + length - 4) if big_endian else le32(buf, pos + length - 4)
        if trailer != length:
            return n, pos, DAMAGED
        if block == INTERFACE_DESCRIPTION:
            return n, pos, CONTROL
        if not is_packet:
            findings[UNKNOWN_BLOCKS] += not _is_known(block)
            pos += length
            continue

        sound = True
        if block == _SIMPLE_PACKET:
            interface = np.int64(0)
            sound = length >= 16 and count > 0
            if sound:
                original = be32(buf, pos + 8) if big_endian else le32(buf, pos + 8)
                captured = min(original, length - 16)
                if snaplens[base] > 0:
                    captured = min(captured, np.int64(snaplens[base]))
                time = np.int64(NO_TIME)
                data = pos + 12
        else:
            sound = length >= 32
            if sound:
                if block == _OBSOLETE_PACKET:
                    interface = be16(buf, pos + 8) if big_endian else le16(buf, pos + 8)
                else:
                    interface = be32(buf, pos + 8) if big_endian else le32(buf, pos + 8)
                high = be32(buf, pos + 12) if big_endian else le32(buf, pos + 12)
                low = be32(buf, pos + 16) if big_endian else le32(buf, pos + 16)
                captured = be32(buf, pos + 20) if big_endian else le32(buf, pos + 20)
                original = be32(buf, pos + 24) if big_endian else le32(buf, pos + 24)
                data = pos + 28
                sound = interface < count and captured <= length - 32
                if sound:
                    time, sound = to_ns(
                        high, low, np.int64(resolutions[base + interface]), offsets_s[base + interface]
                    )
        if sound:
            at[n] = data
            caplen[n] = captured
            wire[n] = max(captured, min(original, 0x7FFFFFFF))
            ts_ns[n] = time
            iface[n] = base + interface
            n += 1
        else:
            findings[DAMAGED_RECORDS] += 1
            if findings[FIRST_DAMAGE] < 0:
                findings[FIRST_DAMAGE] = pos
        pos += length
    return n, pos, FULL


@kernel
def _is_known(block: Any) -> Any:
    """Whether a block without packets is one that the specification or Wireshark names."""
    return (
        (4 <= block <= 10)  # names, statistics, IRIG, ARINC, journal, secrets
        or block == 0x00000BAD  # custom
        or block == 0x40000BAD
        or (0x201 <= block <= 0x20D)  # Sysdig
    )
