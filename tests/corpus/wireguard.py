"""WireGuard and its relatives. https://www.wireguard.com/protocol/, sections "First Message" and on."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.corpus.inner import chatter
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import Connection, Endpoint, Talk, Wire

CLIENT = Endpoint("198.51.100.20", 41641)
SERVER = Endpoint("203.0.113.1", 51820)
CLIENT_6 = Endpoint("2001:db8:1::20", 41641)
SERVER_6 = Endpoint("2001:db8:2::1", 51820)
WARP = Endpoint("192.0.2.11", 2408)
DISCO_MAGIC = b"TS\xf0\x9f\x92\xac"
"""https://pkg.go.dev/tailscale.com/disco, "Magic": then a 32-byte key, a 24-byte nonce and a sealed box."""


@dataclass
class WireGuard:
    """One session over a talk; ``types`` are the four bytes that begin each of the four messages."""

    talk: Talk | Framed
    types: tuple[bytes, bytes, bytes, bytes] = (b"\1\0\0\0", b"\2\0\0\0", b"\3\0\0\0", b"\4\0\0\0")
    handshake_bytes: tuple[int, int] = (148, 92)
    junk: tuple[int, int] = (0, 0)
    """AmneziaWG puts random bytes before the two handshake messages (S1, S2)."""
    first: int = 0
    index: dict[bool, bytes] = field(init=False)
    number: dict[bool, int] = field(init=False)

    def __post_init__(self) -> None:
        self.index = {up: self.talk.wire.rng.randbytes(4) for up in (True, False)}
        self.number = dict.fromkeys((True, False), self.first)

    def handshake(self) -> None:
        """Initiation and response; the MACs at their ends are random to an onlooker."""
        random = self.talk.wire.rng.randbytes
        first, second = self.handshake_bytes
        self.talk.up(random(self.junk[0]) + self.types[0] + self.index[False] + random(first - 8))
        answer = self.types[1] + self.index[True] + self.index[False] + random(second - 12)
        self.talk.down(random(self.junk[1]) + answer)

    def cookie(self) -> None:
        """A server under load answers the initiation with a cookie of 64 bytes; the client comes again."""
        random = self.talk.wire.rng.randbytes
        self.talk.up(self.types[0] + self.index[False] + random(140))
        self.talk.down(self.types[2] + self.index[False] + random(56))

    def packet(self, up: bool, length: int) -> None:
        """Receiver index, 64-bit counter (little-endian), the packet padded to 16 bytes, and a tag of 16."""
        padded = -(-length // 16) * 16
        head = self.types[3] + self.index[up] + struct.pack("<Q", self.number[up])
        self.number[up] += 1
        self.talk.say(up, head + self.talk.wire.rng.randbytes(padded + 16))

    def keepalive(self, up: bool) -> None:
        self.packet(up, 0)

    def carry(self, count: int) -> None:
        for step in chatter(self.talk.wire.rng, count):
            self.packet(step.up, step.length)


def _drafted(name: str, **truth: object) -> tuple[Draft, Talk]:
    draft = Draft(name, "wireguard")
    client, server = truth.get("ends", (CLIENT, SERVER))
    return draft, Talk(draft.wire, client, server, str(truth.get("seen", "both")))


def specimens() -> Iterator[Specimen]:
    yield from _plain()
    yield from _relatives()
    yield from _on_tcp()


def _plain() -> Iterator[Specimen]:
    for ends, six in (((CLIENT, SERVER), ""), ((CLIENT_6, SERVER_6), "-ipv6")):
        for seen in ("both", "up", "down"):
            side = "" if seen == "both" else f"-only-{seen}"
            for begun in (True, False):
                draft, talk = _drafted(
                    f"wireguard-{'handshake' if begun else 'mid'}{side}{six}", ends=ends, seen=seen
                )
                session = WireGuard(talk, first=0 if begun else 91_000)
                if begun:
                    session.handshake()
                session.carry(12 if begun else 30)
                draft.holds("wireguard", *ends)
                yield draft.done()

    draft, talk = _drafted("wireguard-handshake-alone")
    WireGuard(talk).handshake()
    draft.holds("wireguard", CLIENT, SERVER)
    yield draft.done()

    draft, talk = _drafted("wireguard-cookie")
    session = WireGuard(talk)
    session.cookie()
    session.handshake()
    session.carry(6)
    draft.holds("wireguard", CLIENT, SERVER)
    yield draft.done()

    draft, talk = _drafted("wireguard-keepalives")
    session = WireGuard(talk)
    session.handshake()
    for number in range(6):
        draft.wire.later(10)
        session.keepalive(number % 2 == 0)
    draft.holds("wireguard", CLIENT, SERVER)
    yield draft.done()

    draft, talk = _drafted("wireguard-rekeyed")  # a new handshake after 120 s: new indexes, counters from 0
    for _ in range(3):
        session = WireGuard(talk)
        session.handshake()
        session.carry(8)
        draft.wire.later(120)
    draft.holds("wireguard", CLIENT, SERVER)
    yield draft.done()

    draft = Draft("wireguard-one-client-three-servers", "wireguard")
    for number in range(3):
        server = Endpoint(f"203.0.113.{number + 1}", 51820)
        session = WireGuard(Talk(draft.wire, CLIENT, server))
        session.handshake()
        session.carry(10)
        draft.holds("wireguard", CLIENT, server)
    yield draft.done()

    draft = Draft("wireguard-one-client-three-servers-mid", "wireguard")
    for number in range(3):
        server = Endpoint(f"203.0.113.{number + 1}", 51820)
        WireGuard(Talk(draft.wire, CLIENT, server), first=7_000).carry(16)
        draft.holds("wireguard", CLIENT, server)
    yield draft.done()


def _relatives() -> Iterator[Specimen]:
    # Handshake messages with more bytes before their MACs, as some vendors' clients send them.
    draft, talk = _drafted("wireguard-204-100")
    session = WireGuard(talk, handshake_bytes=(204, 100))
    session.handshake()
    session.carry(12)
    draft.holds("wireguard", CLIENT, SERVER)
    yield draft.done()

    draft, talk = _drafted("wireguard-204-100-short")
    session = WireGuard(talk, handshake_bytes=(204, 100))
    session.handshake()
    session.carry(3)
    draft.holds("wireguard", CLIENT, SERVER)
    yield draft.done()

    for begun in (True, False):
        # WARP: the three reserved bytes hold the client's id, in what it sends and what it gets.
        draft, talk = _drafted(f"warp-{'handshake' if begun else 'mid'}", ends=(CLIENT, WARP))
        mark = draft.wire.rng.randbytes(3)
        types = tuple(bytes([kind]) + mark for kind in (1, 2, 3, 4))
        session = WireGuard(talk, types, first=0 if begun else 300)  # type: ignore[arg-type]
        if begun:
            session.handshake()
        session.carry(12 if begun else 30)
        draft.holds("wireguard", CLIENT, WARP, "reserved_bytes")
        yield draft.done()

    draft, talk = _drafted("tailscale", ends=(CLIENT, Endpoint("203.0.113.9", 41641)))
    disco(talk, 6)
    session = WireGuard(talk)
    session.handshake()
    for _ in range(5):
        session.carry(3)
        disco(talk, 2)
    draft.holds("wireguard", CLIENT, talk.server, "tailscale")
    yield draft.done()

    for begun in (True, False):
        # AmneziaWG: junk packets first, then messages with types of its own and junk before handshakes.
        draft, talk = _drafted(f"amneziawg-{'handshake' if begun else 'mid'}")
        random = draft.wire.rng.randbytes
        types = tuple(random(4) for _ in range(4))
        session = WireGuard(talk, types, junk=(57, 81), first=0 if begun else 5_000)  # type: ignore[arg-type]
        if begun:
            talk.up(*(random(draft.wire.rng.randrange(40, 70)) for _ in range(4)))
            session.handshake()
        session.carry(40)
        # Index, 64-bit counter, padding and ciphertext of its data are WireGuard's still.
        draft.holds("wireguard", CLIENT, SERVER, "amnezia")
        yield draft.done()


def disco(talk: Talk, count: int) -> None:
    """Discovery messages, which share the data's conversation."""
    for number in range(count):
        box = talk.wire.rng.randbytes(32 + 24 + 16 + 30)
        talk.say(number % 2 == 0, DISCO_MAGIC + box)


@dataclass
class Framed:
    """The messages on a TCP connection, each behind its length in two bytes: the reference tunnel's way."""

    connection: Connection

    @property
    def wire(self) -> Wire:
        return self.connection.wire

    def say(self, up: bool, payload: bytes) -> None:
        self.connection.say(up, struct.pack(">H", len(payload)) + payload)

    def up(self, payload: bytes) -> None:
        self.say(True, payload)

    def down(self, payload: bytes) -> None:
        self.say(False, payload)


def _on_tcp() -> Iterator[Specimen]:
    for begun in (True, False):
        draft = Draft(f"wireguard-tcp-{'handshake' if begun else 'mid'}", "wireguard")
        connection = Connection(draft.wire, CLIENT, SERVER, opened=begun)
        session = WireGuard(Framed(connection), first=0 if begun else 400)  # type: ignore[arg-type]
        if begun:
            session.handshake()
        session.carry(20)
        draft.holds("wireguard", CLIENT, SERVER)
        yield draft.done()
