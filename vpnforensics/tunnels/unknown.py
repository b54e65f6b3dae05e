"""A UDP conversation of unknown protocol: a tunnel only if a length map learned from the case proves it."""

from __future__ import annotations

import numpy as np

from vpnforensics.packets.table import PROTO_UDP
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import POSSIBLE, Datagrams, Recognition, Records, no_handshake

name = "unknown"
server_ports: tuple[int, ...] = ()
copies_ecn = False
handshake = no_handshake

_LEAST_DATAGRAMS = 20
_LEAST_BYTES = 40  # an IPv4 and a TCP header: less cannot carry a packet


def recognise(sample: Datagrams) -> Recognition | None:
    """Any two-way UDP conversation of some length is a candidate."""
    if sample.proto != PROTO_UDP or len(sample) < _LEAST_DATAGRAMS or not sample.two_way:
        return None
    return Recognition(POSSIBLE)


def records(datagrams: Datagrams, variant: str) -> Records:
    """Every datagram that could hold an inner packet."""
    return Records(datagrams.payload_bytes >= _LEAST_BYTES, np.full(len(datagrams), -1, np.int64))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """None known."""
    return ()
