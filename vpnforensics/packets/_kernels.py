"""Loops over packets: frames to columns, and addresses to small integers.

Lengths are taken from headers; how much of a frame was captured only bounds what may be read. No
load is made before the bytes it needs are known to lie inside the captured frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vpnforensics.capture._kernels import NO_TIME
from vpnforensics.capture._loads import be16, be32, be64, le32, le64
from vpnforensics.capture.linktypes import (
    KIND_ETHERNET,
    KIND_NULL,
    KIND_PPP,
    KIND_RAW,
    KIND_SLL,
    KIND_SLL2,
    KIND_UNSUPPORTED,
)

# Cells of the counter array, in the order of the health fields they become.
(
    ROW,  # rows written so far
    FRAME,  # frames seen so far
    ADDRESSES,  # distinct addresses so far
    LAST_NS,  # time of the last timed frame
    LARGEST_MSS,  # largest MSS announced so far
    SNAPPED,
    OUT_OF_ORDER,
    TIME_JUMPS,
    DUPLICATES,
    NON_IP,
    MALFORMED,
    SUPER_FRAMES,
    FRAGMENTS,
    UNSUPPORTED,
    UNTIMED,
    COUNTERS,
) = range(16)

RECENT = 1024
"""Cells of the table of recently seen packets; a power of two."""
DUPLICATE_NS = 10_000_000
"""A packet equal to one at most this long before it is a duplicate of it."""
JUMP_NS = 3_600_000_000_000
JUMBO_BYTES = 9216
"""The longest IP packet that links in use carry, loopback aside."""

_NOT_IP = -1
_CUT = -2


@njit(cache=True, nogil=True)
def _mix(x: Any) -> Any:
    """Finaliser of splitmix64: every input bit moves every output bit."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _intern(
    high: Any, low: Any, version: Any, slots: Any, packed: Any, versions: Any, count: Any, seed: Any
) -> Any:
    """Number of an address, a new one (``count``) if it was not seen before."""
    mask = len(slots) - 1
    cell = np.int64(_mix(low ^ _mix(high ^ seed)) & np.uint64(mask))
    while True:
        number = slots[cell]
        if number < 0:
            slots[cell] = count
            packed[count, 0] = high
            packed[count, 1] = low
            versions[count] = version
            return count
        if packed[number, 1] == low and packed[number, 0] == high and versions[number] == version:
            return number
        cell = (cell + 1) & mask


@njit(cache=True, nogil=True)
def rebuild_slots(packed: Any, versions: Any, count: Any, slots: Any, seed: Any) -> Any:
    """Enter the first ``count`` addresses into an empty slot table."""
    mask = len(slots) - 1
    for number in range(count):
        cell = np.int64(_mix(packed[number, 1] ^ _mix(packed[number, 0] ^ seed)) & np.uint64(mask))
        while slots[cell] >= 0:
            cell = (cell + 1) & mask
        slots[cell] = number


@njit(cache=True, nogil=True)
def _ppp_payload(buf: Any, pos: Any, end: Any) -> Any:
    """Offset of the IP packet behind a PPP protocol field of one or two bytes (RFC 1661, 6.5)."""
    if end - pos < 2:
        return _CUT
    if buf[pos] & 1:
        protocol, pos = np.int64(buf[pos]), pos + 1
    else:
        protocol, pos = be16(buf, pos), pos + 2
    return pos if protocol == 0x21 or protocol == 0x57 else _NOT_IP


@njit(cache=True, nogil=True)
def _ethertype_payload(buf: Any, pos: Any, end: Any, ethertype: Any) -> Any:
    """Offset of the IP packet behind an EtherType, its VLAN tags and PPPoE."""
    while ethertype == 0x8100 or ethertype == 0x88A8 or ethertype == 0x9100:
        if end - pos < 4:
            return _CUT
        ethertype, pos = be16(buf, pos + 2), pos + 4
    if ethertype == 0x0800 or ethertype == 0x86DD:
        return pos
    if ethertype == 0x8864:
        return _ppp_payload(buf, pos + 6, end)
    return _NOT_IP


@njit(cache=True, nogil=True)
def _link_payload(buf: Any, pos: Any, end: Any, kind: Any) -> Any:
    """Offset of the IP packet in a frame, ``_NOT_IP`` or ``_CUT``."""
    length = end - pos
    if kind == KIND_ETHERNET:
        return _ethertype_payload(buf, pos + 14, end, be16(buf, pos + 12)) if length >= 14 else _CUT
    if kind == KIND_RAW:
        return pos
    if kind == KIND_SLL:
        return _ethertype_payload(buf, pos + 16, end, be16(buf, pos + 14)) if length >= 16 else _CUT
    if kind == KIND_SLL2:
        return _ethertype_payload(buf, pos + 20, end, be16(buf, pos)) if length >= 20 else _CUT
    if kind == KIND_NULL:
        if length < 4:
            return _CUT
        family = le32(buf, pos)
        if family > 0xFFFF:  # written by a machine of the other byte order
            family = be32(buf, pos)
        is_ip = family == 2 or family == 24 or family == 28 or family == 30 or family == 10
        return pos + 4 if is_ip else _NOT_IP
    if kind == KIND_PPP:
        if length >= 2 and be16(buf, pos) == 0xFF03:
            return _ppp_payload(buf, pos + 2, end)
        return _ppp_payload(buf, pos, end)
    return _NOT_IP


