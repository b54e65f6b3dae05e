"""Tunnels in TLS and DTLS, and in streams without record boundaries.

TLS 1.2 records: RFC 5246, 6.2, with GCM RFC 5288, 3; TLS 1.3: RFC 8446, 5.2; DTLS 1.2: RFC 6347, 4.1. CSTP:
draft-mavrogiannopoulos-openconnect, 2.2. SSTP: [MS-SSTP] 2.2. From outside they are the same records: a
candidate, until their lengths are learned.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.corpus.inner import chatter
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import Connection, Endpoint, Talk, Wire

CLIENT, SERVER = Endpoint("198.51.100.60", 51000), Endpoint("203.0.113.1", 443)
CLIENT_UDP = Endpoint("198.51.100.60", 51001)
Cipher = Literal["tls1.3", "tls1.2_gcm", "tls1.2_cbc"]


def record(kind: int, body: bytes) -> bytes:
    return bytes([kind, 3, 3]) + struct.pack(">H", len(body)) + body


@dataclass
class Tls:
    """A TLS session; ``extra`` bytes of the tunnel stand before each packet."""

    connection: Connection
    cipher: Cipher = "tls1.3"
    extra: int = 8
    number: dict[bool, int] = field(init=False)

    def __post_init__(self) -> None:
        self.number = {True: 0, False: 0}

    @property
    def wire(self) -> Wire:
        return self.connection.wire

    def handshake(self) -> None:
        """ClientHello to Finished; 1.3 hides what follows ServerHello in application data."""
        random = self.wire.rng.randbytes
        self.connection.up(b"\x16\x03\x01" + struct.pack(">H", 517) + b"\1\0\2\1" + b"\3\3" + random(511))
        hello = record(22, b"\2\0\0\x76\3\3" + random(116))
        if self.cipher == "tls1.3":
            self.connection.down(hello + record(20, b"\1") + record(23, random(1800)))
            self.connection.up(record(20, b"\1") + record(23, random(53)))
        else:
            self.connection.down(hello + record(22, b"\x0b" + random(1500)) + record(22, b"\x0e\0\0\0"))
            self.connection.up(record(22, b"\x10" + random(69)) + record(20, b"\1") + record(22, random(40)))
            self.connection.down(record(20, b"\1") + record(22, random(40)))

    def log_in(self) -> None:
        """Requests and answers of HTTP, and the answer that opens the tunnel."""
        for sizes in ((420, 900), (610, 300), (380, 1200)):
            self.packet(True, sizes[0])
            self.packet(False, sizes[1])

    def packet(self, up: bool, length: int) -> None:
        random = self.wire.rng.randbytes
        size = length + self.extra
        if self.cipher == "tls1.3":
            body = random(size + 1 + 16)
        elif self.cipher == "tls1.2_gcm":  # the nonce in clear counts
            self.number[up] += 1
            body = struct.pack(">Q", self.number[up]) + random(size + 16)
        else:  # an IV, and blocks that hold the MAC too
            body = random(16 + 16 * ((size + 20) // 16 + 1))
        self.connection.say(up, record(23, body))

    def carry(self, count: int) -> None:
        for step in chatter(self.wire.rng, count):
            self.packet(step.up, step.length)


@dataclass
class Dtls:
    """DTLS 1.2 with AES-GCM, or AnyConnect's older version of it, whose number is 1.0 in the TLS order."""

    talk: Talk
    version: bytes = b"\xfe\xfd"
    first: int = 0
    number: dict[tuple[bool, int], int] = field(init=False)

    def __post_init__(self) -> None:
        self.number = {(up, epoch): self.first for up in (True, False) for epoch in (0, 1)}

    def record(self, up: bool, kind: int, body: bytes, *, epoch: int = 1) -> None:
        number = self.number[up, epoch]
        self.number[up, epoch] += 1
        head = bytes([kind]) + self.version + struct.pack(">HHIH", epoch, 0, number, len(body))
        self.talk.say(up, head + body)

    def handshake(self) -> None:
        """With the cookie exchange (RFC 6347, 4.2.1); AnyConnect resumes the session made over TLS."""
        random = self.talk.wire.rng.randbytes
        hello = b"\1\0\0\x80" + b"\0\0\0\0\0\0\0\x80" + b"\xfe\xfd" + random(126)
        self.record(True, 22, hello, epoch=0)
        self.record(False, 22, b"\3\0\0\x17\0\0\0\0\0\0\0\x17\xfe\xff\x14" + random(20), epoch=0)
        self.record(True, 22, hello + random(20), epoch=0)
        self.record(False, 22, b"\2\0\0\x46\0\1\0\0\0\0\0\x46\xfe\xfd" + random(68), epoch=0)
        for up in (False, True):
            self.record(up, 20, b"\1", epoch=0)
            self.record(up, 22, random(48))

    def packet(self, up: bool, length: int) -> None:
        """One byte says what follows (CSTP over DTLS, 2.3 of the draft), then the packet."""
        self.record(up, 23, self.talk.wire.rng.randbytes(8 + 1 + length + 16))

    def carry(self, count: int) -> None:
        for step in chatter(self.talk.wire.rng, count):
            self.packet(step.up, step.length)


