"""L2TP (RFC 2661) without IPsec: PPP in UDP port 1701, mostly in clear.

::

    flags, version 2 | [length] | tunnel id, session id | [two counts] | [offset] | PPP (RFC 2661, 3.1)

A control message has a length and counts; one of data mostly has nothing but the identifiers, so that nothing
of it counts. Identifiers are the receiver's. What is in clear is not hidden: it is a VPN for sure only where
MPPE seals it. Inside of IPsec (RFC 3193) none of it is seen: that is ESP with a larger overhead
(:mod:`vpnforensics.tunnels.esp`). L2TPv3 (RFC 3931) carries frames of any link and is not read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.packets.table import PROTO_UDP
from vpnforensics.tunnels import ppp
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import (
    CONSISTENT,
    LIKENESS,
    Datagrams,
    Flags,
    Recognition,
    Records,
    be16,
    no_handshake,
)

name = "l2tp"
server_ports = (1701,)
copies_ecn = False
handshake = no_handshake

_CONTROL, _LENGTH, _COUNTS, _OFFSET, _PRIORITY = 0x8000, 0x4000, 0x0800, 0x0200, 0x0100
_VERSION = 2
_CONTROL_FLAGS = _CONTROL | _LENGTH | _COUNTS | _VERSION
_DATA_FLAGS = _LENGTH | _COUNTS | _OFFSET | _PRIORITY
_CONTROL_BYTES = 12
_MOST_IDS = 3
"""Of tunnels each way: 0 before the peer's is known, its own, and one after a new start."""
_LEAST_MESSAGES = 4
"""Fewer may fit by chance."""
_MOSTLY = 0.9
"""Of the datagrams: an address may have been somebody else's before."""


@dataclass(frozen=True, eq=False)
class _Headers:
    """L2TP headers, one a datagram."""

    is_control: Flags
    tunnel: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    frame_bytes: npt.NDArray[np.int64]
    """Of the PPP frame behind; 0 where there is none."""


def recognise(sample: Datagrams) -> Recognition | None:
    """Control messages, or data whose PPP is known, under one tunnel id each way."""
    if sample.proto != PROTO_UDP or (sample.head[:, 1] & 15 == _VERSION).mean() < _MOSTLY:
        return None
    headers = _headers(sample)
    frames = _frames(sample)
    ours = headers.is_control | frames.known
    if ours.mean() < _MOSTLY or ours.sum() < _LEAST_MESSAGES:
        return None
    if any(len(np.unique(headers.tunnel[ours & side])) > _MOST_IDS for side in sample.sides):
        return None
    if server_ports[0] not in sample.ports and headers.is_control.sum() < _LEAST_MESSAGES:
        return None
    variant = ppp.variant_of(frames)
    return Recognition(CONSISTENT if variant.startswith("mpp") else LIKENESS, variant)


def records(datagrams: Datagrams, variant: str) -> Records:
    """Every IP packet; none is counted."""
    return Records(_frames(datagrams).carries, np.full(len(datagrams), -1, np.int64))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """PPP's, behind headers as long as most are here."""
    frames = _frames(datagrams)
    if not frames.carries.any():
        return ()
    headers = (datagrams.payload_bytes - frames.packet_bytes)[frames.carries]
    usual = int(np.argmax(np.bincount(headers)))
    return tuple(LengthMap(usual + m.overhead) for m in ppp.length_maps_of(variant))


def _frames(datagrams: Datagrams) -> ppp.Frames:
    headers = _headers(datagrams)
    return ppp.read_frames(datagrams.head, headers.bytes, headers.frame_bytes)


def _headers(datagrams: Datagrams) -> _Headers:
    head, size = datagrams.head, datagrams.payload_bytes
    flags = be16(head, 0)
    has_length = flags & _LENGTH != 0
    at = np.where(has_length, 4, 2).astype(np.int64)
    length = np.where(has_length, be16(head, 2), size)
    has_offset = flags & _OFFSET != 0
    begin = at + 4 + 4 * (flags & _COUNTS != 0)
    begin = np.where(has_offset, begin + 2 + ppp.be16_at(head, begin), begin)
    is_control = (flags == _CONTROL_FLAGS) & (length == size) & (size >= _CONTROL_BYTES)
    is_data = (flags & ~_DATA_FLAGS == _VERSION) & (length <= size) & (begin < length)
    return _Headers(is_control, ppp.be16_at(head, at), begin, np.where(is_data, length - begin, 0))
