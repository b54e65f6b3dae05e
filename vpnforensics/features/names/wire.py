"""Reading bytes that a stranger wrote: a cursor that cannot run past its end, and names made harmless."""

from __future__ import annotations

MOST_NAME_BYTES = 255
"""Octets of a name (RFC 1035, 2.3.4); a longer one is no host's."""


class ShortError(Exception):
    """The bytes end before what they announce."""


class Cursor:
    """A place in a buffer that only moves on.

    Parameters
    ----------
    buf : bytes
    at, end : int, optional
        What of it may be read.
    """

    __slots__ = ("at", "buf", "end")

    def __init__(self, buf: bytes, at: int = 0, end: int | None = None) -> None:
        self.buf = buf
        self.at = at
        self.end = len(buf) if end is None else min(end, len(buf))

    def __len__(self) -> int:
        return max(0, self.end - self.at)

    def take(self, count: int) -> bytes:
        """So many bytes.

        Raises
        ------
        ShortError
            There are fewer.
        """
        at = self.at
        if at + count > self.end:
            raise ShortError
        self.at = at + count
        return self.buf[at : at + count]

    def number(self, width: int) -> int:
        """An unsigned integer of so many bytes, big-endian."""
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        """Bytes behind their length, which takes so many bytes (RFC 8446, 3.4)."""
        return self.take(self.number(width))

    def varint(self) -> int:
        """A variable-length integer of QUIC (RFC 9000, 16)."""
        first = self.number(1)
        rest = self.take((1 << (first >> 6)) - 1)
        return int.from_bytes(bytes([first & 0x3F]) + rest, "big")


def spelled(octets: bytes) -> str:
    r"""A label or host name as printable ASCII, lower case; what is none of that as ``\DDD`` (RFC 4343, 2.1).

    Case means nothing in names, and resolvers mix it on purpose.

    >>> spelled(b"WWW.Example"), spelled(b"a\x1b[2J\xff")
    ('www.example', 'a\\027[2j\\255')
    """
    if octets.isascii() and octets.decode("ascii").isprintable() and not set(octets) & _ESCAPED:
        return octets.decode("ascii").lower()
    return "".join(chr(o).lower() if 0x20 < o < 0x7F and o not in _ESCAPED else f"\\{o:03d}" for o in octets)


_ESCAPED = frozenset(b" \\\"'<>&`")
"""Printable, but in no name: what could end a string or open markup."""
