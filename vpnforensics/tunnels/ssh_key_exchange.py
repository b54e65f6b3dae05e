"""What the two ends of an ssh connection agreed on: their KEXINIT messages are in clear.

RFC 4253, 4.2 (a line of text), 6 (packets) and 7.1 (KEXINIT: a cookie and ten lists of names; each algorithm
is the first of the client's list that the server has, too). A cipher that authenticates by itself has no MAC,
whatever the lists say (RFC 5647, 5.1; OpenSSH's PROTOCOL.chacha20poly1305).
"""

from __future__ import annotations

import struct

_KEXINIT, _COOKIE_BYTES, _LISTS = 20, 16, 10
_CIPHER, _MAC, _COMPRESSION = 2, 4, 6
"""Where the lists for client to server stand; those for server to client follow each."""
_MOST_LINES = 64
_OWN_MAC = ("gcm", "poly1305")
OPENING_BYTES = 8192
"""First bytes of a stream that have its KEXINIT: OpenSSH's is of 1 to 2 kB."""


def agreed(client: bytes, server: bytes) -> str:
    """Cipher, MAC and compression as text, both directions' where they differ; empty where not captured.

    Parameters
    ----------
    client, server : bytes
        First bytes of either stream.
    """
    wanted, offered = _lists(client), _lists(server)
    if not wanted or not offered:
        return ""
    each = [_suite(wanted, offered, direction) for direction in (0, 1)]
    return " / ".join(dict.fromkeys(each)) if all(each) else ""


def _suite(client: list[list[str]], server: list[list[str]], direction: int) -> str:
    cipher, mac, compression = (
        next((name for name in client[at + direction] if name in server[at + direction]), "")
        for at in (_CIPHER, _MAC, _COMPRESSION)
    )
    parts = [cipher]
    if cipher and not any(word in cipher for word in _OWN_MAC):
        parts.append(mac)
    if compression not in ("", "none"):
        parts.append(compression)
    return ", ".join(parts) if cipher else ""


def _lists(opening: bytes) -> list[list[str]]:
    """The lists of names of a KEXINIT; empty where there is none, whole."""
    at = 0
    for _ in range(_MOST_LINES):  # a server may say something before its version
        line, feed, _ = opening[at:].partition(b"\n")
        at += len(line) + 1
        if not feed or line.startswith(b"SSH-"):
            break
    body = opening[at + 5 :]  # behind length and padding length
    if body[:1] != bytes([_KEXINIT]):
        return []
    at, found = 1 + _COOKIE_BYTES, []
    for _ in range(_LISTS):
        if at + 4 > len(body):
            return []
        (length,) = struct.unpack_from(">I", body, at)
        at += 4 + length
        if at > len(body):
            return []
        names = body[at - length : at].decode("ascii", "replace")
        found.append([name for name in names.split(",") if name.isprintable()])
    return found
