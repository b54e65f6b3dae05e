"""DTLS record tunnels: Cisco AnyConnect and ocserv (draft-mavrogiannopoulos-openconnect).

DTLS alone is no VPN (WebRTC, CoAP), nor is it one beside TLS of the same two hosts and port: AnyConnect
speaks so, and a TURN server does. A conversation is called one where a length map proves it.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.packets.table import PROTO_UDP
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import LIKENESS, Datagrams, Recognition, Records, be16, be32, no_handshake

name = "dtls"
server_ports = (443,)
copies_ecn = False
handshake = no_handshake

_HANDSHAKE, _APPLICATION_DATA = 22, 23
_VERSIONS = (0xFEFF, 0xFEFD, 0xFEFC, 0x0100)  # the last is AnyConnect's pre-standard DTLS
_HEADER_BYTES = 13


def recognise(sample: Datagrams) -> Recognition | None:
    """Record headers whose type, version and length are right: a candidate."""
    if sample.proto != PROTO_UDP or len(sample) < 4:
        return None
    if _is_record(sample).mean() < 0.9:
        return None
    return Recognition(LIKENESS)


def records(datagrams: Datagrams, variant: str) -> Records:
    """Application data records; the counter is the 48-bit sequence below the epoch."""
    carries = _is_record(datagrams) & (datagrams.head[:, 0] == _APPLICATION_DATA)
    sequence = be16(datagrams.head, 5) << 32 | be32(datagrams.head, 7)
    return Records(carries, np.where(carries, sequence, -1))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """Record header 13, explicit nonce 8 and tag 16 (AEAD, or none for ChaCha20), one type byte."""
    gcm = LengthMap(_HEADER_BYTES + 8 + 16 + 1)
    chacha = LengthMap(_HEADER_BYTES + 16 + 1)
    cbc_sha1 = LengthMap(_HEADER_BYTES + 16, 16, 1 + 20 + 1)
    return (gcm, chacha, cbc_sha1)


def _is_record(datagrams: Datagrams) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    kind = datagrams.head[:, 0]
    return (
        (kind >= 20)
        & (kind <= 25)
        & np.isin(be16(datagrams.head, 1), _VERSIONS)
        & (be16(datagrams.head, 11) + _HEADER_BYTES <= datagrams.payload_bytes)
    )
