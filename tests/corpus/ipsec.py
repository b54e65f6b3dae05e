"""IPsec: IKEv1 (RFC 2408), IKEv2 (RFC 7296), ESP (RFC 4303), and ESP in UDP (RFC 3948)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.corpus.inner import chatter
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import IP_PROTO_ESP, Endpoint, Talk

CLIENT, SERVER = Endpoint("198.51.100.40", 61500), Endpoint("203.0.113.1", 4500)
SERVER_IKE = Endpoint("203.0.113.1", 500)
CLIENT_6, SERVER_6 = Endpoint("2001:db8:1::40", 61500), Endpoint("2001:db8:2::1", 4500)
IKE_SA_INIT, IKE_AUTH, CREATE_CHILD_SA, INFORMATIONAL = 34, 35, 36, 37
_MARKER = bytes(4)  # RFC 3948, 2.2: four zero bytes tell IKE from ESP on port 4500


@dataclass
class Ike:
    """Messages of one IKEv2 SA (RFC 7296, 3.1): SPIs, next payload, version, exchange, flags, id, length."""

    talk: Talk
    marked: bool = False
    spi: dict[bool, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.spi = {up: self.talk.wire.rng.randbytes(8) for up in (True, False)}

    def message(
        self, up: bool, exchange: int, number: int, size: int, *, response: bool, first: bool = False
    ) -> None:
        """One message; the initiator's flag is 0x08, the response's 0x20, and 46 is an encrypted payload."""
        plain = exchange == IKE_SA_INIT
        flags = (0x08 if up else 0) | (0x20 if response else 0)
        responder = bytes(8) if first else self.spi[False]
        head = self.spi[True] + responder + bytes([33 if plain else 46, 0x20, exchange, flags])
        head += struct.pack(">II", number, 28 + size)
        body = struct.pack(">BBH", 0, 0, size) + self.talk.wire.rng.randbytes(size - 4)
        self.talk.say(up, (_MARKER if self.marked else b"") + head + body)

    def exchange(self, kind: int, number: int, sizes: tuple[int, int], *, by_client: bool = True) -> None:
        self.message(by_client, kind, number, sizes[0], response=False, first=kind == IKE_SA_INIT)
        self.message(not by_client, kind, number, sizes[1], response=True)


@dataclass
class Esp:
    """A pair of SAs: SPI, sequence number, then with AES-GCM an IV of 8, whole words and a tag of 16."""

    talk: Talk
    first: int = 0
    cbc: bool = False
    spi: dict[bool, bytes] = field(init=False)
    number: dict[bool, int] = field(init=False)

    def __post_init__(self) -> None:
        self.renew()
        self.number = {True: self.first, False: self.first}

    def renew(self) -> None:
        """New SAs in place of the old; an SPI below 256 is reserved (RFC 4303, 2.1)."""
        self.spi = {up: b"\xc0" + self.talk.wire.rng.randbytes(3) for up in (True, False)}
        self.number = {True: 0, False: 0}

    def packet(self, up: bool, length: int) -> None:
        """The packet, its padding, pad length and next header (RFC 4303, 2.4)."""
        self.number[up] += 1
        if self.cbc:
            body = 16 + -(-(length + 2) // 16) * 16 + 16
        else:
            body = 8 + -(-(length + 2) // 4) * 4 + 16
        head = self.spi[up] + struct.pack(">I", self.number[up])
        self.talk.say(up, head + self.talk.wire.rng.randbytes(body))

    def carry(self, count: int) -> None:
        for step in chatter(self.talk.wire.rng, count):
            self.packet(step.up, step.length)


def specimens() -> Iterator[Specimen]:
    yield from _in_udp()
    yield from _bare()
    yield from _ike_alone()


def _natt(
    name: str, ends: tuple[Endpoint, Endpoint] = (CLIENT, SERVER), seen: str = "both"
) -> tuple[Draft, Talk]:
    draft = Draft(name, "ipsec")
    draft.holds("esp", *ends)
    return draft, Talk(draft.wire, *ends, seen)


def _keepalive(talk: Talk) -> None:
    talk.up(b"\xff")  # RFC 3948, 2.3


def _in_udp() -> Iterator[Specimen]:
    for cbc in (False, True):
        draft, talk = _natt(f"esp-natt-{'cbc' if cbc else 'gcm'}")
        ike = Ike(talk, marked=True)
        ike.exchange(IKE_AUTH, 1, (300, 240))
        Esp(talk, cbc=cbc).carry(24)
        yield draft.done()

    for seen in ("both", "up", "down"):
        draft, talk = _natt("esp-natt-mid" + ("" if seen == "both" else f"-only-{seen}"), seen=seen)
        Esp(talk, first=70_000).carry(40)
        yield draft.done()

    draft, talk = _natt("esp-natt-ipv6", (CLIENT_6, SERVER_6))
    Esp(talk, first=70_000).carry(24)
    yield draft.done()

    # The first exchange on port 500, the rest on 4500 (RFC 7296, 2.23).
    draft, talk = _natt("esp-natt-ike-before")
    before = Ike(Talk(draft.wire, Endpoint(CLIENT.address, 500), SERVER_IKE))
    before.exchange(IKE_SA_INIT, 0, (400, 380))
    after = Ike(talk, marked=True)
    after.spi = before.spi
    after.exchange(IKE_AUTH, 1, (300, 240))
    Esp(talk).carry(24)
    draft.holds("ike", before.talk.client, SERVER_IKE, sure=False)  # it carries nothing
    yield draft.done()

    draft, talk = _natt("esp-natt-six-sas")
    pairs = [Esp(talk) for _ in range(6)]
    for step in chatter(draft.wire.rng, 72):
        draft.wire.rng.choice(pairs).packet(step.up, step.length)
    yield draft.done()

    draft, talk = _natt("esp-natt-renewed")
    ike = Ike(talk, marked=True)
    session = Esp(talk)
    for number in range(4):
        session.carry(12)
        ike.exchange(CREATE_CHILD_SA, 2 + number, (180, 160))
        session.renew()
    yield draft.done()

    # A tunnel that idles: keep-alives every 20 s, and liveness checks (RFC 7296, 2.4).
    draft, talk = _natt("esp-natt-idle")
    ike = Ike(talk, marked=True)
    session = Esp(talk, first=12)
    for number in range(12):
        _keepalive(talk)
        draft.wire.later(20)
        if number % 2:
            ike.exchange(INFORMATIONAL, number, (52, 52), by_client=number % 4 == 1)
        if number % 3 == 0:
            session.packet(number % 2 == 0, 84)
            session.packet(number % 2 == 1, 84)
    yield draft.done()

    draft, talk = _natt("esp-natt-auth-only")  # IKE on port 4500, and nothing sent yet
    ike = Ike(talk, marked=True)
    ike.exchange(IKE_AUTH, 1, (300, 240))
    draft.tunnels.clear()
    draft.holds("ike", CLIENT, SERVER, sure=False)
    yield draft.done()


def _bare() -> Iterator[Specimen]:
    for ends, six in (
        ((Endpoint(CLIENT.address), Endpoint(SERVER.address)), ""),
        ((Endpoint(CLIENT_6.address), Endpoint(SERVER_6.address)), "-ipv6"),
    ):
        for seen in ("both", "up", "down") if not six else ("both",):
            draft = Draft(f"esp{six}" + ("" if seen == "both" else f"-only-{seen}"), "ipsec")
            talk = Talk(draft.wire, *ends, seen, IP_PROTO_ESP)
            # Nothing tells which end is the client, but that it speaks first.
            Esp(talk).packet(True, 60)
            Esp(talk, first=900).carry(20)
            draft.holds("esp", *(ends if seen != "down" else ends[::-1]))
            yield draft.done()

    ends = (Endpoint(CLIENT.address), Endpoint(SERVER.address))
    draft = Draft("esp-ike-before", "ipsec")
    ike = Ike(Talk(draft.wire, Endpoint(CLIENT.address, 500), SERVER_IKE))
    ike.exchange(IKE_SA_INIT, 0, (400, 380))
    ike.exchange(IKE_AUTH, 1, (300, 240))
    session = Esp(Talk(draft.wire, *ends, proto=IP_PROTO_ESP))
    session.packet(True, 60)
    session.carry(20)
    draft.holds("esp", *ends)
    draft.holds("ike", ike.talk.client, SERVER_IKE, sure=False)
    yield draft.done()


def _ike_alone() -> Iterator[Specimen]:
    client = Endpoint(CLIENT.address, 500)
    draft = Draft("ike-two-messages", "ipsec")
    Ike(Talk(draft.wire, client, SERVER_IKE)).exchange(IKE_SA_INIT, 0, (400, 380))
    draft.holds("ike", client, SERVER_IKE, sure=False)
    yield draft.done()

    draft = Draft("ike-alone", "ipsec")
    ike = Ike(Talk(draft.wire, client, SERVER_IKE))
    ike.exchange(IKE_SA_INIT, 0, (400, 380))
    ike.exchange(IKE_AUTH, 1, (900, 800))
    ike.exchange(INFORMATIONAL, 2, (52, 52))
    draft.holds("ike", client, SERVER_IKE, sure=False)
    yield draft.done()

    # Main mode (RFC 2409, 5.4): exchange type 2, version 1.0, from the fifth message on encrypted (flag 1).
    draft = Draft("ike-v1-main-mode", "ipsec")
    talk = Talk(draft.wire, client, SERVER_IKE)
    rng = draft.wire.rng
    mine, theirs = rng.randbytes(8), rng.randbytes(8)
    for number, payload in enumerate((1, 1, 4, 4, 5, 5)):
        size = rng.randrange(80, 260) // 4 * 4
        head = mine + (theirs if number else bytes(8)) + bytes([payload, 0x10, 2, 1 if number > 3 else 0])
        head += struct.pack(">II", 0, 28 + size)
        talk.say(number % 2 == 0, head + struct.pack(">BBH", 0, 0, size) + rng.randbytes(size - 4))
    draft.holds("ike", client, SERVER_IKE, sure=False)
    yield draft.done()
