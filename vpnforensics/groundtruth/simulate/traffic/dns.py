"""DNS lookups: queries and answers that are real messages (RFC 1035, RFC 6891, RFC 7830)."""

from __future__ import annotations

import struct

import numpy as np

from vpnforensics.groundtruth.places import Places
from vpnforensics.groundtruth.simulate.network.columns import AFTER_ARRIVAL, AFTER_SENDING
from vpnforensics.groundtruth.simulate.traffic.conversation import (
    MS,
    UDP,
    Conversation,
    Internet,
    lognormal,
)

_LETTERS = b"abcdefghijklmnopqrstuvwxyz"
_A, _MX, _TXT, _AAAA, _HTTPS = 1, 15, 16, 28, 65
_WORK_NS = 0.5 * MS
"""What dnsmasq takes to answer, in the lab."""
_NO_ERROR, _NO_SUCH_NAME = 0, 3
_EDNS = b"\x00" + struct.pack(">HHIH", 41, 1232, 0, 0)
_COOKIE = struct.pack(">HH", 10, 8) + bytes(range(8))


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


def resolve(
    random: np.random.Generator, places: Places, name: str, device: int, start_ns: int
) -> Conversation:
    """What glibc asks of dnsmasq for a program: A and AAAA at once from one port, without EDNS."""
    texts = [_lab_texts(random, places, name, kind, b"") for kind in (_A, _AAAA)]
    talk = Conversation("dns", UDP, 0, 53, device, start_ns)
    waits_ns = (
        0.0,
        lognormal(random, 120_000, 0.7),
        lognormal(random, _WORK_NS, 0.5),
        lognormal(random, 50_000, 0.8),
    )
    for (query, _), wait_ns, timing in zip(texts, waits_ns, (AFTER_ARRIVAL, AFTER_SENDING), strict=False):
        talk.up(len(query), wait_ns, timing)
    for (_, answer), wait_ns, timing in zip(texts, waits_ns[2:], (AFTER_ARRIVAL, AFTER_SENDING), strict=True):
        talk.down(len(answer), wait_ns, timing)
    talk.payloads = dict(enumerate([query for query, _ in texts] + [answer for _, answer in texts]))
    return talk


def dig(random: np.random.Generator, places: Places, device: int, start_ns: int) -> Conversation:
    """One query by dig: a fifth for names that do not exist; EDNS with a cookie, without one, or none."""
    names = tuple(places.names)
    name = names[int(random.integers(len(names)))]
    if random.random() < 0.2:
        name = f"{int(random.integers(10 ** int(random.integers(1, 13))))}.{name}"
    options = (_EDNS[:-2] + struct.pack(">H", len(_COOKIE)) + _COOKIE, b"", _EDNS)[int(random.integers(3))]
    kind = int(random.choice((_A, _A, _AAAA, _MX, _TXT)))
    query, answer = _lab_texts(random, places, name, kind, options)
    talk = Conversation("dns", UDP, 0, 53, device, start_ns)
    talk.up(len(query))
    talk.down(len(answer), lognormal(random, _WORK_NS, 0.5))
    talk.payloads = {0: query, 1: answer}
    return talk


def _lab_texts(
    random: np.random.Generator, places: Places, name: str, kind: int, options: bytes
) -> tuple[bytes, bytes]:
    """A query and dnsmasq's answer: one address or nothing, and EDNS without options where asked for."""
    ident = int(random.integers(0, 65536))
    question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\x00"
    question += struct.pack(">HH", kind, 1)
    # dig sets the bit "authentic data", too.
    flags = 0x0120 if options else 0x0100
    query = struct.pack(">HHHHHH", ident, flags, 1, 0, 0, bool(options)) + question + options
    found = kind == _A and name in places.names
    record = b"\xc0\x0c" + struct.pack(">HHIH", _A, 1, 1, 4) + random.bytes(4) if found else b""
    code = _NO_ERROR if name in places.names else _NO_SUCH_NAME
    head = struct.pack(">HHHHHH", ident, 0x8580 | code, 1, found, 0, bool(options))
    return query, head + question + record + _EDNS * bool(options)
