"""The loop over packets: frames to columns.

Lengths are taken from headers; how much of a frame was captured only bounds what may be read. No
load is made before the bytes it needs are known to lie inside the captured frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.capture._kernels import NO_TIME
from vpnforensics.capture._loads import be32, be64, le64
from vpnforensics.capture.encapsulations import (
    GENEVE_PORT,
    GTPU_PORT,
    VXLAN_PORT,
    VXLAN_PORT_LINUX,
)
from vpnforensics.capture.linktypes import KIND_RAW, KIND_SLL2, KIND_UNSUPPORTED
from vpnforensics.kernels import kernel
from vpnforensics.packets._address_kernels import intern, mix
from vpnforensics.packets._counters import (
    ADDRESSES,
    CANDIDATES,
    CUT_HEADERS,
    CUT_HEADS,
    CUT_OPTIONS,
    DUPLICATES,
    FRAGMENTS,
    FRAME,
    LARGEST_MSS,
    LAST_NS,
    LATER_HOPS,
    MALFORMED,
    NON_IP,
    OUT_OF_ORDER,
    ROW,
    SNAPPED,
    SUPER_FRAMES,
    TIME_JUMPS,
    UNSUPPORTED,
    UNTIMED,
)
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
from vpnforensics.packets._layers import NOT_IP, link_payload
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
        digest = mix(digest ^ le64(buf, pos))
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

        src = intern(src_high, src_low, version, slots, packed, versions, known, seed)
        known = max(known, src + 1)
        dst = intern(dst_high, dst_low, version, slots, packed, versions, known, seed)
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
            digest = mix(np.uint64(src) << np.uint64(32) | np.uint64(dst))
            digest = mix(digest ^ np.uint64(seq << 32 | ack))
            digest = mix(digest ^ np.uint64(tsval << 32 | tsecr))
            digest = mix(digest ^ np.uint64(checksum << 32 | sport << 16 | dport))
            digest = mix(digest ^ np.uint64((ip_id & 0xFFFF) << 48 | fragment << 32 | flags << 16 | window))
            digest = mix(digest ^ np.uint64(ip_bytes << 16 | tos << 8 | proto))
            digest = mix(mix(digest ^ c_head[row, 0]) ^ c_head[row, 1])
            if checksum == 0:  # none vouches for the rest
                digest = mix(digest ^ _content(buf, head_at + 16, head_at + captured))
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
