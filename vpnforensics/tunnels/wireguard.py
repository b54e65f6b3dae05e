"""WireGuard over UDP. Wire format: https://www.wireguard.com/protocol/."""

from __future__ import annotations

import numpy as np

from vpnforensics.packets.table import PROTO_UDP
from vpnforensics.tunnels.length_map import UNCAPPED, LengthMap
from vpnforensics.tunnels.protocol import Datagrams, Recognition, Records, counts_up_each_way, le32

name = "wireguard"
server_ports = (51820,)

INITIATION, RESPONSE, COOKIE_REPLY, TRANSPORT = 1, 2, 3, 4
INITIATION_BYTES, RESPONSE_BYTES, COOKIE_REPLY_BYTES = 148, 92, 64
TRANSPORT_OVERHEAD_BYTES = 32  # header 16, Poly1305 tag 16; a keepalive is exactly this
PADDING_BLOCK_BYTES = 16
_TYPICAL_MTU = 1420

_FIXED_BYTES = {
    INITIATION: INITIATION_BYTES,
    RESPONSE: RESPONSE_BYTES,
    COOKIE_REPLY: COOKIE_REPLY_BYTES,
}


def recognise(sample: Datagrams) -> Recognition | None:
    """Type 1 to 4 with three zero bytes, fixed handshake lengths and a rising counter."""
    return judge(sample) if sample.proto == PROTO_UDP else None


def judge(sample: Datagrams) -> Recognition | None:
    """:func:`recognise` of messages, however they travel."""
    kind = sample.head[:, 0]
    first_word = le32(sample.head, 0)  # three bytes after the type are zero
    shaped = (first_word >= INITIATION) & (first_word <= TRANSPORT)
    for message, length in _FIXED_BYTES.items():
        shaped &= (kind != message) | (sample.payload_bytes == length)
    transport = kind == TRANSPORT
    shaped &= ~transport | (sample.payload_bytes >= TRANSPORT_OVERHEAD_BYTES)
    if len(sample) == 0 or shaped.mean() < 0.9:
        return None
    handshake = bool((shaped & ~transport).any())
    if not handshake and transport.sum() < 6:
        return None
    if not handshake and counts_up_each_way(_counter(sample)[transport], sample.up[transport]) < 0.7:
        return None
    opens = sample.up[kind == INITIATION]
    client_first = bool(opens[0] == sample.up[0]) if len(opens) else None
    return Recognition(0.99 if handshake else 0.9, client_first=client_first)


def records(datagrams: Datagrams) -> Records:
    """Transport messages that are not keep-alives; the counter is 64 bits, little-endian, at byte 8."""
    carries = (datagrams.head[:, 0] == TRANSPORT) & (datagrams.payload_bytes > TRANSPORT_OVERHEAD_BYTES)
    transport = datagrams.head[:, 0] == TRANSPORT
    return Records(carries, np.where(transport, _counter(datagrams), -1))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """Padding to 16 bytes, but never beyond the interface's MTU, which the largest packet gives away."""
    sizes = datagrams.payload_bytes[datagrams.head[:, 0] == TRANSPORT] - TRANSPORT_OVERHEAD_BYTES
    largest = int(sizes.max(initial=0))
    ragged = largest % PADDING_BLOCK_BYTES != 0
    cap = largest if ragged else (_TYPICAL_MTU if largest < _TYPICAL_MTU else UNCAPPED)
    return (LengthMap(TRANSPORT_OVERHEAD_BYTES, PADDING_BLOCK_BYTES, cap=cap),)


def _counter(datagrams: Datagrams) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return le32(datagrams.head, 8) | (le32(datagrams.head, 12) & 0x7FFFFFFF) << 32
