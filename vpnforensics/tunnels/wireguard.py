"""WireGuard over UDP, and what is WireGuard but for its clear header. Wire format: https://www.wireguard.com/protocol/.

A message begins with its type and three reserved bytes, zero. The sender of a handshake message names an
index, and everything sent to it afterwards begins with that index; data counts in 64 bits behind it, and is
padded to 16 bytes. Variants change some of that, never all:

==================  ====================================================================================
``reserved_bytes``  a client's number stands there (Cloudflare WARP), and types may have their top bits set
``handshake``       longer handshake messages
``tailscale``       discovery messages with a magic of their own travel in the same conversation
``amnezia``         AmneziaWG: own first words, junk before the handshake; only data can be known
==================  ====================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.packets.table import PROTO_UDP
from vpnforensics.tunnels.length_map import UNCAPPED, LengthMap
from vpnforensics.tunnels.protocol import (
    CONSISTENT,
    COUNTED,
    LIKENESS,
    OWN_SHAPE,
    SHAPED,
    Datagrams,
    Flags,
    Handshake,
    Recognition,
    Records,
    be16,
    be32,
    counts_up_each_way,
    handshake_of,
    le32,
    looks_sealed,
    steps_within,
    used_both_ways,
)

name = "wireguard"
server_ports = (51820, 2408)
copies_ecn = True  # wireguard(4), RFC 6040

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
_TYPE_BITS, _MARK_BITS = 0x3F, 0xC0  # WARP may set the upper two
_DISCO_MAGIC = (0x5453F09F, 0x92AC)
_MAY_BEGIN = np.isin(
    np.arange(256), [_DISCO_MAGIC[0] >> 24, *(m | k for m in (0, _MARK_BITS) for k in range(1, 5))]
)
_CIPHERTEXT_AT = 16
_LEAST_DATA, _LEAST_AMNEZIA, _LEAST_SIZES = 6, 20, 3
_MOST_JUNK_SHARE, _MOST_STRAYS = 0.2, 0.1


@dataclass(frozen=True, eq=False)
class _Messages:
    """Datagrams read as WireGuard's: the type of each (0 for none of its), and what is unusual."""

    kind: npt.NDArray[np.int64]
    reserved: bool
    disco: Flags

    @property
    def ours(self) -> Flags:
        return np.asarray((self.kind > 0) | self.disco)


def recognise(sample: Datagrams) -> Recognition | None:
    """Types with steady reserved bytes, then handshakes of fixed length, indices that agree, or counters."""
    if sample.proto != PROTO_UDP:
        return None
    return judge(sample) or (_judge_data(sample) if len(sample) >= _LEAST_AMNEZIA else None)


def judge(sample: Datagrams) -> Recognition | None:
    """:func:`recognise` of messages with their types, however they travel."""
    first = sample.head[:, 0]
    if np.count_nonzero(_MAY_BEGIN[first]) < 0.9 * max(len(sample), 1):
        return None  # most of what there is
    messages = _read(sample)
    kind = messages.kind
    transport = kind == TRANSPORT
    if messages.ours.mean() < 0.9 or not kind.any():
        return None
    usual = _fixed_lengths(sample, kind)
    handshake = bool(((kind > 0) & ~transport).any())
    variants = [
        name
        for name, found in (
            ("reserved_bytes", messages.reserved),
            ("handshake", not usual),
            ("tailscale", bool(messages.disco.any())),
        )
        if found
    ]
    opens = sample.up[kind == INITIATION]
    client_first = bool(opens[0] == sample.up[0]) if len(opens) else None
    if handshake and usual and not messages.reserved:
        confidence = OWN_SHAPE
    elif handshake and _indices_agree(sample, kind):
        confidence = CONSISTENT
    elif messages.reserved:  # four steady bytes of any value: the data itself has to tell
        confidence = _weigh_data(sample.take(transport))
    elif transport.sum() >= _LEAST_DATA and usual and _counted(sample, transport) >= 0.7:
        confidence = COUNTED
    else:
        return None
    return Recognition(confidence, "+".join(variants), client_first) if confidence else None


def _judge_data(sample: Datagrams) -> Recognition | None:
    """Data under a first word of unknown meaning, with some junk and unknown handshakes before it."""
    data = _amnezia_data(sample)
    confidence = _weigh_data(sample.take(data)) if data.mean() >= 1 - _MOST_JUNK_SHARE else 0.0
    return Recognition(confidence, "amnezia") if confidence else None


def _weigh_data(data: Datagrams) -> float:
    """How sure index, counter, padding and ciphertext make it that these are data messages."""
    if len(data) < _LEAST_AMNEZIA or not data.two_way or not _amnezia_data(data).all():
        return 0.0
    index = le32(data.head, 4)
    steps = steps_within(_counter(data), index << 1 | data.up)
    if len(steps) < 0.8 * len(data) or steps.mean() < 0.95 or not looks_sealed(data, _CIPHERTEXT_AT):
        return 0.0
    if used_both_ways(index, data.up) > _MOST_STRAYS:
        return 0.0
    return SHAPED if len(np.unique(data.payload_bytes)) >= _LEAST_SIZES else LIKENESS


