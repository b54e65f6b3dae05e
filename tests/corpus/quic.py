"""QUIC (RFC 9000), version 2 (RFC 9369), the drafts before, and Google's own (gQUIC)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.corpus.ordinary import talk, written
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import Talk

V1, V2, DRAFT_29 = 0x00000001, 0x6B3343CF, 0xFF00001D
# RFC 9000, 17.2 and RFC 9369, 3.2: long header types of Initial and Handshake
_LONG = {V1: (0, 2), V2: (1, 3), DRAFT_29: (0, 2)}


def _long(first: int, version: int, to: bytes, by: bytes, body: bytes) -> bytes:
    head = struct.pack(">BI", first, version) + bytes([len(to)]) + to + bytes([len(by)]) + by
    return head + body


def handshake(line: Talk, version: int, mine: bytes, theirs: bytes) -> None:
    """Initial packets padded to 1200 bytes (14.1), then Handshake packets."""
    random, rng = line.wire.rng.randbytes, line.wire.rng
    initial, handshake = _LONG[version]

    def first(kind: int) -> int:
        return 0xC0 | kind << 4 | rng.randrange(16)

    chosen = random(8)  # the client's first guess of the server's id (7.2)
    line.up(_long(first(initial), version, chosen, mine, b"\0\x44\x9e" + random(1172)))
    line.down(_long(first(initial), version, mine, theirs, b"\0\x40\x75" + random(1180)))
    line.down(_long(first(handshake), version, mine, theirs, b"\x43\xe8" + random(1100)))
    line.up(_long(first(handshake), version, theirs, mine, b"\x40\x4b" + random(75)))


def short_headers(line: Talk, count: int, mine: bytes, theirs: bytes) -> None:
    """1-RTT packets (17.3.1): fixed bit, then the receiver's id, the rest encrypted."""
    rng = line.wire.rng
    for _ in range(count):
        up = rng.random() < 0.4
        head = bytes([0x40 | rng.randrange(64)]) + (theirs if up else mine)
        line.say(up, head + rng.randbytes(rng.choice((22, 30, 41, 120, 700, 1210))))


def _session(draft: Draft, version: int, mine: int, theirs: int, count: int = 24) -> None:
    line = talk(draft, 443)
    ids = draft.wire.rng.randbytes(mine), draft.wire.rng.randbytes(theirs)
    handshake(line, version, *ids)
    short_headers(line, count, *ids)


def quic_v1(draft: Draft) -> None:
    _session(draft, V1, 8, 8)


def quic_v1_without_client_id(draft: Draft) -> None:
    _session(draft, V1, 0, 8)


def quic_v1_long_ids(draft: Draft) -> None:
    _session(draft, V1, 20, 20)


def quic_v1_short_ids(draft: Draft) -> None:
    _session(draft, V1, 0, 4)


def quic_v2(draft: Draft) -> None:
    _session(draft, V2, 8, 16)


def quic_draft_29(draft: Draft) -> None:
    _session(draft, DRAFT_29, 0, 8)


def quic_initials_only(draft: Draft) -> None:
    _session(draft, V1, 8, 8, count=0)


def quic_mid(draft: Draft) -> None:
    short_headers(talk(draft, 443), 60, b"", draft.wire.rng.randbytes(8))


def quic_mid_only_up(draft: Draft) -> None:
    short_headers(talk(draft, 443, seen="up"), 90, b"", draft.wire.rng.randbytes(8))


def quic_version_negotiation(draft: Draft) -> None:
    """A packet of a version nobody knows, answered by the list of those known (17.2.1)."""
    line, random = talk(draft, 443), draft.wire.rng.randbytes
    mine, theirs = random(8), random(8)
    line.up(_long(0xC3, 0x1A2A3A4A, theirs, mine, random(1170)))
    line.down(_long(0x80 | 0x2B, 0, mine, theirs, struct.pack(">III", V1, V2, DRAFT_29)))
    handshake(line, V1, mine, theirs)
    short_headers(line, 10, mine, theirs)


def _gquic(draft: Draft, flags: int, *, version: bytes = b"Q043", count: int = 24) -> None:
    """Flags, connection id, version until agreed, packet number (draft-tsvwg-quic-protocol-02, 6)."""
    line, rng = talk(draft, 443), draft.wire.rng
    ident = rng.randbytes(8)
    number = {True: 0, False: 0}
    for step in range(count):
        up = rng.random() < 0.5 if step > 1 else step == 0
        number[up] += 1
        opening = step < 3 and up
        head = bytes([flags | (1 if opening else 0)]) + ident + (version if opening else b"")
        if not up and flags & 0x04:
            head += rng.randbytes(32)  # a diversification nonce
        line.say(
            up,
            head + bytes([number[up]]) + rng.randbytes(1330 if opening else rng.choice((20, 33, 400, 1200))),
        )


def gquic_q043(draft: Draft) -> None:
    _gquic(draft, 0x08)


def gquic_q035_reserved_flag(draft: Draft) -> None:
    _gquic(draft, 0x38, version=b"Q035")


def gquic_multipath_flag(draft: Draft) -> None:
    _gquic(draft, 0x48, version=b"Q025")


def gquic_short(draft: Draft) -> None:
    _gquic(draft, 0x38, version=b"Q039", count=6)


def gquic_q046(draft: Draft) -> None:
    """The first gQUIC with the invariants' header: one byte of two id lengths."""
    line, rng = talk(draft, 443), draft.wire.rng
    ident = rng.randbytes(8)
    line.up(b"\xc3Q046\x50" + ident + b"\0\0\0\1" + rng.randbytes(1330))
    line.down(b"\xc3Q046\x05" + ident + b"\0\0\0\1" + rng.randbytes(1330))
    for number in range(2, 20):
        up = number % 3 == 0
        line.say(up, b"\x43" + (ident if up else b"") + struct.pack(">I", number) + rng.randbytes(60))


def specimens() -> Iterator[Specimen]:
    yield from written(
        "quic",
        quic_v1, quic_v1_without_client_id, quic_v1_long_ids, quic_v1_short_ids, quic_v2, quic_draft_29,
        quic_initials_only, quic_mid, quic_mid_only_up, quic_version_negotiation,
        gquic_q043, gquic_q035_reserved_flag, gquic_multipath_flag, gquic_short, gquic_q046,
    )  # fmt: skip
