"""DNS messages: what was asked, and which addresses were answered.

RFC 1035 (messages, compression), RFC 3596 (AAAA), RFC 6891 (EDNS: an additional record, which is not needed),
RFC 9460 (address hints of HTTPS records). A message that a snap cut yields what stands before the cut.
A compression pointer must lead back, before all that the name has read so far: loops are impossible.
"""

from __future__ import annotations

from dataclasses import dataclass

from vpnforensics.features.names.wire import MOST_NAME_BYTES, Cursor, ShortError, spelled

PORT = 53
_HEADER_BYTES = 12
_MOST_JUMPS = 32
"""Names have fewer labels; a chain of pointers to pointers in each record would take minutes."""
_A, _PTR, _AAAA, _SVCB, _HTTPS = 1, 12, 28, 64, 65
_INTERNET = 1
_LONGEST_TTL_S = (1 << 31) - 1
_HINTS = {4: 4, 6: 16}
"""Keys of a service binding that hold addresses (RFC 9460, 7.3), and the octets of one."""


class _BadError(Exception):
    """Something that no DNS message holds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An address that a name has, in network order, 4 or 16 bytes; and for how long."""

    address: bytes
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Message:
    """A query or a response.

    ``answers`` are addresses for ``name`` (through aliases), ``reverse`` the names of an address that it
    spells; ``cut`` is set where the bytes end before the answers do.
    """

    ident: int
    is_response: bool
    name: str
    answers: tuple[Answer, ...] = ()
    reverse: tuple[str, ...] = ()
    cut: bool = False


def read_message(payload: bytes) -> Message | None:
    """Read a DNS message; ``None`` for what is none, or has no question left.

    Parameters
    ----------
    payload : bytes
        Of a datagram, or of TCP without the length in front.
    """
    cursor = Cursor(payload)
    try:
        ident, flags = cursor.number(2), cursor.number(2)
        questions, answers = cursor.number(2), cursor.number(2)
        cursor.take(4)
        if flags >> 11 & 15 or questions != 1:
            return None
        name = _name(cursor)
        cursor.take(4)
    except (ShortError, _BadError):
        return None
    is_response = flags >> 15 == 1
    found: list[Answer] = []
    reverse: list[str] = []
    cut = False
    try:
        for _ in range(answers if is_response else 0):
            _read_record(cursor, found, reverse)
    except ShortError:
        cut = True
    except _BadError:
        return None
    return Message(ident, is_response, name, tuple(found), tuple(reverse), cut)


def read_stream(stream: bytes, *, cut: bool = False) -> list[Message]:
    """The messages in one direction of DNS over TCP (RFC 1035, 4.2.2); ``cut`` where the stream goes on."""
    cursor, found = Cursor(stream), []
    try:
        while len(cursor) >= 2 + _HEADER_BYTES:
            length = cursor.number(2)
            payload = cursor.take(min(length, len(cursor)))
            message = read_message(payload)
            if message is None or (len(payload) < length and not cut):
                break
            found.append(message)
    except ShortError:
        pass
    return found


def address_of(name: str) -> bytes | None:
    r"""The address that a name of the reverse tree spells (RFC 1035, 3.5; RFC 3596, 2.5).

    >>> address_of("4.3.2.1.in-addr.arpa"), address_of("www.example")
    (b'\x01\x02\x03\x04', None)
    """
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return bytes(int(label) for label in reversed(labels[:4]))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
            return bytes.fromhex("".join(reversed(labels[:32])))
    except ValueError:
        pass
    return None


def _read_record(cursor: Cursor, found: list[Answer], reverse: list[str]) -> None:
    """One record of the answer section, of which the owner is the name asked for, or an alias of it."""
    _name(cursor)
    kind, group, ttl_s, length = (cursor.number(width) for width in (2, 2, 4, 2))
    at = cursor.at
    octets = cursor.take(length)
    if group != _INTERNET:
        return
    ttl_s = ttl_s if ttl_s <= _LONGEST_TTL_S else 0  # RFC 2181, 8
    if (kind, length) in ((_A, 4), (_AAAA, 16)):
        found.append(Answer(octets, ttl_s))
    elif kind == _PTR:
        reverse.append(_name(Cursor(cursor.buf, at, at + length)))
    elif kind in (_SVCB, _HTTPS):
        found += [Answer(address, ttl_s) for address in _hints(Cursor(cursor.buf, at, at + length))]


def _hints(cursor: Cursor) -> list[bytes]:
    found: list[bytes] = []
    try:
        cursor.take(2)
        _name(cursor)
        while len(cursor):
            key, octets = cursor.number(2), cursor.vector(2)
            width = _HINTS.get(key, 0)
            if width:
                found += [octets[i : i + width] for i in range(0, len(octets) - width + 1, width)]
    except (ShortError, _BadError):  # the record's own fault
        pass
    return found


def _name(cursor: Cursor) -> str:
    """A name, through its compression; the cursor stands behind it."""
    labels: list[bytes] = []
    octets, jumps, reader = 0, 0, cursor
    lowest = cursor.at
    while True:
        length = reader.number(1)
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | reader.number(1)
            jumps += 1
            if target >= lowest or target < _HEADER_BYTES or jumps > _MOST_JUMPS:
                raise _BadError
            lowest = target
            reader = Cursor(cursor.buf, target)
            continue
        if length >= 0x40:
            raise _BadError
        if not length:
            break
        octets += length + 1
        if octets > MOST_NAME_BYTES:
            raise _BadError
        labels.append(reader.take(length))
    return ".".join(map(_label, labels)) or "."


def _label(octets: bytes) -> str:
    """One label; a dot inside of it is no separator (RFC 4343, 2.1)."""
    return "\\046".join(map(spelled, octets.split(b".")))
