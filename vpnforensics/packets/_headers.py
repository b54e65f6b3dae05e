"""Reading the headers of an IP packet: IP, TCP, UDP, ICMP; inside of kernels, and as in :mod:`._layers`."""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.capture._loads import be16, be32
from vpnforensics.kernels import kernel
from vpnforensics.packets.table import PROTO_AH, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP

# IPv6 extension headers: https://www.iana.org/assignments/ipv6-parameters
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_MOBILITY, _HIP, _SHIM6 = 135, 139, 140

SOUND = 0
OPTIONS_CUT = 1
"""Not all of the TCP options were captured."""
HEADER_CUT = 2
"""Nor all of the header before them."""
CONTRADICTORY = 3
"""What the header says cannot be: of two states, the larger counts."""


@kernel
def ipv4_header(buf: Any, l3: Any, end: Any, wire_bytes: Any) -> Any:
    """Fields of an IPv4 header (RFC 791, 3.1); ``header_bytes`` is 0 where there is none to trust.

    Returns (header_bytes, ip_bytes, proto, ip_id, df, ttl, tos, fragment, huge). ``fragment`` is
    the offset in units of 8 bytes, times 8, plus the more-fragments bit.
    """
    nothing = (0, 0, 0, 0, 0, 0, 0, 0, False)
    if end - l3 < 20:
        return nothing
    header_bytes = (np.int64(buf[l3]) & 15) * 4
    ip_bytes = be16(buf, l3 + 2)
    huge = ip_bytes == 0  # segmentation offload: the length does not fit the field
    if huge:
        ip_bytes = wire_bytes
    if header_bytes < 20 or ip_bytes < header_bytes:
        return nothing
    field = be16(buf, l3 + 6)
    fragment = (field & 0x1FFF) << 3 | (field >> 13) & 1
    return (
        header_bytes, ip_bytes, np.int64(buf[l3 + 9]), be16(buf, l3 + 4), (field >> 14) & 1,
        np.int64(buf[l3 + 8]), np.int64(buf[l3 + 1]), fragment, huge,
    )  # fmt: skip


@kernel
def ipv6_header(buf: Any, l3: Any, end: Any, wire_bytes: Any) -> Any:
    """Fields of an IPv6 header (RFC 8200, 3), in the form of :func:`ipv4_header`."""
    nothing = (0, 0, 0, 0, 0, 0, 0, 0, False)
    if end - l3 < 40:
        return nothing
    ip_bytes = be16(buf, l3 + 4) + 40
    proto = np.int64(buf[l3 + 6])
    huge = ip_bytes == 40 and wire_bytes > 65575
    if huge:
        ip_bytes = wire_bytes
    elif ip_bytes == 40 and proto == _HOP_BY_HOP and end - l3 >= 48 and be16(buf, l3 + 42) == 0xC204:
        ip_bytes = be32(buf, l3 + 44) + 40  # jumbogram (RFC 2675)
        if ip_bytes > 0x7FFFFFFF:
            return nothing
    tos = (be16(buf, l3) >> 4) & 0xFF
    return 40, ip_bytes, proto, -1, 1, np.int64(buf[l3 + 7]), tos, 0, huge


@kernel
def skip_extensions(buf: Any, pos: Any, end: Any, length: Any, proto: Any) -> Any:
    """Pass IPv6 extension headers and AH (RFC 8200, 4; RFC 4302).

    Returns (position, remaining length by the headers, protocol, fragment field or 0, state).
    """
    fragment = 0
    while True:
        if (
            proto == _HOP_BY_HOP
            or proto == _ROUTING
            or proto == _DESTINATION
            or proto == _MOBILITY
            or proto == _HIP
            or proto == _SHIM6
        ):
            unit, extra = 8, 1
        elif proto == PROTO_AH:
            unit, extra = 4, 2
        elif proto == _FRAGMENT:
            unit, extra = 0, 0
        else:
            return pos, length, proto, fragment, SOUND
        if end - pos < 8:
            return pos, length, proto, fragment, HEADER_CUT if length >= 8 else CONTRADICTORY
        size = (np.int64(buf[pos + 1]) + extra) * unit if unit else 8
        if size > length:
            return pos, length, proto, fragment, CONTRADICTORY
        following = np.int64(buf[pos])
        pos, length = pos + size, length - size
        if proto == _FRAGMENT:
            fragment = be16(buf, pos - 6) & 0xFFF9
            if fragment >> 3:
                return pos, length, following, fragment, SOUND
        proto = following


@kernel
def _tcp_options(buf: Any, pos: Any, stop: Any) -> Any:
    """(has_ts, tsval, tsecr, mss, state) of the options in ``buf[pos:stop]`` (RFC 9293, 3.2)."""
    has_ts, tsval, tsecr, mss = 0, 0, 0, 0
    if stop - pos == 12 and be32(buf, pos) == 0x0101080A:  # what almost every segment carries
        return 1, be32(buf, pos + 4), be32(buf, pos + 8), 0, SOUND
    while pos < stop:
        option = buf[pos]
        if option == 0:
            break
        if option == 1:
            pos += 1
            continue
        if stop - pos < 2:
            return has_ts, tsval, tsecr, mss, CONTRADICTORY
        size = np.int64(buf[pos + 1])
        if size < 2 or size > stop - pos:
            return has_ts, tsval, tsecr, mss, CONTRADICTORY
        if option == 8 and size == 10:
            has_ts, tsval, tsecr = 1, be32(buf, pos + 2), be32(buf, pos + 6)
        elif option == 2 and size == 4:
            mss = be16(buf, pos + 2)
        pos += size
    return has_ts, tsval, tsecr, mss, SOUND