def specimens() -> Iterator[Specimen]:
    yield from _cstp()
    yield from _dtls()
    yield from _streams()


def _cstp() -> Iterator[Specimen]:
    for cipher in ("tls1.3", "tls1.2_gcm", "tls1.2_cbc"):
        for begun in (True, False):
            draft = Draft(f"cstp-{cipher}-{'handshake' if begun else 'mid'}", "tls_vpn")
            session = Tls(Connection(draft.wire, CLIENT, SERVER, opened=begun), cipher)  # type: ignore[arg-type]
            if begun:
                session.handshake()
                session.log_in()
            session.carry(50)
            draft.holds("tls", CLIENT, SERVER, cipher, sure=False)
            yield draft.done()

    draft = Draft("sstp", "tls_vpn")
    session = Tls(Connection(draft.wire, CLIENT, SERVER), extra=8)  # 4 of SSTP and 4 of PPP
    session.handshake()
    session.log_in()
    session.carry(50)
    draft.holds("tls", CLIENT, SERVER, "tls1.3", sure=False)
    yield draft.done()


def _dtls() -> Iterator[Specimen]:
    for name, version in (("dtls1.2", b"\xfe\xfd"), ("prestandard", b"\1\0")):
        draft = Draft(f"anyconnect-{name}", "tls_vpn")
        control = Tls(Connection(draft.wire, CLIENT, SERVER))
        control.handshake()
        control.log_in()
        session = Dtls(Talk(draft.wire, CLIENT_UDP, SERVER), version)
        session.handshake()
        session.carry(40)
        # A TURN server speaks TLS and DTLS on one port, too.
        draft.holds("dtls", CLIENT_UDP, SERVER, sure=False)
        yield draft.done()

    draft = Draft("ocserv-dtls-mid", "tls_vpn")
    Dtls(Talk(draft.wire, CLIENT_UDP, SERVER), first=8_000).carry(40)
    draft.holds("dtls", CLIENT_UDP, SERVER, sure=False)
    yield draft.done()

    draft = Draft("ocserv-dtls-only-up", "tls_vpn")
    Dtls(Talk(draft.wire, CLIENT_UDP, SERVER, "up"), first=8_000).carry(40)
    draft.holds("dtls", CLIENT_UDP, SERVER, sure=False)
    yield draft.done()


def _streams() -> Iterator[Specimen]:
    draft = Draft("shadowsocks", "tls_vpn")
    # AEAD (https://shadowsocks.org/doc/aead.html): a salt, then length, tag, payload, tag, all random.
    connection = Connection(draft.wire, CLIENT, Endpoint("203.0.113.1", 8388))
    random = draft.wire.rng.randbytes
    for number, step in enumerate(chatter(draft.wire.rng, 60)):
        connection.say(step.up, random((32 if number < 2 else 0) + 2 + 16 + step.length + 16))
    draft.holds("stream", CLIENT, connection.server, sure=False)
    yield draft.done()
