"""Down the layers of a frame to its IP packet: link layer, and what a tap wrapped around; inside of kernels.

Every reader is told where the captured bytes end and reads none beyond; what a header says of lengths only
narrows that. They return tuples of integers, which cost nothing once inlined.
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
from vpnforensics.packets.table import PROTO_GRE, PROTO_UDP

UNTOLD = -1
"""In place of an encapsulation: a later fragment, which does not say."""
NOT_IP = -1
"""In place of an offset: the frame carries no IP packet."""
CUT = -2
"""In place of an offset: the frame ends before that can be told."""


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