@kernel
def tcp_header(buf: Any, l4: Any, end: Any, left: Any) -> Any:
    """Fields of a TCP header (RFC 9293, 3.1): what of it was captured, zeros for the rest.

    Returns (sport, dport, seq, ack, flags, window, checksum, header_bytes, payload, has_ts, tsval,
    tsecr, mss, state); ``header_bytes`` is -1 where the header was cut, and ``payload`` is 0 where
    that hides the data offset.
    """
    here = end - l4
    sport, dport, seq, ack, flags, window, payload = 0, 0, 0, 0, 0, 0, 0
    tcp_bytes: Any = 0
    if here >= 4:
        sport, dport = be16(buf, l4), be16(buf, l4 + 2)
    if here >= 8:
        seq = be32(buf, l4 + 4)
    if here >= 12:
        ack = be32(buf, l4 + 8)
    if here >= 14:
        flags = be16(buf, l4 + 12) & 0x0FFF
        tcp_bytes = np.int64(buf[l4 + 12] >> 4) * 4
        payload = max(0, left - max(20, tcp_bytes))
    if here >= 16:
        window = be16(buf, l4 + 14)
    if here < 20:
        state = HEADER_CUT if left >= 20 else CONTRADICTORY
        return sport, dport, seq, ack, flags, window, 0, -1, payload, 0, 0, 0, 0, state
    checksum = be16(buf, l4 + 16)
    has_ts, tsval, tsecr, mss, state = 0, 0, 0, 0, SOUND
    if tcp_bytes < 20 or tcp_bytes > left:
        state = CONTRADICTORY
        tcp_bytes = max(20, min(tcp_bytes, left))
    elif tcp_bytes > 20:
        stop = min(end, l4 + tcp_bytes)
        has_ts, tsval, tsecr, mss, state = _tcp_options(buf, l4 + 20, stop)
        if stop < l4 + tcp_bytes:
            state = OPTIONS_CUT
    payload = left - tcp_bytes
    return (
        sport, dport, seq, ack, flags, window, checksum, tcp_bytes, payload, has_ts, tsval, tsecr, mss, state,
    )  # fmt: skip


@kernel
def udp_header(buf: Any, l4: Any, end: Any, left: Any, is_whole: Any) -> Any:
    """(sport, dport, checksum, payload, state) of a UDP header (RFC 768).

    The length field of a first fragment is the whole datagram's: what this packet carries counts.
    """
    here = end - l4
    sport, dport, checksum, payload = 0, 0, 0, max(0, left - 8)
    if here >= 4:
        sport, dport = be16(buf, l4), be16(buf, l4 + 2)
    if here >= 8:
        checksum = be16(buf, l4 + 6)
    state = SOUND
    if here < 8:
        state = HEADER_CUT if left >= 8 else CONTRADICTORY
    if here >= 6 and is_whole:
        udp_bytes = be16(buf, l4 + 4)
        if 8 <= udp_bytes <= left:
            payload = udp_bytes - 8
        elif udp_bytes != 0 or left <= 65535:  # 0 stands for a length that does not fit the field
            state = CONTRADICTORY
    return sport, dport, checksum, payload, state


@kernel
def icmp_header(buf: Any, l4: Any, end: Any, left: Any, version: Any) -> Any:
    """(type, code, checksum, quoted ports, state) of an ICMP or ICMPv6 header (RFC 792, RFC 4443)."""
    here = end - l4
    kind: Any = 0
    code: Any = 0
    checksum = 0
    if here >= 2:
        kind, code = np.int64(buf[l4]), np.int64(buf[l4 + 1])
    if here < 4:
        return kind, code, checksum, 0, HEADER_CUT if left >= 4 else CONTRADICTORY
    checksum = be16(buf, l4 + 2)
    quotes = (kind in (3, 4, 5, 11, 12)) if version == 4 else (1 <= kind <= 4)
    quoted = quoted_ports(buf, l4 + 8, end, version) if quotes else 0
    return kind, code, checksum, quoted, SOUND


@kernel
def quoted_ports(buf: Any, l3: Any, end: Any, version: Any) -> Any:
    """Source port << 16 | destination port of the packet that an ICMP error quotes; 0 where there are none.

    Of an echo that is quoted, the identifier stands for both.
    """
    if l3 >= end or np.int64(buf[l3]) >> 4 != version:
        return 0
    l4 = l3 + (4 * (np.int64(buf[l3]) & 15) if version == 4 else 40)
    if l4 < l3 + 20 or l4 + 4 > end or (version == 4 and be16(buf, l3 + 6) & 0x1FFF):
        return 0
    proto = np.int64(buf[l3 + (9 if version == 4 else 6)])
    if proto == PROTO_TCP or proto == PROTO_UDP:
        return be32(buf, l4)
    if proto == (PROTO_ICMP if version == 4 else PROTO_ICMPV6) and l4 + 6 <= end:
        return be16(buf, l4 + 4) * 0x10001
    return 0
