"""DNS lookups: queries and answers that are real messages (RFC 1035, RFC 6891, RFC 7830)."""

from __future__ import annotations

import struct

import numpy as np

from vpnforensics.groundtruth.simulate.network.columns import AFTER_ARRIVAL, AFTER_SENDING
from vpnforensics.groundtruth.simulate.traffic.conversation import (
    MS,
    UDP,
    Conversation,
    Internet,
    lognormal,
)

_LETTERS = b"abcdefghijklmnopqrstuvwxyz"
_A, _AAAA, _HTTPS = 1, 28, 65
_EDNS = b"\x00" + struct.pack(">HHIH", 41, 1232, 0, 0)


def _label(random: np.random.Generator, length: int) -> bytes:
    return bytes([length]) + bytes(_LETTERS[i] for i in random.integers(0, 26, length))


def _name(random: np.random.Generator) -> bytes:
    """A host name of two to four labels, 9 to 40 bytes."""
    labels = 2 + int(random.integers(0, 3))
    sizes = [2 + int(random.integers(0, 11)) for _ in range(labels - 1)]
    return b"".join(_label(random, size) for size in sizes) + b"\x03com\x00"


def lookup(random: np.random.Generator, internet: Internet, device: int, start_ns: int) -> list[Conversation]:
    """Queries for one name: A, AAAA in most cases, HTTPS in some.

    A C library asks for both addresses from one port, one query right after the other; browsers and
    other resolvers take a port a query.
    """
    name = _name(random)
    alias = _name(random) if random.random() < 0.45 else b""
    edns = random.random() < 0.5
    kinds = [_A]
    if random.random() < 0.8:
        kinds.append(_AAAA)
    if random.random() < 0.3:
        kinds.append(_HTTPS)
    resolver = int(random.random() < 0.15)
    cached = random.random() < 0.7
    together = kinds == [_A, _AAAA] and random.random() < 0.6
    work_ns = lognormal(random, 0.15 * MS, 0.6) if cached else lognormal(random, 25 * MS, 0.8)
    found = []
    for i, group in enumerate([kinds] if together else [[kind] for kind in kinds]):
        opened_ns = start_ns + i * int(lognormal(random, 60_000, 0.8))
        talk = Conversation("dns", UDP, resolver, 53, device, opened_ns)
        exchanges = [_messages(random, name, alias, kind, edns) for kind in group]
        for n, (query, _) in enumerate(exchanges):
            talk.up(len(query), 12_000 if n else 0, AFTER_SENDING if n else AFTER_ARRIVAL)
        for n, (_, answer) in enumerate(exchanges):
            talk.down(
                len(answer),
                lognormal(random, 40_000, 0.8) if n else work_ns,
                AFTER_SENDING if n else AFTER_ARRIVAL,
            )
        texts = [query for query, _ in exchanges] + [answer for _, answer in exchanges]
        talk.payloads = dict(enumerate(texts))
        found.append(talk)
    return found


def _messages(
    random: np.random.Generator, name: bytes, alias: bytes, kind: int, edns: bool
) -> tuple[bytes, bytes]:
    ident = int(random.integers(0, 65536))
    question = name + struct.pack(">HH", kind, 1)
    query = struct.pack(">HHHHHH", ident, 0x0100, 1, 0, 0, edns) + question + _EDNS * edns
    records = b""
    count = 0
    pointer = b"\xc0\x0c"
    if alias:
        records += pointer + struct.pack(">HHIH", 5, 1, 300, len(alias)) + alias
        # The addresses belong to the alias: point at its name inside the first record.
        pointer = struct.pack(">H", 0xC000 | (12 + len(question) + 12))
        count += 1
    if kind in (_A, _AAAA):
        for _ in range(1 + int(random.geometric(0.5))):
            size = 4 if kind == _A else 16
            records += pointer + struct.pack(">HHIH", kind, 1, 60, size) + random.bytes(size)
            count += 1
    answer = struct.pack(">HHHHHH", ident, 0x8180, 1, count, 0, edns) + question + records + _EDNS * edns
    return query, answer