@njit(cache=True, nogil=True)
def _skip_extensions(buf: Any, pos: Any, end: Any, length: Any, proto: Any) -> Any:
    """Pass IPv6 extension headers and AH (RFC 8200, 4; RFC 4302).

    Returns (position, remaining length by the headers, protocol, fragment field or 0, sound).
    """
    fragment = 0
    while True:
        if proto == 0 or proto == 43 or proto == 60 or proto == 135 or proto == 139 or proto == 140:
            unit, extra = 8, 1
        elif proto == 51:
            unit, extra = 4, 2
        elif proto == 44:
            unit, extra = 0, 0
        else:
            return pos, length, proto, fragment, True
        if end - pos < 8:
            return pos, length, proto, fragment, False
        size = (np.int64(buf[pos + 1]) + extra) * unit if unit else 8
        if size > length:
            return pos, length, proto, fragment, False
        following = np.int64(buf[pos])
        pos, length = pos + size, length - size
        if proto == 44:
            fragment = be16(buf, pos - 6) & 0xFFF9
            if fragment >> 3:
                return pos, length, following, fragment, True
        proto = following


@njit(cache=True, nogil=True)
def _tcp_options(buf: Any, pos: Any, stop: Any) -> Any:
    """(has_ts, tsval, tsecr, mss, sound) of the options in ``buf[pos:stop]`` (RFC 9293, 3.2)."""
    has_ts, tsval, tsecr, mss = 0, 0, 0, 0
    if stop - pos == 12 and be32(buf, pos) == 0x0101080A:  # what almost every segment carries
        return 1, be32(buf, pos + 4), be32(buf, pos + 8), 0, True
    while pos < stop:
        option = buf[pos]
        if option == 0:
            break
        if option == 1:
            pos += 1
            continue
        if stop - pos < 2:
            return has_ts, tsval, tsecr, mss, False
        size = np.int64(buf[pos + 1])
        if size < 2 or size > stop - pos:
            return has_ts, tsval, tsecr, mss, False
        if option == 8 and size == 10:
            has_ts, tsval, tsecr = 1, be32(buf, pos + 2), be32(buf, pos + 6)
        elif option == 2 and size == 4:
            mss = be16(buf, pos + 2)
        pos += size
    return has_ts, tsval, tsecr, mss, True


