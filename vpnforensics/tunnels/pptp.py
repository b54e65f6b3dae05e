"""PPTP (RFC 2637): PPP in GRE of version 1, a control connection on TCP port 1723 beside it.

::

    flags, version 1 | 880b | payload bytes, call id | [sequence] | [acknowledgement] | PPP (RFC 2637, 4.1)

Nothing else has GRE of this version and type (RFC 2784 and 2890 are version 0, EoIP has type 6400), and the
header says how long the payload is. The call id is the receiver's, so the two directions' differ. The
sequence number counts every PPP frame of a call, those that set it up and keep it alive, too. An
acknowledgement rides on some packets only, so lengths are of what PPP carries, never of the datagram.

Calls of the same two hosts are one tunnel, as IPsec's associations are; a later one counts anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.packets.table import PROTO_GRE
from vpnforensics.tunnels import ppp
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import (
    OWN_SHAPE,
    Datagrams,
    Flags,
    Recognition,
    Records,
    be16,
    be32,
    no_handshake,
)

name = "pptp"
server_ports = (1723,)
"""Of the control connection: GRE has none."""
copies_ecn = False
handshake = no_handshake

_KEY, _SEQUENCE, _ACKNOWLEDGEMENT = 0x2000, 0x1000, 0x0080
_VERSION, _TYPE = 1, 0x880B
_LEAST_BYTES = 8


@dataclass(frozen=True, eq=False)
class _Headers:
    """GRE headers, one a datagram."""

    ours: Flags
    bytes: npt.NDArray[np.int64]
    frame_bytes: npt.NDArray[np.int64]
    """Of the PPP frame behind; 0 where there is none."""


def recognise(sample: Datagrams) -> Recognition | None:
    """GRE headers of which all fields fit: flags, version, type, and the length of what follows."""
    if sample.proto != PROTO_GRE:
        return None
    headers = _headers(sample)
    if headers.ours.mean() < 0.9:
        return None
    return Recognition(OWN_SHAPE, ppp.variant_of(_frames(sample, headers)))


def records(datagrams: Datagrams, variant: str) -> Records:
    """Every IP packet; what PPP says to its peer, and bare acknowledgements, are none."""
    headers = _headers(datagrams)
    frames = _frames(datagrams, headers)
    counter = np.where(frames.carries, be32(datagrams.head, 8), -1)
    return Records(frames.carries, counter, frames.packet_bytes)


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """PPP's."""
    return ppp.length_maps_of(variant)


def _headers(datagrams: Datagrams) -> _Headers:
    head = datagrams.head
    flags, payload = be16(head, 0), be16(head, 4)
    numbered = flags & _SEQUENCE != 0
    header = _LEAST_BYTES + 4 * (numbered.astype(np.int64) + (flags & _ACKNOWLEDGEMENT != 0))
    ours = (flags & ~(_SEQUENCE | _ACKNOWLEDGEMENT) == _KEY | _VERSION) & (be16(head, 2) == _TYPE)
    ours &= numbered == (payload > 0)
    ours &= header + payload >= datagrams.payload_bytes  # more, where it is the first of fragments
    return _Headers(ours, header, np.where(ours, payload, 0))


def _frames(datagrams: Datagrams, headers: _Headers) -> ppp.Frames:
    return ppp.read_frames(datagrams.head, headers.bytes, headers.frame_bytes)
