"""What stands in a PPP frame (RFC 1661): an IP packet in clear, one sealed by MPPE (RFC 3078), or neither.

::

    [ff 03] protocol (2 bytes, or 1 where the other is zero) | IP packet
    [ff 03] 00fd | MPPE: 4 bits, 12-bit count | sealed: protocol (2 bytes, or 1) and IP packet

Address and half of the protocol are left out where both ends agree to (RFC 1661, 6.5 and 6.6), frame by
frame; these are in clear, so a frame says itself how many bytes of it are the packet. With MPPC (RFC 2118)
the packet is compressed before it is sealed; then nothing is known of its length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import U8, Flags

_ADDRESS = 0xFF03  # all stations, unnumbered
_IPV4, _IPV6, _COMPRESSED = 0x0021, 0x0057, 0x00FD
_COUNT_BYTES = 2
_SQUEEZED = 0x2000
"""Bit C of MPPE's header: MPPC compressed the packet (RFC 2118, 4)."""
_KNOWN = (
    _IPV4, _IPV6, _COMPRESSED,
    0x00FB,  # compressed on one of several links
    0x002D, 0x002F,  # TCP headers by Van Jacobson
    0xC021, 0xC023, 0xC025, 0xC223, 0xC227,  # the link itself, PAP, quality, CHAP, EAP
    0x8021, 0x8057, 0x80FD, 0x80FB,  # what IP, IPv6 and compression agree on
)  # fmt: skip
"""https://www.iana.org/assignments/ppp-numbers: what VPNs send."""


@dataclass(frozen=True, eq=False)
class Frames:
    """What PPP frames carry, one each."""

    known: Flags
    """A protocol that VPNs send."""
    carries: Flags
    """An IP packet is inside, in clear or sealed."""
    sealed: Flags
    squeezed: Flags
    packet_bytes: npt.NDArray[np.int32]
    """Of the packet, or of what is sealed; 0 where nothing is."""


def read_frames(head: U8, at: npt.NDArray[np.int64], size: npt.NDArray[np.int64]) -> Frames:
    """Frames that begin ``at`` these bytes of the heads and have these sizes, 0 where there is none."""
    begin = at + 2 * (be16_at(head, at) == _ADDRESS)
    protocol = be16_at(head, begin)
    is_short = protocol & 0x0100 != 0  # the first byte of two is even
    protocol = np.where(is_short, protocol >> 8, protocol)
    begin = begin + np.where(is_short, 1, 2)
    known = np.isin(protocol, _KNOWN) & (begin - at < size)
    sealed = known & (protocol == _COMPRESSED)
    carries = sealed | (known & ((protocol == _IPV4) | (protocol == _IPV6)))
    packet = size - (begin - at) - _COUNT_BYTES * sealed
    carries &= packet > 0
    return Frames(
        known,
        carries,
        sealed & carries,
        sealed & (be16_at(head, begin) & _SQUEEZED != 0),
        np.where(carries, packet, 0).astype(np.int32),
    )


def be16_at(head: U8, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Big-endian 16-bit field of every head, each ``at`` a byte of its own; the last one's beyond the end."""
    row, last = np.arange(len(head)), head.shape[1] - 1
    upper, lower = (head[row, np.minimum(at + k, last)].astype(np.int64) for k in (0, 1))
    return np.asarray(upper << 8 | lower)


def variant_of(frames: Frames) -> str:
    """``mppe``, ``mppc`` (compressed, too), ``clear``; empty where no packet was seen."""
    if not frames.carries.any():
        return ""
    if not frames.sealed.any():
        return "clear"
    return "mppc" if frames.squeezed[frames.sealed].mean() > 0.5 else "mppe"


def length_maps_of(variant: str) -> tuple[LengthMap, ...]:
    """Of the packet's bytes: sealed, a protocol of two bytes or one stands before it."""
    if variant == "mppc":
        return ()
    return (LengthMap(0),) if variant == "clear" else (LengthMap(2), LengthMap(1))
