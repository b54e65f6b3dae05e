"""ssh whose packets show their lengths: with AES-GCM, or a MAC over what is encrypted already (``-etm``).

A packet (RFC 4253, 6) is its length in four bytes, padding length, payload and padding, and a tag. With
AES-GCM (RFC 5647, 7.2; ``aes256-gcm@openssh.com``) and with ``*-etm@openssh.com`` (OpenSSH's PROTOCOL file,
section 1.5) the length is in clear and the rest a whole number of cipher blocks, so that a stream falls into
packets from NEWKEYS on, through every later key exchange, and wherever a capture begins: a length that leads
to a length that leads to a length is no chance. With ``chacha20-poly1305@openssh.com`` and without ``-etm``
the length is encrypted too, and the stream stays one (:mod:`vpnforensics.tunnels.stream`).

``ssh -w`` puts every packet of a tun device into a packet of its own, with the message's type, channel,
length and address family before it (RFC 4254, 5.2; PROTOCOL, 2.3): 13 bytes, the padding length and 4 or more
of padding. Interactive sessions and ``-D`` look alike in small packets, so these are candidates until lengths
prove them; where packets are larger than an inner one can be, they are writes of forwarded connections.

Known weakness: compression (``zlib@openssh.com``) makes lengths depend on contents, and no map fits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.tunnels import _frame_kernels as k
from vpnforensics.tunnels import stream
from vpnforensics.tunnels.framing import Framing
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import (
    LIKENESS,
    POSSIBLE,
    U8,
    Datagrams,
    Recognition,
    Records,
    be32,
)

name = stream.SSH
server_ports = (22,)
framing: Framing = "ssh"
header_bytes = 4
least_frames = 4
length_bytes, counter_bytes = 4, 4

PACKETS, WRITES = "lengths in clear", "lengths in clear, writes"
"""Variants: what may hold inner packets, and what is too large for it."""
_TAGS = (16, 32, 64, 20, 8)
"""Bytes of GCM's and umac-128's, hmac-sha2-256's, -512's, hmac-sha1's and umac-64's tag."""
_TUN_BYTES = 1 + 4 + 4 + 4 + 1 + 4
"""Type, channel, length, address family; padding length and the least padding."""
_CHANNEL_BYTES = 1 + 4 + 4 + 1 + 1 + 4
"""Type, channel, length of a byte of data, that byte; padding length and the least padding."""
_AES_BLOCK, _OTHER_BLOCK = 16, 8
_LEAST_INNER_BYTES = 28
_MOST_PACKET_BYTES = 2048
_MOST_LARGE_SHARE = 0.02
_LOG_IN_PACKETS = 12
_SEALED_BYTES, _MOST_EQUAL_SHARE = 8, 0.1
_LEAST_CHAINED = 3
"""Lengths that lead to another: by chance one in some 2^19 of ciphertext does."""


def recognise(sample: Datagrams, begun: bool) -> Recognition | None:
    """Packets in a chain are ssh's; a likeness of a tunnel if none is larger than one with a packet in it."""
    if len(sample) < least_frames or not _sealed(sample):
        return None
    if _as_small_as_packets(sample):
        return Recognition(LIKENESS, PACKETS)
    return Recognition(POSSIBLE, WRITES)


def records(datagrams: Datagrams, variant: str) -> Records:
    """Packets with room for an inner one, or for a byte that was forwarded."""
    inner = _CHANNEL_BYTES if variant == WRITES else _LEAST_INNER_BYTES + _TUN_BYTES
    carries = datagrams.payload_bytes >= -(-inner // _OTHER_BLOCK) * _OTHER_BLOCK
    return Records(carries, np.full(len(datagrams), -1, np.int64))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """Blocks of AES, or of 3DES."""
    if variant == WRITES:
        return ()
    return tuple(LengthMap(b, b, _TUN_BYTES - b) for b in (_AES_BLOCK, _OTHER_BLOCK))


def tag_bytes(
    stream: npt.NDArray[np.int64], pos: npt.NDArray[np.int64], heads: U8, streams: int
) -> npt.NDArray[np.int64]:
    """How long each stream's tags are, from segments that begin with a length.

    Parameters
    ----------
    stream, pos : ndarray of int64, shape (n,)
        Of segments: their stream, and where in it they begin.
    heads : ndarray of uint8, shape (n, 32)
        First bytes of the segments.
    streams : int

    Returns
    -------
    ndarray of int64, shape (streams,)
        -1 where no lengths are in clear. What one direction lacks it has of the other.
    """
    length = be32(heads, 0)
    begins = (length >= k.SSH_LEAST) & (length <= k.SSH_MOST) & (length % k.SSH_BLOCK == 0)
    stream, pos, length = stream[begins], pos[begins], length[begins]
    place = stream << 40 | pos
    votes = np.zeros((len(_TAGS), streams), np.int64)
    for n, tag in enumerate(_TAGS):
        leads = np.isin(place + 4 + length + tag, place)
        votes[n] = np.bincount(stream[leads], minlength=streams)
    best = votes.argmax(axis=0)
    found = np.where(votes.max(axis=0) >= _LEAST_CHAINED, np.array(_TAGS)[best], k.NO_KEY)
    pairs = found.reshape(-1, 2)
    return np.where(pairs == k.NO_KEY, pairs[:, ::-1], pairs).ravel()


def _sealed(sample: Datagrams) -> bool:
    """Whether what follows the lengths differs from packet to packet: ciphertext does, fields do not."""
    more = np.asarray(sample.head[:, _SEALED_BYTES:].any(axis=1))  # was captured than is compared
    read = sample.take(more)
    body = [read.head[side, :_SEALED_BYTES] for side in read.sides]
    equal = [(side[1:] == side[:-1]).ravel() for side in body]
    return bool(np.concatenate(equal).mean() < _MOST_EQUAL_SHARE) if any(len(e) for e in equal) else False


def _as_small_as_packets(sample: Datagrams) -> bool:
    """Whether, once the log-in is over, no end sends packets larger than an inner packet makes them."""
    spoken = [sample.payload_bytes[side][_LOG_IN_PACKETS:] for side in sample.sides if side.any()]
    return all(len(s) >= 3 and (s > _MOST_PACKET_BYTES).mean() <= _MOST_LARGE_SHARE for s in spoken)
