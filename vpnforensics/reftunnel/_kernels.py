"""Cutting TCP super-segments into packets and joining packets into super-segments: loops over bytes.

The kernel does the same (https://docs.kernel.org/networking/segmentation-offloads.html). A super-segment is
cut into packets whose IP ID counts up, whose sequence number advances by the segment size, and of which only
the last has FIN and PSH and only the first CWR. Packets are joined only if cutting would give exactly them
back, and only if their checksums are right: damage is not laundered.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from vpnforensics.kernels import kernel

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

IPPROTO_TCP = 6
FIN, SYN, PSH, ACK, CWR = 0x01, 0x02, 0x08, 0x10, 0x80
MAX_JOINED_BYTES = 65_535

_kernel = partial(kernel, nogil=False)  # a packet takes too little time to let another thread in


@_kernel(inline="always")
def _u16(data: Bytes, at: int) -> int:
    return int(data[at]) << 8 | int(data[at + 1])


@_kernel(inline="always")
def _put16(data: Bytes, at: int, value: int) -> None:
    data[at] = (value >> 8) & 0xFF
    data[at + 1] = value & 0xFF


@_kernel(inline="always")
def _u32(data: Bytes, at: int) -> int:
    return (_u16(data, at) << 16) | _u16(data, at + 2)


@_kernel(inline="always")
def _put32(data: Bytes, at: int, value: int) -> None:
    _put16(data, at, (value >> 16) & 0xFFFF)
    _put16(data, at + 2, value & 0xFFFF)


@_kernel
def _sum(data: Bytes, start: int, stop: int) -> int:
    # All bytes, and the high ones again: two plain sums of 32 bits, which the compiler turns into vector code
    # (0.13 µs for a packet of 1400 bytes; with 64 bits, 0.8).
    body = data[start:stop]
    total = np.uint32(0)
    high = np.uint32(0)
    for at in range(body.size):
        total = np.uint32(total + body[at])
    for at in range(0, body.size, 2):
        high = np.uint32(high + body[at])
    return int(high) * 255 + int(total)


@_kernel(inline="always")
def _fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@_kernel(inline="always")
def _pseudo(data: Bytes, ip: int, proto: int, l4_bytes: int) -> int:
    """Sum over the pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1)."""
    if data[ip] >> 4 == 4:
        return _sum(data, ip + 12, ip + 20) + proto + l4_bytes
    return _sum(data, ip + 8, ip + 40) + proto + l4_bytes


@_kernel(inline="always")
def _ip_checksum(data: Bytes, ip: int, header_bytes: int) -> None:
    _put16(data, ip + 10, 0)
    _put16(data, ip + 10, 0xFFFF ^ _fold(_sum(data, ip, ip + header_bytes)))


@_kernel
def finish_checksum(data: Bytes, start: int, at: int, stop: int) -> None:
    """Complete a checksum whose field holds the pseudo-header sum.

    Parameters
    ----------
    data : ndarray of uint8
        Bytes that hold the packet.
    start, at, stop : int
        Offsets of the first summed byte, of the checksum field, and of the end of the packet.
    """
    value = 0xFFFF ^ _fold(_sum(data, start, stop))
    _put16(data, at, value if value else 0xFFFF)


@_kernel
def cut(
    frame: Bytes, ip: int, stop: int, l4: int, segment: int, first: int, rows: Rows, lengths: Ints
) -> int:
    """Packets of a TCP super-segment, with complete checksums.

    Parameters
    ----------
    frame : ndarray of uint8
        Bytes that hold the super-segment from offset `ip` to offset `stop`.
    l4 : int
        Length of the IP header.
    segment : int
        TCP payload of each packet but the last.
    first : int
        Number of the first packet wanted: a super-segment may be larger than `rows`.
    rows : ndarray of uint8, shape (n, width)
        Where the packets go.
    lengths : ndarray of int64, shape (n,)
        Where their lengths go.

    Returns
    -------
    int
        How many packets were written; 0 when `first` is past the end, or if the frame makes no sense.
    """
    tcp = ip + l4
    header = l4 + 4 * (int(frame[tcp + 12]) >> 4)
    payload = stop - ip - header
    if payload <= 0 or segment <= 0 or header + segment > rows.shape[1]:
        return 0
    total = (payload + segment - 1) // segment
    is_v4 = frame[ip] >> 4 == 4
    identification = _u16(frame, ip + 4)
    sequence = _u32(frame, tcp + 4)
    flags = frame[tcp + 13]
    count = min(total - first, rows.shape[0])
    for index in range(count):
        number = first + index
        body = min(segment, payload - number * segment)
        row = rows[index]
        length = header + body
        row[:header] = frame[ip : ip + header]
        source = ip + header + number * segment
        row[header:length] = frame[source : source + body]
        lengths[index] = length
        if is_v4:
            _put16(row, 2, length)
            _put16(row, 4, (identification + number) & 0xFFFF)
            _ip_checksum(row, 0, l4)
        else:
            _put16(row, 4, length - 40)
        _put32(row, l4 + 4, (sequence + number * segment) & 0xFFFFFFFF)
        now = flags
        if number < total - 1:
            now &= 0xFF ^ (FIN | PSH)
        if number > 0:
            now &= 0xFF ^ CWR
        row[l4 + 13] = now
        _put16(row, l4 + 16, 0)
        value = 0xFFFF ^ _fold(_pseudo(row, 0, IPPROTO_TCP, length - l4) + _sum(row, l4, length))
        _put16(row, l4 + 16, value)
    return count if count > 0 else 0


@_kernel
def _tcp_offset(row: Bytes, ip: int, length: int) -> int:
    """Length of the IP header if the packet is TCP data that may be joined, else 0."""
    if length < 40:
        return 0
    if row[ip] == 0x45:
        # No IP options, not a fragment.
        if row[ip + 9] != IPPROTO_TCP or (_u16(row, ip + 6) & 0xBFFF) != 0:
            return 0
        l4 = 20
    elif row[ip] >> 4 == 6 and length >= 60:
        if row[ip + 6] != IPPROTO_TCP:
            return 0
        l4 = 40
    else:
        return 0
    header = 4 * (row[ip + l4 + 12] >> 4)
    if header < 20 or l4 + header >= length:
        return 0
    flags = row[ip + l4 + 13]
    if flags != ACK and flags != (ACK | PSH):
        return 0
    if _fold(_pseudo(row, ip, IPPROTO_TCP, length - l4) + _sum(row, ip + l4, ip + length)) != 0xFFFF:
        return 0
    if l4 == 20 and _fold(_sum(row, ip, ip + 20)) != 0xFFFF:
        return 0
    return l4


@_kernel
def _continues(first: Bytes, row: Bytes, ip: int, l4: int, header: int, number: int, sent: int) -> bool:
    """Whether `row` is packet `number` of the super-segment that begins with `first`."""
    if l4 == 20:
        if row[ip + 1] != first[ip + 1] or _u16(row, ip + 6) != _u16(first, ip + 6):
            return False
        if _u16(row, ip + 4) != (_u16(first, ip + 4) + number) & 0xFFFF:
            return False
        if row[ip + 8] != first[ip + 8]:
            return False
        addresses = ip + 12
    else:
        if _u32(row, ip) != _u32(first, ip) or row[ip + 7] != first[ip + 7]:
            return False
        addresses = ip + 8
    tcp = ip + l4
    for at in range(addresses, tcp + 4):
        if row[at] != first[at]:
            return False
    if _u32(row, tcp + 4) != (_u32(first, tcp + 4) + sent) & 0xFFFFFFFF:
        return False
    for at in range(tcp + 8, tcp + 13):  # acknowledgement and header length
        if row[at] != first[at]:
            return False
    for at in range(tcp + 14, tcp + 16):  # window
        if row[at] != first[at]:
            return False
    same = True
    for at in range(tcp + 18, ip + header):  # urgent pointer and options: timestamps are equal
        same &= row[at] == first[at]
    return same


@_kernel
def join(rows: Rows, ip: int, lengths: Ints, count: int, groups: Ints, headers: Ints) -> int:
    """Find runs of packets that are one super-segment, and make their first packet its header.

    Parameters
    ----------
    rows : ndarray of uint8, shape (n, width)
        Packets, each behind `ip` zero bytes of room for a virtio header, which is filled in here.
    ip : int
        Offset of the packet in its row.
    lengths : ndarray of int64, shape (n,)
        Packet lengths.
    count : int
        How many rows are in use.
    groups : ndarray of int64, shape (n,)
        Result: the first row of each run, in order.
    headers : ndarray of int64, shape (n,)
        Result: bytes of header that the later packets of the run repeat; 0 for a packet alone.

    Returns
    -------
    int
        Number of runs. Each is written to the TUN with one call.
    """
    found = 0
    at = 0
    while at < count:
        first = rows[at]
        length = lengths[at]
        groups[found] = at
        headers[found] = 0
        for byte in range(ip):
            first[byte] = 0
        at += 1
        # The checksum is verified only if there may be a second packet to join.
        if at < count and lengths[at] <= length:
            l4 = _tcp_offset(first, ip, length)
            if l4 and not first[ip + l4 + 13] & PSH:
                at = _extend(rows, ip, lengths, count, at, l4, length)
                if at > groups[found] + 1:
                    headers[found] = l4 + 4 * (first[ip + l4 + 12] >> 4)
        found += 1
    return found


@_kernel
def _extend(rows: Rows, ip: int, lengths: Ints, count: int, at: int, l4: int, length: int) -> int:
    first = rows[at - 1]
    header = l4 + 4 * (first[ip + l4 + 12] >> 4)
    segment = length - header
    sent = segment
    number = 1
    flags = first[ip + l4 + 13]
    while at < count:
        row = rows[at]
        body = lengths[at] - header
        if body <= 0 or body > segment or header + sent + body > MAX_JOINED_BYTES:
            break
        if _tcp_offset(row, ip, lengths[at]) != l4:
            break
        if not _continues(first, row, ip, l4, header, number, sent):
            break
        sent += body
        number += 1
        at += 1
        flags = row[ip + l4 + 13]
        if body < segment or flags & PSH:
            break
    if number > 1:
        _describe(first, ip, l4, header, segment, header + sent, flags)
    return at


@_kernel
def _describe(first: Bytes, ip: int, l4: int, header: int, segment: int, total: int, flags: int) -> None:
    """Turn a first packet into the header of a super-segment, and fill in its virtio header."""
    if l4 == 20:
        _put16(first, ip + 2, total)
        _ip_checksum(first, ip, 20)
        gso_type = 1
    else:
        _put16(first, ip + 4, total - 40)
        gso_type = 4
    first[ip + l4 + 13] = flags
    _put16(first, ip + l4 + 16, _fold(_pseudo(first, ip, IPPROTO_TCP, total - l4)))
    # virtio is little-endian: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.
    first[0] = 1
    first[1] = gso_type
    first[2], first[3] = header & 0xFF, header >> 8
    first[4], first[5] = segment & 0xFF, segment >> 8
    first[6], first[7] = l4 & 0xFF, l4 >> 8
    first[8], first[9] = 16, 0


def warm_up() -> None:
    """Compile (or load from numba's cache) everything now, so that no packet waits for it."""
    row, rows = np.zeros(64, np.uint8), np.zeros((2, 64), np.uint8)
    numbers = np.zeros(2, np.int64)
    finish_checksum(row, 0, 40, 64)
    cut(row, 10, 40, 20, 0, 0, rows, numbers)
    join(rows, 10, numbers, 2, numbers.copy(), numbers.copy())
