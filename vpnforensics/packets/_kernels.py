"""Loops over packets: frames to columns, and addresses to small integers.

Lengths are taken from headers; how much of a frame was captured only bounds what may be read. No
load is made before the bytes it needs are known to lie inside the captured frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.capture._kernels import NO_TIME
from vpnforensics.capture._loads import be16, be32, be64, le64
from vpnforensics.capture.encapsulations import (
    GENEVE_PORT,
    GTPU_PORT,
    NAMES,
    NONE,
    VXLAN_PORT,
    VXLAN_PORT_LINUX,
)
from vpnforensics.capture.linktypes import KIND_RAW, KIND_SLL2, KIND_UNSUPPORTED
from vpnforensics.kernels import kernel
from vpnforensics.packets._headers import (
    CONTRADICTORY,
    HEADER_CUT,
    OPTIONS_CUT,
    SOUND,
    icmp_header,
    ipv4_header,
    ipv6_header,
    skip_extensions,
    tcp_header,
    udp_header,
)
from vpnforensics.packets._layers import CUT, NOT_IP, UNTOLD, link_payload, wrapped_in
from vpnforensics.packets.table import (
    FRAG_FIRST,
    FRAG_LATER,
    FRAG_WHOLE,
    PROTO_AH,
    PROTO_ESP,
    PROTO_GRE,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    PROTO_UDP,
    TCP_RST,
)

# Cells of the counter array, in the order of the health fields they become.
(
    ROW,  # rows written so far
    FRAME,  # frames seen so far
    ADDRESSES,  # distinct addresses so far
    LAST_NS,  # time of the last timed frame
    LARGEST_MSS,  # largest MSS announced so far
    SNAPPED,
    CUT_HEADS,
    OUT_OF_ORDER,
    TIME_JUMPS,
    DUPLICATES,
    NON_IP,
    MALFORMED,
    SUPER_FRAMES,
    FRAGMENTS,
    UNSUPPORTED,
    UNTIMED,
    CUT_OPTIONS,
    CUT_HEADERS,
    LATER_HOPS,
    CANDIDATES,  # packets that may be in an encapsulation, by protocol and port
    UNTOLD_WRAPPED,  # rows that are later fragments of such, or have something else than IP inside
    CUT_WRAPPED,  # those of which nothing was captured of what is inside
    ANSWERED,  # not 0 once a wrapped packet came from where others go, or they go to too many places
    WRAPPED,  # and those in each encapsulation, by number
) = range(24)
COUNTERS = WRAPPED + len(NAMES)

RECENT = 1024
"""Cells of the table of recently seen packets; a power of two."""
TUNNEL_HEADER_BYTES = 16
"""The longest header of a tunnel over datagrams that is read (WireGuard, nebula)."""
CONTENT_BYTES = 112
"""As far behind the first 16 are packets without a checksum compared: over the headers inside of a tunnel."""
DUPLICATE_NS = 10_000_000
"""A packet equal to one at most this long before it is a duplicate of it."""
JUMP_NS = 3_600_000_000_000
JUMBO_BYTES = 9216
"""The longest IP packet that links in use carry, loopback aside."""


@kernel
def _mix(x: Any) -> Any:
    """Finaliser of splitmix64: every input bit moves every output bit."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
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


@kernel
def rebuild_slots(packed: Any, versions: Any, count: Any, slots: Any, seed: Any) -> Any:
    """Enter the first ``count`` addresses into an empty slot table."""
    mask = len(slots) - 1
    for number in range(count):
        cell = np.int64(_mix(packed[number, 1] ^ _mix(packed[number, 0] ^ seed)) & np.uint64(mask))
        while slots[cell] >= 0:
            cell = (cell + 1) & mask
        slots[cell] = number


@kernel
def _count_step(before_ns: Any, ts: Any, counters: Any) -> Any:
    """Count a step back in time and one too long, either way."""
    if ts < before_ns:
        counters[OUT_OF_ORDER] += 1
        step = np.uint64(before_ns) - np.uint64(ts)  # unsigned: right between any two int64 times
    else:
        step = np.uint64(ts) - np.uint64(before_ns)
    if step > np.uint64(JUMP_NS):
        counters[TIME_JUMPS] += 1


