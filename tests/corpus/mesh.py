"""Mesh VPNs: tinc 1.0, nebula, n2n."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.corpus.inner import chatter
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import Connection, Endpoint, Talk

CLIENT = Endpoint("198.51.100.50", 655)
TINC = Endpoint("203.0.113.1", 655)
NEBULA = Endpoint("203.0.113.1", 4242)
N2N = Endpoint("203.0.113.1", 7654)


@dataclass
class Tinc:
    """Data packets: a sequence number and an Ethernet frame in whole cipher blocks, and a digest of 4 bytes.

    https://www.tinc-vpn.org/documentation/, "The VPN protocol"; router mode keeps the Ethernet header.
    """

    talk: Talk

    def packet(self, up: bool, length: int) -> None:
        size = 16 * ((4 + 14 + length) // 16 + 1) + 4
        self.talk.say(up, self.talk.wire.rng.randbytes(size))

    def carry(self, count: int) -> None:
        for step in chatter(self.talk.wire.rng, count):
            self.packet(step.up, step.length)


def tinc_meta(connection: Connection) -> None:
    """The meta connection: ID and METAKEY in clear, the rest encrypted (the same, "The meta-protocol")."""
    random = connection.wire.rng.randbytes
    connection.up(b"0 alpha 17\n")
    connection.down(b"0 beta 17\n")
    for up in (True, False):
        connection.say(up, b"1 94 64 0 0 " + random(256).hex().upper().encode() + b"\n")
    for up in (True, False, True, False, True, False):
        connection.say(up, random(connection.wire.rng.randrange(40, 90)))


@dataclass
class Nebula:
    """Version and type, subtype, reserved (2), remote index (4), counter (8): header/header.go of nebula."""

    talk: Talk
    first: int = 0
    index: dict[bool, bytes] = field(init=False)
    number: dict[bool, int] = field(init=False)

    def __post_init__(self) -> None:
        self.index = {up: self.talk.wire.rng.randbytes(4) for up in (True, False)}
        self.number = {True: self.first, False: self.first}

    def handshake(self) -> None:
        """Type 0; the initiator knows no remote index yet; IX in two messages of about 400 bytes."""
        random = self.talk.wire.rng.randbytes
        self.talk.up(b"\x10\0\0\0" + bytes(4) + struct.pack(">Q", 1) + random(420))
        self.talk.down(b"\x10\0\0\0" + self.index[False] + struct.pack(">Q", 2) + random(460))
        self.number = {True: 2, False: 2}

    def message(self, up: bool, kind: int, subtype: int, size: int) -> None:
        self.number[up] += 1
        head = bytes([0x10 | kind, subtype, 0, 0]) + self.index[up] + struct.pack(">Q", self.number[up])
        self.talk.say(up, head + self.talk.wire.rng.randbytes(size + 16))

    def packet(self, up: bool, length: int) -> None:
        self.message(up, 1, 0, length)

    def test(self) -> None:
        """Test request and reply (type 4, subtypes 0 and 1) ask whether the other is still there."""
        self.message(True, 4, 0, 0)
        self.message(False, 4, 1, 0)

    def carry(self, count: int) -> None:
        for step in chatter(self.talk.wire.rng, count):
            self.packet(step.up, step.length)


def specimens() -> Iterator[Specimen]:
    yield from _tinc()
    yield from _nebula()
    yield from _n2n()


def _tinc() -> Iterator[Specimen]:
    draft = Draft("tinc-meta-and-data", "mesh")
    tinc_meta(Connection(draft.wire, Endpoint(CLIENT.address, 40655), TINC))
    Tinc(Talk(draft.wire, CLIENT, TINC)).carry(24)
    draft.holds("tinc", CLIENT, TINC)
    yield draft.done()

    draft = Draft("tinc-mid", "mesh")
    Tinc(Talk(draft.wire, CLIENT, TINC)).carry(24)
    draft.holds("tinc", CLIENT, TINC)
    yield draft.done()

    draft = Draft("tinc-only-up", "mesh")
    Tinc(Talk(draft.wire, CLIENT, TINC, "up")).carry(30)
    draft.holds("tinc", CLIENT, TINC)
    yield draft.done()

    draft = Draft("tinc-other-port", "mesh")
    here, there = Endpoint(CLIENT.address, 7055), Endpoint(TINC.address, 7055)
    Tinc(Talk(draft.wire, here, there)).carry(30)
    draft.holds("unknown", here, there, sure=False)  # nothing in clear, nor a port
    yield draft.done()

    draft = Draft("tinc-other-port-meta", "mesh")
    tinc_meta(Connection(draft.wire, Endpoint(CLIENT.address, 40655), there))
    Tinc(Talk(draft.wire, here, there)).carry(30)
    draft.holds("tinc", here, there)
    yield draft.done()


def _nebula() -> Iterator[Specimen]:
    client = Endpoint(CLIENT.address, 4242)
    for begun in (True, False):
        for seen in ("both", "up", "down"):
            side = "" if seen == "both" else f"-only-{seen}"
            draft = Draft(f"nebula-{'handshake' if begun else 'mid'}{side}", "mesh")
            session = Nebula(Talk(draft.wire, client, NEBULA, seen), first=0 if begun else 5_000)
            if begun:
                session.handshake()
            session.carry(30)
            session.test()
            # Both ends use port 4242: that the client is who speaks first is all there is.
            draft.holds("nebula", *((client, NEBULA) if seen != "down" else (NEBULA, client)))
            yield draft.done()


def _n2n() -> Iterator[Specimen]:
    """PACKET of protocol version 3 (doc/ of n2n): version, TTL, flags, community of 20 bytes, two MACs."""
    for begun in (True, False):
        draft = Draft(f"n2n-{'registered' if begun else 'mid'}", "mesh")
        client = Endpoint(CLIENT.address, 50004)
        talk = Talk(draft.wire, client, N2N)
        random = draft.wire.rng.randbytes
        macs = {up: random(6) for up in (True, False)}
        community = b"example".ljust(20, b"\0")
        if begun:
            talk.up(b"\3\2\0\5" + community + random(60))
            talk.down(b"\3\2\0\7" + community + random(52))
        for step in chatter(draft.wire.rng, 30):
            head = b"\3\2\0\3" + community + macs[step.up] + macs[not step.up] + b"\0\2"
            talk.say(step.up, head + random(16 + 14 + step.length))
        draft.holds("unknown", client, N2N, sure=False)  # no recogniser claims it
        yield draft.done()
