"""BitTorrent over UDP: uTP (BEP 29), the DHT (BEP 5), trackers (BEP 15)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.corpus.ordinary import talk, written
from tests.corpus.specimen import Draft, Specimen


def utp(draft: Draft) -> None:
    """Type and version, extension, connection id, times, window, sequence and acknowledged."""
    line, rng = talk(draft, 51413, here=6881), draft.wire.rng
    ident = rng.randrange(1, 60000)
    at = 1_000_000
    line.up(struct.pack(">BBHIIIHH", 0x41, 0, ident, at, 0, 1 << 20, 1, 0))
    line.down(struct.pack(">BBHIIIHH", 0x21, 0, ident, at, 500, 1 << 20, 700, 1))
    for number in range(40):
        at += 9_000
        line.down(
            struct.pack(">BBHIIIHH", 0x01, 0, ident, at, 900, 1 << 20, 701 + number, 1) + rng.randbytes(600)
        )
        line.up(struct.pack(">BBHIIIHH", 0x21, 0, ident + 1, at, 800, 1 << 20, 1, 701 + number))


def utp_mid_download(draft: Draft) -> None:
    line, rng = talk(draft, 51413, here=6881, seen="down"), draft.wire.rng
    for number in range(40):
        line.down(
            struct.pack(
                ">BBHIIIHH", 0x01, 0, 0x9C10, 5_000_000 + 9_000 * number, 900, 1 << 20, 100 + number, 9
            )
            + rng.randbytes(500)
        )


def dht(draft: Draft) -> None:
    line, rng = talk(draft, 6881, here=6881), draft.wire.rng
    for number in range(16):
        ident = b"aa" if number % 2 else b"ab"
        line.up(
            b"d1:ad2:id20:"
            + rng.randbytes(20)
            + b"6:target20:"
            + rng.randbytes(20)
            + b"e1:q9:find_node1:t2:"
            + ident
            + b"1:y1:qe"
        )
        line.down(
            b"d1:rd2:id20:"
            + rng.randbytes(20)
            + b"5:nodes208:"
            + rng.randbytes(208)
            + b"e1:t2:"
            + ident
            + b"1:y1:re"
        )


def tracker(draft: Draft) -> None:
    line, rng = talk(draft, 6969), draft.wire.rng
    for _ in range(6):
        ident = rng.randbytes(4)
        line.up(b"\0\0\4\x17\x27\x10\x19\x80\0\0\0\0" + ident)
        connection = rng.randbytes(8)
        line.down(b"\0\0\0\0" + ident + connection)
        line.up(connection + b"\0\0\0\1" + ident + rng.randbytes(82))
        line.down(b"\0\0\0\1" + ident + struct.pack(">III", 1800, 3, 9) + rng.randbytes(60))


def specimens() -> Iterator[Specimen]:
    yield from written("peers", utp, utp_mid_download, dht, tracker)