@kernel
def _copy_head(buf: Any, at: Any, count: Any, heads: Any, row: Any) -> Any:
    """The first 32 of ``count`` bytes as four words, filled up with zeros."""
    if count >= 32:
        for word in range(4):
            heads[row, word] = le64(buf, at + 8 * word)
        return
    for word in range(4):
        value = np.uint64(0)
        for k in range(min(8, count - 8 * word)):
            value |= np.uint64(buf[at + 8 * word + k]) << np.uint64(8 * k)
        heads[row, word] = value


@kernel
def _content(buf: Any, at: Any, end: Any) -> Any:
    """Digest of the captured bytes from ``at`` on, the first ``CONTENT_BYTES`` of them."""
    digest = np.uint64(0)
    for pos in range(at, min(end, at + CONTENT_BYTES) - 7, 8):
        digest = _mix(digest ^ le64(buf, pos))
    return digest


@kernel
def decode_frames(
    buf: Any, n: Any, records: Any, if_kind: Any, if_number: Any,
    columns: Any, addresses: Any, recent: Any, counters: Any, seed: Any,
) -> Any:  # fmt: skip
    """Decode indexed frames into the columns, from row ``counters[ROW]`` on.

    Parameters
    ----------
    buf : ndarray of uint8
        The bytes that the records lie in.
    n : int
        Frames to decode.
    records : tuple of ndarray
        Position, captured and wire length, time and interface of each frame.
    if_kind, if_number : ndarray of uint8, ndarray of uint16
        By interface: how the IP packet is found, and the number that the table is to hold.
    columns : tuple of ndarray
        Those of the packet table in order, with room for ``n`` more rows.
    addresses : tuple of ndarray
        Hash slots, packed addresses and their versions, with room for ``2 n`` more addresses.
    recent : tuple of ndarray
        Digest, time, and interface and TTL of packets seen a moment ago, by digest.
    counters : ndarray of int64
        Positions and findings; see the cells above.
    seed : uint64
        Key of the address hash.
    """
    rec_at, rec_caplen, rec_wire, rec_ts, rec_iface = records
    (
        c_ts, c_frame, c_iface, c_version, c_src, c_dst, c_proto, c_sport, c_dport, c_ip_len, c_payload,
        c_ip_id, c_df, c_ttl, c_tos, c_frag, c_flags, c_seq, c_ack, c_window, c_tsval, c_tsecr, c_has_ts,
        c_mss, c_head,
    ) = columns  # fmt: skip
    slots, packed, versions = addresses
    recent_hash, recent_ns, recent_place = recent
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
        is_snapped = rec_caplen[i] < wire_bytes
        if is_snapped:
            counters[SNAPPED] += 1
        ts = rec_ts[i]
        if ts == NO_TIME:
            ts = 0
            counters[UNTIMED] += 1
        else:
            if last_ns != NO_TIME:
                _count_step(last_ns, ts, counters)
            last_ns = ts

        kind = if_kind[rec_iface[i]]
        iface = np.int64(if_number[rec_iface[i]])
        if kind == KIND_UNSUPPORTED:
            counters[UNSUPPORTED] += 1
        l3 = link_payload(buf, start, end, kind)
        if l3 == NOT_IP:
            counters[NON_IP] += 1
            continue
        if l3 < 0 or l3 >= end:
            counters[CUT_HEADERS if is_snapped else MALFORMED] += 1
            continue
        if kind == KIND_SLL2:
            iface = be32(buf, start + 4) & 0xFFFF

        version = np.int64(buf[l3]) >> 4
        wire_ip = wire_bytes - (l3 - start)
        if version == 4:
            network = ipv4_header(buf, l3, end, wire_ip)
        elif version == 6:
            network = ipv6_header(buf, l3, end, wire_ip)
        else:
            counters[NON_IP if kind == KIND_RAW else MALFORMED] += 1
            continue
        header_bytes, ip_bytes, proto, ip_id, df, ttl, tos, fragment, huge = network
        if header_bytes == 0:
            is_cut = is_snapped and end - l3 < (20 if version == 4 else 40)
            counters[CUT_HEADERS if is_cut else MALFORMED] += 1
            continue
        state = SOUND if ip_bytes <= wire_ip else CONTRADICTORY
        if version == 4:
            src_high, dst_high = np.uint64(0), np.uint64(0)
            src_low, dst_low = np.uint64(be32(buf, l3 + 12)), np.uint64(be32(buf, l3 + 16))
        else:
            src_high, src_low = be64(buf, l3 + 8), be64(buf, l3 + 16)
            dst_high, dst_low = be64(buf, l3 + 24), be64(buf, l3 + 32)

        end = min(end, l3 + ip_bytes)  # without link-layer padding
        l4 = l3 + header_bytes
        left = ip_bytes - header_bytes
        if version == 6 or (proto == PROTO_AH and fragment >> 3 == 0):
            l4, left, proto, ext_fragment, ext_state = skip_extensions(buf, l4, end, left, proto)
            state = max(state, ext_state)
            fragment |= ext_fragment
        frag = FRAG_WHOLE
        if fragment:
            frag = FRAG_LATER if fragment >> 3 else FRAG_FIRST
            counters[FRAGMENTS] += 1

        sport, dport, seq, ack, flags, window, checksum = 0, 0, 0, 0, 0, 0, 0
        has_ts, tsval, tsecr, mss = 0, 0, 0, 0
        head_at, payload, l4_state = l4, left, SOUND
        if frag == FRAG_LATER:
            pass
        elif proto == PROTO_TCP:
            (
                sport, dport, seq, ack, flags, window, checksum, tcp_bytes, payload,
                has_ts, tsval, tsecr, mss, l4_state,
            ) = tcp_header(buf, l4, end, left)  # fmt: skip
            head_at = l4 + tcp_bytes if tcp_bytes >= 0 else end
            largest_mss = max(largest_mss, mss)
        elif proto == PROTO_UDP:
            sport, dport, checksum, payload, l4_state = udp_header(buf, l4, end, left, frag == FRAG_WHOLE)
            head_at = l4 + 8
            if dport == VXLAN_PORT or dport == VXLAN_PORT_LINUX or dport == GENEVE_PORT or dport == GTPU_PORT:
                counters[CANDIDATES] += 1
        elif proto == (PROTO_ICMP if version == 4 else PROTO_ICMPV6):
            sport, dport, checksum, seq, l4_state = icmp_header(buf, l4, end, left, version)
        elif proto == PROTO_GRE:
            counters[CANDIDATES] += 1
        state = max(state, l4_state)
        if state == CONTRADICTORY:
            counters[MALFORMED] += 1
        elif state == HEADER_CUT:
            counters[CUT_HEADERS] += 1
        elif state == OPTIONS_CUT:
            counters[CUT_OPTIONS] += 1
        if (
            huge
            or ip_bytes > JUMBO_BYTES
            or (proto == PROTO_TCP and largest_mss and payload > max(largest_mss, 1460))
        ):
            counters[SUPER_FRAMES] += 1

        src = _intern(src_high, src_low, version, slots, packed, versions, known, seed)
        known = max(known, src + 1)
        dst = _intern(dst_high, dst_low, version, slots, packed, versions, known, seed)
        known = max(known, dst + 1)

        c_ts[row] = ts
        c_frame[row] = frame_number
        c_iface[row] = iface
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
        captured = min(end - head_at, payload)
        _copy_head(buf, head_at, captured, c_head, row)
        if (
            (proto == PROTO_UDP or proto == PROTO_ESP)
            and frag != FRAG_LATER
            and captured < min(payload, TUNNEL_HEADER_BYTES)
        ):
            counters[CUT_HEADS] += 1

        if flags & TCP_RST == 0:  # hosts send trains of equal resets
            digest = _mix(np.uint64(src) << np.uint64(32) | np.uint64(dst))
            digest = _mix(digest ^ np.uint64(seq << 32 | ack))
            digest = _mix(digest ^ np.uint64(tsval << 32 | tsecr))
            digest = _mix(digest ^ np.uint64(checksum << 32 | sport << 16 | dport))
            digest = _mix(digest ^ np.uint64((ip_id & 0xFFFF) << 48 | fragment << 32 | flags << 16 | window))
            digest = _mix(digest ^ np.uint64(ip_bytes << 16 | tos << 8 | proto))
            digest = _mix(_mix(digest ^ c_head[row, 0]) ^ c_head[row, 1])
            if checksum == 0:  # none vouches for the rest
                digest = _mix(digest ^ _content(buf, head_at + 16, head_at + captured))
            cell = np.int64(digest & np.uint64(RECENT - 1))
            here = iface << 8 | ttl
            is_later_hop = False
            if recent_hash[cell] == digest and 0 <= ts - recent_ns[cell] <= DUPLICATE_NS:
                is_later_hop = ttl < recent_place[cell] & 0xFF
                if not is_later_hop and recent_place[cell] != here:  # of another interface
                    cell ^= 1
            if is_later_hop:
                counters[LATER_HOPS] += 1
            else:
                if (
                    recent_hash[cell] == digest
                    and 0 <= ts - recent_ns[cell] <= DUPLICATE_NS
                    and recent_place[cell] == here
                ):
                    counters[DUPLICATES] += 1
                recent_hash[cell] = digest
                recent_ns[cell] = ts
                recent_place[cell] = here
        row += 1

    counters[ROW] = row
    counters[FRAME] = frame_number
    counters[ADDRESSES] = known
    counters[LAST_NS] = last_ns
    counters[LARGEST_MSS] = largest_mss


