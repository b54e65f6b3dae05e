"""Community ID v1 flow hashes, the key that Zeek, Suricata and Wireshark share.

Specification and vectors: https://github.com/corelight/community-id-spec
"""

from __future__ import annotations

import base64
import hashlib
import struct

from vpnforensics.packets.table import PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP

# ICMP message types and the type of the answer: a request and its reply are one flow.
_ICMP_REPLY = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17}
_ICMPV6_REPLY = {
    128: 129,
    129: 128,
    130: 131,
    131: 130,
    133: 134,
    134: 133,
    135: 136,
    136: 135,
    144: 145,
    145: 144,
}
_WITH_PORTS = {PROTO_ICMP, PROTO_TCP, PROTO_UDP, PROTO_ICMPV6, 132}  # and SCTP


def community_id(src: bytes, dst: bytes, proto: int, sport: int = 0, dport: int = 0, seed: int = 0) -> str:
    """Community ID of a flow.

    Parameters
    ----------
    src, dst : bytes
        Addresses in network order, 4 or 16 bytes.
    proto : int
        IP protocol number.
    sport, dport : int
        Ports; for ICMP the type and the code. Ignored for protocols without ports.
    seed : int
        The specification's 16-bit seed.
    """
    one_way = False
    if proto in (PROTO_ICMP, PROTO_ICMPV6):
        replies = _ICMP_REPLY if proto == PROTO_ICMP else _ICMPV6_REPLY
        if sport in replies:
            dport = replies[sport]
        else:
            one_way = True
    if not one_way and (src, sport) > (dst, dport):
        src, dst, sport, dport = dst, src, dport, sport
    ports = struct.pack("!HH", sport, dport) if proto in _WITH_PORTS else b""
    message = struct.pack("!H", seed) + src + dst + struct.pack("!BB", proto, 0) + ports
    digest = hashlib.sha1(message, usedforsecurity=False).digest()
    return "1:" + base64.b64encode(digest).decode()
