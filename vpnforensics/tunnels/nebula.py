"""Nebula (slackhq): a 16-byte clear header of version, type, remote index and a 64-bit counter.

Header: https://github.com/slackhq/nebula/blob/master/header/header.go
"""

from __future__ import annotations

import numpy as np

from vpnforensics.packets.table import PROTO_UDP
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import (
    CONSISTENT,
    Datagrams,
    Recognition,
    Records,
    be16,
    be32,
    counts_up_each_way,
    no_handshake,
)

name = "nebula"
server_ports = (4242,)
copies_ecn = False
handshake = no_handshake

_VERSION = 1
_MESSAGE, _LAST_TYPE = 1, 7
_HEADER_BYTES, _TAG_BYTES = 16, 16


def recognise(sample: Datagrams) -> Recognition | None:
    """Version 1, a known type, two reserved zero bytes, a constant remote index and a rising counter."""
    if sample.proto != PROTO_UDP or len(sample) < 4:
        return None
    first = sample.head[:, 0]
    shaped = (first >> 4 == _VERSION) & (first & 15 <= _LAST_TYPE) & (be16(sample.head, 2) == 0)
    shaped &= sample.payload_bytes >= _HEADER_BYTES
    message = shaped & (first & 15 == _MESSAGE)
    if shaped.mean() < 0.9 or message.sum() < 4:
        return None
    steady = all(
        len(np.unique(be32(sample.head, 4)[message & side])) <= 3 for side in (sample.up, ~sample.up)
    )
    if not steady or counts_up_each_way(be32(sample.head, 12)[message], sample.up[message]) < 0.8:
        return None
    return Recognition(CONSISTENT)


def records(datagrams: Datagrams, variant: str) -> Records:
    """Message packets of subtype none; the counter is 64 bits, big-endian, at byte 8."""
    carries = (datagrams.head[:, 0] == _VERSION << 4 | _MESSAGE) & (datagrams.head[:, 1] == 0)
    counter = (be32(datagrams.head, 8) & 0x7FFFFFFF) << 32 | be32(datagrams.head, 12)
    return Records(carries, np.where(carries, counter, -1))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """Header and tag, nothing padded."""
    return (LengthMap(_HEADER_BYTES + _TAG_BYTES),)