@njit(cache=True, nogil=True)
def decode_frames(
    buf: Any,
    n: Any,
    records: Any,
    if_kind: Any,
    if_number: Any,
    columns: Any,
    addresses: Any,
    recent: Any,
    counters: Any,
    seed: Any,
) -> Any:
    """Decode ``n`` indexed frames into the columns, from row ``counters[ROW]`` on.

    The caller provides room for ``n`` more rows and ``2 n`` more addresses.
    """
    rec_at, rec_caplen, rec_wire, rec_ts, rec_iface = records
    (
        c_ts, c_frame, c_iface, c_version, c_src, c_dst, c_proto, c_sport, c_dport, c_ip_len, c_payload,
        c_ip_id, c_df, c_ttl, c_tos, c_frag, c_flags, c_seq, c_ack, c_window, c_tsval, c_tsecr, c_has_ts,
        c_mss, c_head,
    ) = columns  # fmt: skip
    slots, packed, versions = addresses
    recent_hash, recent_ns = recent
    row = counters[ROW]
    frame_number = counters[FRAME]
    known = counters[ADDRESSES]
    last_ns = counters[LAST_NS]
    largest_mss = counters[LARGEST_MSS]

    for i in range(n):
        frame_number += 1
        start = rec_at[i]
        end = start + rec_caplen[i]
        wire_bytes = np.int64(rec_wire[i])
        ts = rec_ts[i]
        local = rec_iface[i]
        if rec_caplen[i] < wire_bytes:
            counters[SNAPPED] += 1
        if ts == NO_TIME:
            ts = 0
            counters[UNTIMED] += 1
        else:
            if last_ns != NO_TIME:
                if ts < last_ns:
                    counters[OUT_OF_ORDER] += 1
                # Unsigned, so that the step between any two int64 times is right.
                step = (
                    np.uint64(ts) - np.uint64(last_ns) if ts > last_ns else np.uint64(last_ns) - np.uint64(ts)
                )
                if step > np.uint64(JUMP_NS):
                    counters[TIME_JUMPS] += 1
            last_ns = ts

        kind = if_kind[local]
        number = np.int64(if_number[local])
        if kind == KIND_UNSUPPORTED:
            counters[UNSUPPORTED] += 1
        l3 = _link_payload(buf, start, end, kind)
        if l3 == _NOT_IP:
            counters[NON_IP] += 1
            continue
        if l3 == _CUT or l3 >= end:
            counters[MALFORMED] += 1
            continue
        if kind == KIND_SLL2:
            number = be32(buf, start + 4) & 0xFFFF

        # The network header.
        version = np.int64(buf[l3]) >> 4
        wire_ip = wire_bytes - (l3 - start)
        sound = True
        huge = False
        fragment = 0
        if version == 4:
            header_bytes = (np.int64(buf[l3]) & 15) * 4
            if end - l3 < 20 or header_bytes < 20:
                counters[MALFORMED] += 1
                continue
            ip_bytes = be16(buf, l3 + 2)
            if ip_bytes == 0:  # segmentation offload: the length does not fit the field
                ip_bytes = wire_ip
                huge = True
            if ip_bytes < header_bytes:
                counters[MALFORMED] += 1
                continue
            tos = np.int64(buf[l3 + 1])
            ip_id = be16(buf, l3 + 4)
            field = be16(buf, l3 + 6)
            df = (field >> 14) & 1
            fragment = (field & 0x1FFF) << 3 | (field >> 13) & 1
            ttl = np.int64(buf[l3 + 8])
            proto = np.int64(buf[l3 + 9])
            src_high, dst_high = np.uint64(0), np.uint64(0)
            src_low, dst_low = np.uint64(be32(buf, l3 + 12)), np.uint64(be32(buf, l3 + 16))
        elif version == 6:
            header_bytes = np.int64(40)
            if end - l3 < 40:
                counters[MALFORMED] += 1
                continue
            ip_bytes = be16(buf, l3 + 4) + 40
            tos = (be16(buf, l3) >> 4) & 0xFF
            proto = np.int64(buf[l3 + 6])
            if ip_bytes == 40 and wire_ip > 65575:
                ip_bytes = wire_ip
                huge = True
            elif ip_bytes == 40 and proto == 0 and end - l3 >= 48 and be16(buf, l3 + 42) == 0xC204:
                ip_bytes = be32(buf, l3 + 44) + 40  # jumbogram (RFC 2675)
                if ip_bytes > 0x7FFFFFFF:
                    counters[MALFORMED] += 1
                    continue
            ip_id = np.int64(-1)
            df = np.int64(1)
            ttl = np.int64(buf[l3 + 7])
            src_high, src_low = be64(buf, l3 + 8), be64(buf, l3 + 16)
            dst_high, dst_low = be64(buf, l3 + 24), be64(buf, l3 + 32)
        else:
            if kind == KIND_RAW:
                counters[NON_IP] += 1
            else:
                counters[MALFORMED] += 1
            continue
        if ip_bytes > wire_ip:
            sound = False

        # From here on `end` excludes link-layer padding.
        end = min(end, l3 + ip_bytes)
        l4 = l3 + header_bytes
        left = ip_bytes - header_bytes
        if version == 6 or (proto == 51 and fragment >> 3 == 0):
            l4, left, proto, ext_fragment, ext_sound = _skip_extensions(buf, l4, end, left, proto)
            sound = sound and ext_sound
            fragment |= ext_fragment
        frag = 0
        if fragment:
            frag = 2 if fragment >> 3 else 1
            counters[FRAGMENTS] += 1

        # The transport header: what of it was captured, and nothing else.
        sport: Any = 0
        dport: Any = 0
        flags, seq, ack, window = 0, 0, 0, 0
        has_ts, tsval, tsecr, mss, checksum = 0, 0, 0, 0, 0
        here = end - l4
        head_at = l4
        payload = left
        if frag == 2:
            pass
        elif proto == 6:
            if here >= 4:
                sport, dport = be16(buf, l4), be16(buf, l4 + 2)
            if here >= 20:
                seq, ack = be32(buf, l4 + 4), be32(buf, l4 + 8)
                flags = be16(buf, l4 + 12) & 0x0FFF
                window = be16(buf, l4 + 14)
                checksum = be16(buf, l4 + 16)
                tcp_bytes: Any = np.int64(buf[l4 + 12] >> 4) * 4
                if tcp_bytes < 20 or tcp_bytes > left:
                    sound = False
                    tcp_bytes = max(20, min(tcp_bytes, left))
                elif tcp_bytes > 20:
                    stop = min(end, l4 + tcp_bytes)
                    has_ts, tsval, tsecr, mss, options_sound = _tcp_options(buf, l4 + 20, stop)
                    sound = sound and options_sound and stop == l4 + tcp_bytes
                    if mss > largest_mss:
                        largest_mss = mss
                head_at = l4 + tcp_bytes
                payload = left - tcp_bytes
            else:
                sound = False
                payload = 0
                head_at = end
                if here >= 8:
                    seq = be32(buf, l4 + 4)
                if here >= 12:
                    ack = be32(buf, l4 + 8)
                if here >= 14:
                    flags = be16(buf, l4 + 12) & 0x0FFF
                    payload = np.int64(max(0, left - max(20, np.int64(buf[l4 + 12] >> 4) * 4)))
                if here >= 16:
                    window = be16(buf, l4 + 14)
        elif proto == 17:
            if here >= 4:
                sport, dport = be16(buf, l4), be16(buf, l4 + 2)
            head_at = l4 + 8
            payload = max(0, left - 8)
            if here >= 8:
                checksum = be16(buf, l4 + 6)
            else:
                sound = False
            if here >= 6 and frag == 0:
                udp_bytes = be16(buf, l4 + 4)
                if 8 <= udp_bytes <= left:
                    payload = udp_bytes - 8
                elif udp_bytes != 0 or left <= 65535:
                    sound = False
        elif (proto == 1 and version == 4) or (proto == 58 and version == 6):
            if here >= 2:
                sport, dport = np.int64(buf[l4]), np.int64(buf[l4 + 1])
            if here >= 4:
                checksum = be16(buf, l4 + 2)
            else:
                sound = False
        if not sound:
            counters[MALFORMED] += 1
        if (
            huge
            or ip_bytes > JUMBO_BYTES
            or (proto == 6 and largest_mss and payload > max(largest_mss, 1460))
        ):
            counters[SUPER_FRAMES] += 1

        src = _intern(src_high, src_low, version, slots, packed, versions, known, seed)
        if src == known:
            known += 1
        dst = _intern(dst_high, dst_low, version, slots, packed, versions, known, seed)
        if dst == known:
            known += 1

        c_ts[row] = ts
        c_frame[row] = frame_number
        c_iface[row] = number
        c_version[row] = version
        c_src[row] = src
        c_dst[row] = dst
        c_proto[row] = proto
        c_sport[row] = sport
        c_dport[row] = dport
        c_ip_len[row] = ip_bytes
        c_payload[row] = payload
        c_ip_id[row] = ip_id
        c_df[row] = df
        c_ttl[row] = ttl
        c_tos[row] = tos
        c_frag[row] = frag
        c_flags[row] = flags
        c_seq[row] = seq
        c_ack[row] = ack
        c_window[row] = window
        c_tsval[row] = tsval
        c_tsecr[row] = tsecr
        c_has_ts[row] = has_ts
        c_mss[row] = mss
        head_bytes = min(end - head_at, payload)
        if head_bytes >= 32:
            c_head[row, 0] = le64(buf, head_at)
            c_head[row, 1] = le64(buf, head_at + 8)
            c_head[row, 2] = le64(buf, head_at + 16)
            c_head[row, 3] = le64(buf, head_at + 24)
        else:
            for word in range(4):
                value = np.uint64(0)
                for k in range(8):
                    if word * 8 + k < head_bytes:
                        value |= np.uint64(buf[head_at + word * 8 + k]) << np.uint64(8 * k)
                c_head[row, word] = value

        # Equal to a packet of the same interface a moment ago? Hosts send trains of equal resets.
        if flags & 0x04 == 0:
            digest = np.uint64(src) << np.uint64(32) | np.uint64(dst)
            digest = _mix(digest) ^ np.uint64(seq << 32 | ack)
            digest = _mix(digest) ^ np.uint64(tsval << 32 | tsecr)
            digest = _mix(digest) ^ np.uint64(number << 48 | checksum << 32 | sport << 16 | dport)
            digest = _mix(digest) ^ np.uint64((ip_id & 0xFFFF) << 48 | fragment << 32 | flags << 16 | window)
            digest = _mix(digest) ^ np.uint64(ip_bytes << 24 | ttl << 16 | tos << 8 | proto)
            digest = _mix(digest ^ c_head[row, 0]) ^ c_head[row, 1]
            digest = _mix(digest)
            cell = np.int64(digest & np.uint64(RECENT - 1))
            if recent_hash[cell] == digest and 0 <= ts - recent_ns[cell] <= DUPLICATE_NS:
                counters[DUPLICATES] += 1
            recent_hash[cell] = digest
            recent_ns[cell] = ts
        row += 1

    counters[ROW] = row
    counters[FRAME] = frame_number
    counters[ADDRESSES] = known
    counters[LAST_NS] = last_ns
    counters[LARGEST_MSS] = largest_mss
