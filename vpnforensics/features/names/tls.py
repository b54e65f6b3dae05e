"""The server's name in a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3).

Where the client encrypts its hello (ECH), the name here is the one that the provider shows to all.
"""

from __future__ import annotations

from dataclasses import dataclass

from vpnforensics.features.names.wire import MOST_NAME_BYTES, Cursor, ShortError, spelled

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_MOST_RECORD_BYTES = (1 << 14) + 256
_SERVER_NAME, _HOST_NAME = 0, 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a first message says: its name, if it has one; ``cut`` where the bytes end before that is told."""

    name: str | None = None
    cut: bool = False


def read_records(stream: bytes) -> Found | None:
    """The name in the ClientHello that opens a TLS stream; ``None`` if none does."""
    if len(stream) < 6 or stream[0] != _HANDSHAKE or stream[1] != 3 or stream[5] != _CLIENT_HELLO:
        return None
    cursor, hello = Cursor(stream), b""
    while len(cursor) >= 5:
        kind, version, length = cursor.number(1), cursor.number(2), cursor.number(2)
        if kind != _HANDSHAKE or version >> 8 != 3 or not 0 < length <= _MOST_RECORD_BYTES:
            break
        hello += cursor.take(min(length, len(cursor)))
        if len(hello) >= 4 and len(hello) >= 4 + int.from_bytes(hello[1:4], "big"):
            break
    return read_hello(hello)


def read_hello(message: bytes) -> Found | None:
    """The name in a ClientHello, a handshake message; ``None`` for what is none."""
    if not message or message[0] != _CLIENT_HELLO:
        return None
    cursor = Cursor(message, 1)
    try:
        cursor.end = min(cursor.end, 4 + cursor.number(3))
        cursor.take(2 + 32)
        cursor.vector(1)
        cursor.vector(2)
        cursor.vector(1)
        if not len(cursor) and cursor.end < len(message):  # a hello without extensions, and what follows
            return Found()
        cursor.number(2)
        while len(cursor):
            kind = cursor.number(2)
            extension = cursor.vector(2)
            if kind == _SERVER_NAME:
                return Found(_server_name(extension))
    except ShortError:
        announced = 4 + int.from_bytes(message[1:4], "big")
        return Found(cut=len(message) < max(announced, 4))
    return Found(cut=len(message) < 4 + int.from_bytes(message[1:4], "big"))


def _server_name(extension: bytes) -> str | None:
    cursor = Cursor(extension)
    try:
        cursor.number(2)
        while len(cursor):
            kind, name = cursor.number(1), cursor.vector(2)
            if kind == _HOST_NAME and 0 < len(name) <= MOST_NAME_BYTES:
                return spelled(name)
    except ShortError:
        pass
    return None
