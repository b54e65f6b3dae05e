"""Reading headers out of a captured frame: link layer, IP, TCP, UDP, ICMP; for use inside kernels.

Every reader is told where the captured bytes end and reads none beyond; what a header says of
lengths only narrows that. They return tuples of integers, which cost nothing once inlined.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.capture._loads import be16, be32, le32
from vpnforensics.capture.encapsulations import (
    ERSPAN,
    GENEVE,
    GENEVE_PORT,
    GRE,
    GTPU,
    GTPU_PORT,
    NONE,
    VXLAN,
    VXLAN_PORT,
    VXLAN_PORT_LINUX,
)
from vpnforensics.capture.linktypes import (
    KIND_ETHERNET,
    KIND_NULL,
    KIND_PPP,
    KIND_RAW,
    KIND_SLL,
    KIND_SLL2,
)
from vpnforensics.kernels import kernel
from vpnforensics.packets.table import PROTO_AH, PROTO_GRE, PROTO_UDP

# IPv6 extension headers: https://www.iana.org/assignments/ipv6-parameters
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_MOBILITY, _HIP, _SHIM6 = 135, 139, 140

UNTOLD = -1
"""In place of an encapsulation: a later fragment, which does not say."""
NOT_IP = -1
"""In place of an offset: the frame carries no IP packet."""
CUT = -2
"""In place of an offset: the frame ends before that can be told."""

SOUND = 0
OPTIONS_CUT = 1
"""Not all of the TCP options were captured."""
HEADER_CUT = 2
"""Nor all of the header before them."""
CONTRADICTORY = 3
"""What the header says cannot be: of two states, the larger counts."""


@kernel
def _ppp_payload(buf: Any, pos: Any, end: Any) -> Any:
    """Offset of the IP packet behind a PPP protocol field of one or two bytes (RFC 1661, 6.5)."""
    if end - pos < 2:
        return CUT
    if buf[pos] & 1:
        protocol, pos = np.int64(buf[pos]), pos + 1
    else:
        protocol, pos = be16(buf, pos), pos + 2
    return pos if protocol == 0x21 or protocol == 0x57 else NOT_IP


@kernel
def _is_behind_ethernet(buf: Any, pos: Any, end: Any) -> Any:
    """Whether an Ethernet frame with something of IP in it begins here, as far as its EtherType says."""
    if end - pos < 14:
        return False
    ethertype = be16(buf, pos + 12)
    return (
        ethertype == 0x0800
        or ethertype == 0x86DD
        or ethertype == 0x8100
        or ethertype == 0x88A8
        or ethertype == 0x8847
    )


@kernel
def _ethertype_payload(buf: Any, pos: Any, end: Any, ethertype: Any) -> Any:
    """Offset of the IP packet behind an EtherType, its VLAN tags, MPLS labels and PPPoE."""
    while ethertype != 0x0800 and ethertype != 0x86DD:
        if ethertype == 0x8100 or ethertype == 0x88A8 or ethertype == 0x9100:
            if end - pos < 4:
                return CUT
            ethertype, pos = be16(buf, pos + 2), pos + 4
        elif ethertype == 0x8847 or ethertype == 0x8848:
            is_last = False
            while not is_last:
                if end - pos < 5:
                    return CUT
                is_last = buf[pos + 2] & 1 == 1
                pos += 4
            # Labels do not say what they carry (RFC 3032, 2.2): by its first bits, or Ethernet (RFC 4448).
            version = buf[pos] >> 4
            if (version == 4 and buf[pos] & 15 >= 5) or version == 6:
                return pos
            if version == 0 and _is_behind_ethernet(buf, pos + 4, end):
                pos += 4  # a control word
            if not _is_behind_ethernet(buf, pos, end):
                return NOT_IP
            ethertype, pos = be16(buf, pos + 12), pos + 14
        elif ethertype == 0x8864:
            return _ppp_payload(buf, pos + 6, end)
        else:
            return NOT_IP
    return pos


@kernel
def link_payload(buf: Any, pos: Any, end: Any, kind: Any) -> Any:
    """Offset of the IP packet in a frame, ``NOT_IP`` or ``CUT``."""
    length = end - pos
    if kind == KIND_ETHERNET:
        return _ethertype_payload(buf, pos + 14, end, be16(buf, pos + 12)) if length >= 14 else CUT
    if kind == KIND_RAW:
        return pos
    if kind == KIND_SLL:
        return _ethertype_payload(buf, pos + 16, end, be16(buf, pos + 14)) if length >= 16 else CUT
    if kind == KIND_SLL2:
        return _ethertype_payload(buf, pos + 20, end, be16(buf, pos)) if length >= 20 else CUT
    if kind == KIND_NULL:
        if length < 4:
            return CUT
        family = le32(buf, pos)
        if family > 0xFFFF:  # written by a machine of the other byte order
            family = be32(buf, pos)
        is_ip = family == 2 or family == 24 or family == 28 or family == 30 or family == 10
        return pos + 4 if is_ip else NOT_IP
    if kind == KIND_PPP:
        if length >= 2 and be16(buf, pos) == 0xFF03:
            return _ppp_payload(buf, pos + 2, end)
        return _ppp_payload(buf, pos, end)
    return NOT_IP


@kernel
def _is_ip(buf: Any, l3: Any, end: Any) -> Any:
    """Whether what was captured of an IP header can be one."""
    if l3 >= end:
        return True
    version = buf[l3] >> 4
    if version == 6:
        return end - l3 < 8 or buf[l3 + 7] > 0
    if version != 4 or buf[l3] & 15 < 5:
        return False
    return end - l3 < 9 or (be16(buf, l3 + 2) >= 20 and buf[l3 + 8] > 0)


@kernel
def _gtpu_payload(buf: Any, pos: Any, end: Any) -> Any:
    """Offset of the packet in a G-PDU; ``NOT_IP`` for what is none."""
    if end - pos < 8:
        return CUT
    flags = buf[pos]
    if flags & 0xF8 != 0x30 or buf[pos + 1] != 0xFF:
        return NOT_IP
    if flags & 7 == 0:
        return pos + 8
    if end - pos < 12:
        return CUT
    following = buf[pos + 11] if flags & 4 else np.uint8(0)
    pos += 12
    while following != 0:
        if pos >= end:
            return CUT
        size = np.int64(buf[pos]) * 4
        if size == 0:
            return NOT_IP
        if end - pos < size:
            return CUT
        following, pos = buf[pos + size - 1], pos + size
    return pos


@kernel
def _gre_payload(buf: Any, pos: Any, end: Any) -> Any:
    """(encapsulation, offset of the IP packet, ``NOT_IP`` or ``CUT``) behind a GRE header."""
    if end - pos < 4:
        return GRE, CUT
    flags, protocol = be16(buf, pos), be16(buf, pos + 2)
    if flags & 0x4FFF:  # routing (RFC 1701), what is reserved, and the version
        return NONE, NOT_IP
    is_numbered = flags & 0x1000 != 0
    pos += 4 + 4 * ((flags >> 15) + (flags >> 13 & 1) + (flags >> 12 & 1))
    if protocol == 0x0800 or protocol == 0x86DD or protocol == 0x8847 or protocol == 0x8848:
        return GRE, _ethertype_payload(buf, pos, end, protocol)
    encapsulation = ERSPAN
    if protocol == 0x6558:
        encapsulation = GRE
    elif protocol == 0x88BE:
        pos += 8 if is_numbered else 0  # type II has a header of its own, type I none
    elif protocol == 0x22EB:
        if end - pos < 12:
            return ERSPAN, CUT
        flags = be16(buf, pos + 10)
        is_ip = (flags >> 10) & 0x1F == 2
        pos += 20 if flags & 1 else 12
        if is_ip:
            return ERSPAN, pos
    else:
        return NONE, NOT_IP
    if end - pos < 14:
        return encapsulation, CUT
    return encapsulation, _ethertype_payload(buf, pos + 14, end, be16(buf, pos + 12))


@kernel
def _datagram_payload(buf: Any, pos: Any, end: Any) -> Any:
    """(encapsulation, offset of the IP packet, ``NOT_IP`` or ``CUT``) behind a UDP header."""
    port = be16(buf, pos + 2) if end - pos >= 16 else 0
    pos += 8
    if port == VXLAN_PORT or port == VXLAN_PORT_LINUX:
        # The I bit, perhaps a group policy with it, and nothing in what is reserved.
        flags = be32(buf, pos)
        if (flags != 0x08000000 and flags & 0xFF000000 != 0x88000000) or buf[pos + 7] != 0:
            return NONE, NOT_IP
        if end - pos < 22:
            return VXLAN, CUT
        return VXLAN, _ethertype_payload(buf, pos + 22, end, be16(buf, pos + 20))
    if port == GENEVE_PORT:
        # Version 0, nothing in what is reserved.
        if buf[pos] >> 6 != 0 or buf[pos + 1] & 0x3F != 0 or buf[pos + 7] != 0:
            return NONE, NOT_IP
        protocol = be16(buf, pos + 2)
        pos += 8 + 4 * np.int64(buf[pos] & 0x3F)
        if protocol != 0x6558:
            return GENEVE, _ethertype_payload(buf, pos, end, protocol)
        if end - pos < 14:
            return GENEVE, CUT
        return GENEVE, _ethertype_payload(buf, pos + 14, end, be16(buf, pos + 12))
    if port == GTPU_PORT:
        inner = _gtpu_payload(buf, pos, end)
        return (NONE if inner == NOT_IP else GTPU), inner
    return NONE, NOT_IP


@kernel
def wrapped_in(buf: Any, l3: Any, end: Any, wire_end: Any) -> Any:
    """What an IP packet is wrapped in by a tap.

    Parameters
    ----------
    l3, end : int
        Where the packet begins, and what was captured of it ends.
    wire_end : int
        Where it would end had all of its frame been captured.

    Returns
    -------
    encapsulation : int
        ``NONE`` for an ordinary packet, ``UNTOLD`` for a part of one that may be wrapped.
    inner : int
        Offset of the IP packet inside, ``NOT_IP`` or ``CUT``.
    inner_end : int
        Where the outer packet ends by its header.
    """
    if end - l3 < 40:
        return NONE, NOT_IP, wire_end
    version = buf[l3] >> 4
    if version == 4:
        proto, l4 = buf[l3 + 9], l3 + 4 * np.int64(buf[l3] & 15)
    elif version == 6:
        proto, l4 = buf[l3 + 6], l3 + 40
    else:
        return NONE, NOT_IP, wire_end
    if proto != PROTO_UDP and proto != PROTO_GRE:
        return NONE, NOT_IP, wire_end
    size = be16(buf, l3 + 2) if version == 4 else be16(buf, l3 + 4) + 40
    if version == 4 and be16(buf, l3 + 6) & 0x1FFF != 0:
        return UNTOLD, NOT_IP, wire_end
    stop = l3 + size if size and l3 + size < wire_end else wire_end
    end = min(end, stop)
    if l4 < l3 + 20 or l4 >= end:
        return NONE, NOT_IP, stop
    if proto == PROTO_UDP:
        encapsulation, inner = _datagram_payload(buf, l4, end)
    else:
        encapsulation, inner = _gre_payload(buf, l4, end)
    if encapsulation != NONE and inner >= 0:
        if inner >= stop or not _is_ip(buf, inner, end):
            return NONE, NOT_IP, stop
        if inner >= end:
            inner = CUT
    return encapsulation, inner, stop


@kernel
def ip_packet(buf: Any, pos: Any, end: Any, kind: Any, decap: Any) -> Any:
    """Offset of the IP packet that the packet table has of a frame, ``NOT_IP`` or ``CUT``."""
    l3 = link_payload(buf, pos, end, kind)
    if l3 >= 0 and l3 < end and decap != NONE:
        encapsulation, inner, _ = wrapped_in(buf, l3, end, end)
        if encapsulation == decap:
            return inner
    return l3


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
def icmp_header(buf: Any, l4: Any, end: Any, left: Any) -> Any:
    """(type, code, checksum, state) of an ICMP or ICMPv6 header (RFC 792, RFC 4443)."""
    here = end - l4
    kind: Any = 0
    code: Any = 0
    checksum = 0
    if here >= 2:
        kind, code = np.int64(buf[l4]), np.int64(buf[l4 + 1])
    if here >= 4:
        checksum = be16(buf, l4 + 2)
    if here >= 4:
        return kind, code, checksum, SOUND
    return kind, code, checksum, HEADER_CUT if left >= 4 else CONTRADICTORY
