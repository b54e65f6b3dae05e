"""The four messages of WireGuard, as bytes.

Layouts are those of sections 5.4.2 to 5.4.7 of https://www.wireguard.com/papers/wireguard.pdf; all integers
are little-endian, and the type byte is followed by three zero bytes that must stay zero. Parsing checks
lengths and those zeros and nothing else: whether a message is authentic is for ``handshake``, ``cookie``
and ``session``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vpnforensics.reftunnel.drops import Drop, RefusedError

INITIATION = 1
RESPONSE = 2
COOKIE_REPLY = 3
TRANSPORT = 4

INITIATION_BYTES = 148
RESPONSE_BYTES = 92
COOKIE_REPLY_BYTES = 64
TRANSPORT_HEADER_BYTES = 16
KEEPALIVE_BYTES = 32
"""A transport message with nothing inside: header and tag."""

MACS_BYTES = 32
"""mac1 and mac2, 16 bytes each, end an initiation and a response."""

TRANSPORT_OVERHEAD_BYTES = 32
PADDING_BYTES = 16
"""Inner packets are zero-padded to a multiple of this (section 5.4.6)."""


def pad_to_16(length: int) -> int:
    """Padded length of an inner packet, as the protocol prescribes."""
    return (length + PADDING_BYTES - 1) & ~(PADDING_BYTES - 1)


transport_header = struct.Struct("<IIQ")
"""Type word, receiver index, counter."""

_INITIATION = struct.Struct("<II32s48s28s")
_RESPONSE = struct.Struct("<III32s16s")
_COOKIE_REPLY = struct.Struct("<II24s32s")


def message_type(datagram: bytes | memoryview) -> int:
    """Type of a datagram, after checking the reserved zeros and the length.

    Raises
    ------
    RefusedError
        ``MALFORMED``: not one of the four messages.
    """
    size = len(datagram)
    if size < KEEPALIVE_BYTES or datagram[1] or datagram[2] or datagram[3]:
        raise RefusedError(Drop.MALFORMED)
    kind = datagram[0]
    if (
        kind == TRANSPORT
        or (kind == INITIATION and size == INITIATION_BYTES)
        or (kind == RESPONSE and size == RESPONSE_BYTES)
        or (kind == COOKIE_REPLY and size == COOKIE_REPLY_BYTES)
    ):
        return kind
    raise RefusedError(Drop.MALFORMED)


@dataclass(frozen=True, slots=True)
class Initiation:
    """First message of a handshake, without its MACs."""

    sender: int
    ephemeral: bytes
    sealed_static: bytes
    sealed_timestamp: bytes

    def pack(self) -> bytes:
        """116 bytes; the two MACs follow on the wire."""
        return _INITIATION.pack(
            INITIATION, self.sender, self.ephemeral, self.sealed_static, self.sealed_timestamp
        )

    @classmethod
    def unpack(cls, message: bytes) -> Initiation:
        """Fields of an initiation (with or without MACs)."""
        if len(message) < _INITIATION.size:
            raise RefusedError(Drop.MALFORMED)
        return cls(*_INITIATION.unpack_from(message)[1:])


@dataclass(frozen=True, slots=True)
class Response:
    """Second message of a handshake, without its MACs."""

    sender: int
    receiver: int
    ephemeral: bytes
    sealed_nothing: bytes

    def pack(self) -> bytes:
        """60 bytes; the two MACs follow on the wire."""
        return _RESPONSE.pack(RESPONSE, self.sender, self.receiver, self.ephemeral, self.sealed_nothing)

    @classmethod
    def unpack(cls, message: bytes) -> Response:
        """Fields of a response (with or without MACs)."""
        if len(message) < _RESPONSE.size:
            raise RefusedError(Drop.MALFORMED)
        return cls(*_RESPONSE.unpack_from(message)[1:])


@dataclass(frozen=True, slots=True)
class CookieReply:
    """What a responder under load sends instead of a response."""

    receiver: int
    nonce: bytes
    sealed_cookie: bytes

    def pack(self) -> bytes:
        """The 64 bytes of the message."""
        return _COOKIE_REPLY.pack(COOKIE_REPLY, self.receiver, self.nonce, self.sealed_cookie)

    @classmethod
    def unpack(cls, message: bytes) -> CookieReply:
        """Fields of a cookie reply."""
        if len(message) != COOKIE_REPLY_BYTES:
            raise RefusedError(Drop.MALFORMED)
        return cls(*_COOKIE_REPLY.unpack(message)[1:])
