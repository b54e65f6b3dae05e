"""tinc 1.0 over UDP: nothing in clear but the ports; its meta connection on TCP greets in clear.

https://www.tinc-vpn.org/documentation/. A conversation is a sure tunnel only beside such a meta
connection or on tinc's port; elsewhere a learned length map has to find it as an unknown tunnel.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.packets.table import PROTO_UDP
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import SHAPED, Datagrams, Recognition, Records, no_handshake

name = "tinc"
server_ports = (655,)
copies_ecn = False
handshake = no_handshake

GREETING = b"0 "
"""What each end of the meta connection says first: request 0, its name, the protocol's version."""
_LEAST_BYTES = 52  # one cipher block beyond sequence and digest
_CIPHER_BLOCK = 16


def recognise(sample: Datagrams) -> Recognition | None:
    """Port 655 and sizes of whole cipher blocks beside a 4-byte digest."""
    if sample.proto != PROTO_UDP or 655 not in sample.ports or len(sample) < 4:
        return None
    blocks = (sample.payload_bytes - 4) % _CIPHER_BLOCK == 0
    return Recognition(SHAPED) if blocks.mean() > 0.95 else None


def records(datagrams: Datagrams, variant: str) -> Records:
    """Every datagram of data size: the sequence number is encrypted."""
    return Records(datagrams.payload_bytes >= _LEAST_BYTES, np.full(len(datagrams), -1, np.int64))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """Blowfish or AES-CBC with a 4-byte digest, over a 4-byte sequence and the 14-byte Ethernet header."""
    return (LengthMap(4, _CIPHER_BLOCK, 19), LengthMap(4, 8, 19))
