"""The server's name in a QUIC handshake: its first packets are encrypted under keys that anyone can derive.

Initial packets of QUIC 1 (RFC 9001, 5.2) and 2 (RFC 9369, 3.3): the keys follow from a published salt and the
destination connection id that the client chose, which is in clear. After a Retry it is the server's choice
(RFC 9001, 5.2), so that each packet is tried with its own id and with the first one. The ClientHello may be
split over CRYPTO frames and packets in any order, as browsers do on purpose.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from vpnforensics.features.names.tls import Found, read_hello
from vpnforensics.features.names.wire import Cursor, ShortError

MOST_HELLO_BYTES = 1 << 14
_LONG_HEADER, _FIXED = 0x80, 0x40
_SAMPLE_BYTES, _TAG_BYTES = 16, 16
_LONGEST_ID_BYTES = 20  # RFC 9000, 17.2
_PADDING, _PING, _ACK, _ACK_ECN, _CRYPTO = 0x00, 0x01, 0x02, 0x03, 0x06


@dataclass(frozen=True, slots=True)
class _Version:
    """What one version of QUIC derives its first keys from."""

    salt: bytes
    labels: tuple[str, str, str]
    initial: int
    """The packet type of an Initial."""


_VERSIONS = {
    1: _Version(
        bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"), ("quic key", "quic iv", "quic hp"), 0
    ),
    0x6B3343CF: _Version(
        bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"), ("quicv2 key", "quicv2 iv", "quicv2 hp"), 1
    ),
}


@dataclass(frozen=True, slots=True)
class Initial:
    """One Initial packet, still protected."""

    version: int
    destination_id: bytes
    packet: bytes
    """From its first byte to the end of its payload."""
    number_at: int
    """Where the packet number begins in it."""


@cache
def can_decrypt() -> bool:
    """Whether the package that has the ciphers is installed."""
    return find_spec("cryptography") is not None


def initials(datagram: bytes) -> Iterator[Initial]:
    """The Initial packets of a datagram, in which packets may follow each other (RFC 9000, 12.2)."""
    cursor = Cursor(datagram)
    try:
        while len(cursor):
            begin = cursor.at
            first = cursor.number(1)
            if not first & _LONG_HEADER or not first & _FIXED:
                return
            number = cursor.number(4)
            version = _VERSIONS.get(number)
            destination_id = cursor.vector(1)
            source_id = cursor.vector(1)
            if version is None or max(len(destination_id), len(source_id)) > _LONGEST_ID_BYTES:
                return
            is_initial = first >> 4 & 3 == version.initial
            if is_initial:
                cursor.take(cursor.varint())
            elif first >> 4 & 3 == (version.initial - 1) % 4:  # a Retry has no length
                return
            length = cursor.varint()
            number_at = cursor.at - begin
            cursor.take(length)
            if is_initial:
                yield Initial(number, destination_id, datagram[begin : cursor.at], number_at)
    except ShortError:
        return


def is_initial(datagram: bytes) -> bool:
    """Whether a datagram, perhaps a cut one, begins as an Initial packet that can be read."""
    if len(datagram) < 5:
        return False
    version = _VERSIONS.get(int.from_bytes(datagram[1:5], "big"))
    return version is not None and datagram[0] >> 6 == 3 and datagram[0] >> 4 & 3 == version.initial


class Handshake:
    """What a client said in the Initial packets of one flow."""

    def __init__(self) -> None:
        self._keys: dict[tuple[int, bytes], Any] = {}
        self._pieces: dict[int, bytes] = {}
        self._held_bytes = 0
        self.began = False
        """An Initial packet was decrypted."""

    def add(self, datagram: bytes) -> None:
        """Take what the client's Initial packets in a datagram say; others are not."""
        for packet in initials(datagram):
            frames = self._opened(packet)
            if frames is not None:
                self.began = True
                self._take_crypto(frames)

    def found(self) -> Found | None:
        """The name so far; ``None`` before a ClientHello."""
        hello = b""
        for offset in sorted(self._pieces):
            piece = self._pieces[offset]
            if offset > len(hello):
                break
            hello += piece[len(hello) - offset :]
        return read_hello(hello) or (Found(cut=True) if self.began else None)

    def _opened(self, packet: Initial) -> bytes | None:
        own = (packet.version, packet.destination_id)
        for key in dict.fromkeys((own, *self._keys)):
            if key[0] != packet.version:
                continue
            keys = self._keys.get(key) or _client_keys(*key)
            frames = _decrypt(packet, keys)
            if frames is not None:
                self._keys[key] = keys
                return frames
        return None

    def _take_crypto(self, frames: bytes) -> None:
        cursor = Cursor(frames)
        try:
            while len(cursor):
                kind = cursor.varint()
                if kind in (_ACK, _ACK_ECN):
                    _skip_ack(cursor, kind)
                elif kind == _CRYPTO:
                    offset = cursor.varint()
                    piece = cursor.take(cursor.varint())
                    if self._held_bytes + len(piece) > MOST_HELLO_BYTES or offset > MOST_HELLO_BYTES:
                        return
                    if len(piece) > len(self._pieces.get(offset, b"")):
                        self._pieces[offset] = piece
                        self._held_bytes += len(piece)
                elif kind not in (_PADDING, _PING):
                    return
        except ShortError:
            return