def records(datagrams: Datagrams, variant: str) -> Records:
    """Transport messages that are not keep-alives; the counter is 64 bits, little-endian, at byte 8."""
    transport = _transport(datagrams, variant)
    carries = transport & (datagrams.payload_bytes > TRANSPORT_OVERHEAD_BYTES)
    return Records(carries, np.where(transport, _counter(datagrams), -1))


def handshake(opening: Datagrams) -> Handshake:
    """A client that opened a session confirms the response with its first transport message."""
    kind = opening.head[:, 0]
    return handshake_of((kind == RESPONSE) & ~opening.up, (kind == TRANSPORT) & opening.up)


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """Padding to 16 bytes, but never beyond the interface's MTU, which the largest packet gives away."""
    sizes = datagrams.payload_bytes[_transport(datagrams, variant)] - TRANSPORT_OVERHEAD_BYTES
    largest = int(sizes.max(initial=0))
    ragged = largest % PADDING_BLOCK_BYTES != 0
    cap = largest if ragged else (_TYPICAL_MTU if largest < _TYPICAL_MTU else UNCAPPED)
    return (LengthMap(TRANSPORT_OVERHEAD_BYTES, PADDING_BLOCK_BYTES, cap=cap),)


def _transport(datagrams: Datagrams, variant: str) -> Flags:
    if variant == "amnezia":
        return _amnezia_data(datagrams)
    return np.asarray(_read(datagrams).kind == TRANSPORT)


def _read(datagrams: Datagrams) -> _Messages:
    """Types under reserved bytes that are a direction's own; they are zero unless most say otherwise."""
    word = le32(datagrams.head, 0)
    kind = word & _TYPE_BITS
    disco = (be32(datagrams.head, 0) == _DISCO_MAGIC[0]) & (be16(datagrams.head, 4) == _DISCO_MAGIC[1])
    typed = (kind >= INITIATION) & (kind <= TRANSPORT) & ~disco
    around = word & ~_TYPE_BITS
    known = np.zeros(len(word), np.bool_)
    reserved = False
    for side in datagrams.sides:
        usual = _most_frequent(around[typed & side])
        known |= typed & side & (around == usual)
        reserved |= usual != 0
        if usual & 0xFF not in (0, _MARK_BITS):
            typed &= ~side
    known &= (kind != TRANSPORT) | (datagrams.payload_bytes >= TRANSPORT_OVERHEAD_BYTES)
    known &= typed
    return _Messages(np.where(known, kind, 0), reserved, disco)


def _most_frequent(values: npt.NDArray[np.int64]) -> int:
    if not len(values) or (values == values[0]).all():
        return int(values[0]) if len(values) else 0
    found, count = np.unique(values, return_counts=True)
    return int(found[np.argmax(count)])


def _fixed_lengths(sample: Datagrams, kind: npt.NDArray[np.int64]) -> bool:
    """Whether handshake messages are as long as they have to be, but for strays."""
    wrong = np.zeros(len(sample), np.bool_)
    for message, length in _FIXED_BYTES.items():
        wrong |= (kind == message) & (sample.payload_bytes != length)
    return bool(wrong.mean() <= 0.1 and wrong.sum() <= 0.5 * np.isin(kind, list(_FIXED_BYTES)).sum())


def _indices_agree(sample: Datagrams, kind: npt.NDArray[np.int64]) -> bool:
    """Whether a message is addressed to an index that the other end has named in a handshake."""
    first, second = le32(sample.head, 4), le32(sample.head, 8)
    for side in sample.sides:
        named = first[side & ((kind == INITIATION) | (kind == RESPONSE))]
        answers = second[~side & (kind == RESPONSE)]
        addressed = np.concatenate([answers, first[~side & (kind == TRANSPORT)]])
        if np.isin(named[named != 0], addressed).any():
            return True
    return False


def _amnezia_data(datagrams: Datagrams) -> Flags:
    """What may be a data message under an unknown first word; the counter's upper half is not yet in use."""
    size = datagrams.payload_bytes
    padded = (size % PADDING_BLOCK_BYTES == 0) | (size == size.max(initial=0))
    used = (le32(datagrams.head, 12) == 0) & (le32(datagrams.head, 4) != 0)
    return np.asarray((size >= TRANSPORT_OVERHEAD_BYTES) & padded & used)


def _counted(sample: Datagrams, transport: Flags) -> float:
    return counts_up_each_way(_counter(sample)[transport], sample.up[transport])


def _counter(datagrams: Datagrams) -> npt.NDArray[np.int64]:
    return le32(datagrams.head, 8) | (le32(datagrams.head, 12) & 0x7FFFFFFF) << 32