@kernel
def _count_wrapped(buf: Any, l3: Any, encapsulation: Any, collectors: Any, counters: Any) -> Any:
    """Count a wrapped packet, and look whether it answers another."""
    counters[WRAPPED + encapsulation] += 1
    if buf[l3] >> 4 == 4:
        src, dst = np.uint64(be32(buf, l3 + 12)), np.uint64(be32(buf, l3 + 16))
    else:
        src, dst = _mix(be64(buf, l3 + 8)) ^ be64(buf, l3 + 16), _mix(be64(buf, l3 + 24)) ^ be64(buf, l3 + 32)
    known = np.int64(collectors[0])
    is_known = False
    for k in range(1, known + 1):
        if collectors[k] == src:
            counters[ANSWERED] = 1
        is_known |= collectors[k] == dst
    if not is_known:
        if known + 1 == len(collectors):
            counters[ANSWERED] = 1
        else:
            collectors[known + 1] = dst
            collectors[0] = known + 1


@kernel
def unwrap_frames(
    buf: Any, n: Any, records: Any, if_kind: Any, decap: Any, collectors: Any, counters: Any
) -> Any:
    """Count what taps wrapped, and let the records of one encapsulation point at the packets inside.

    Parameters
    ----------
    buf, n, records, if_kind
        As for :func:`decode_frames`, of which this is the step before. A record that is unwrapped is of
        another interface, as many further as there are: of kind ``KIND_RAW``, or twice as many further, of
        ``KIND_NOTHING``, where no IP packet is inside.
    decap : int
        The encapsulation that is read through; ``NONE`` for none.
    collectors : ndarray of uint64
        How many destinations of wrapped packets are known, and digests of their addresses.
    counters : ndarray of int64
    """
    rec_at, rec_caplen, rec_wire, _, rec_iface = records
    for i in range(n):
        start = rec_at[i]
        end, wire_end = start + rec_caplen[i], start + rec_wire[i]
        l3 = link_payload(buf, start, end, if_kind[rec_iface[i]])
        if l3 < 0 or l3 >= end:
            continue
        encapsulation, inner, inner_end = wrapped_in(buf, l3, end, wire_end)
        if encapsulation == NONE:
            continue
        if encapsulation == UNTOLD:
            counters[UNTOLD_WRAPPED] += 1
            continue
        if inner != NOT_IP:
            _count_wrapped(buf, l3, encapsulation, collectors, counters)
        if encapsulation != decap:
            if inner == NOT_IP:
                counters[UNTOLD_WRAPPED] += 1
            continue
        rec_iface[i] += len(if_kind)
        if inner == NOT_IP:
            rec_iface[i] += len(if_kind)
        elif inner == CUT:
            counters[CUT_WRAPPED] += 1
            rec_caplen[i] = 0
        else:
            size = 0
            if end - inner >= 6:
                size = be16(buf, inner + 2) if buf[inner] >> 4 == 4 else be16(buf, inner + 4) + 40
            rec_at[i] = inner
            rec_caplen[i] = min(end, inner_end) - inner
            # A tap sends on the first bytes only, where the whole does not fit: a packet cut short.
            rec_wire[i] = max(inner_end - inner, size)