def _skip_ack(cursor: Cursor, kind: int) -> None:
    for _ in range(2):
        cursor.varint()
    ranges = cursor.varint()
    for _ in range(1 + 2 * min(ranges, len(cursor)) + (3 if kind == _ACK_ECN else 0)):
        cursor.varint()


@dataclass(frozen=True, slots=True)
class _Keys:
    aead: Any
    iv: int
    mask: Any
    """AES of the header-protection key."""


def _client_keys(version: int, destination_id: bytes) -> _Keys:
    """RFC 9001, 5.2: HKDF of the client's connection id, by the version's salt and labels."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    constants = _VERSIONS[version]
    initial = hmac.digest(constants.salt, destination_id, "sha256")
    client = _expanded(initial, "client in", 32)
    key, iv, header = (
        _expanded(client, label, size) for label, size in zip(constants.labels, (16, 12, 16), strict=True)
    )
    # One block a packet, to unmask its header: the mode that header protection is defined with.
    mask = Cipher(algorithms.AES(header), modes.ECB())  # noqa: S305
    return _Keys(AESGCM(key), int.from_bytes(iv, "big"), mask)


def _expanded(secret: bytes, label: str, size: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446, 7.1), of at most one block."""
    text = b"tls13 " + label.encode()
    info = size.to_bytes(2, "big") + bytes([len(text)]) + text + b"\0"
    return hmac.digest(secret, info + b"\x01", "sha256")[:size]


def _decrypt(packet: Initial, keys: _Keys) -> bytes | None:
    """RFC 9001, 5.4.1, 5.3: header protection off, then the AEAD; ``None`` where these are not the keys."""
    from cryptography.exceptions import InvalidTag

    raw, at = packet.packet, packet.number_at
    sample = raw[at + 4 : at + 4 + _SAMPLE_BYTES]
    if len(sample) < _SAMPLE_BYTES:
        return None
    mask = keys.mask.encryptor().update(sample)
    first = raw[0] ^ mask[0] & 0x0F
    width = (first & 3) + 1
    number = bytes(a ^ b for a, b in zip(raw[at : at + width], mask[1:], strict=False))
    header = bytes([first]) + raw[1:at] + number
    nonce = (keys.iv ^ int.from_bytes(number, "big")).to_bytes(12, "big")
    sealed = raw[at + width :]
    if len(sealed) < _TAG_BYTES:
        return None
    try:
        opened: bytes = keys.aead.decrypt(nonce, sealed, header)
    except InvalidTag:
        return None
    return opened
