"""OpenVPN. https://openvpn.net/community-docs/openvpn-protocol.html and doc/doxygen in its sources.

A control packet is opcode and key id (1 byte), the sender's session id (8), with tls-auth an HMAC, a packet
id (4) and a time (4), then the acknowledged ids (count, 4 each, and if any the peer's session id), and, but
in a pure ACK, its own id (4) and TLS bytes. With tls-crypt packet id and time follow the session id, then a
tag of 32 bytes, and the rest is encrypted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.corpus.inner import chatter
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import START_NS, Connection, Endpoint, Talk

CLIENT = Endpoint("198.51.100.30", 50123)
SERVER = Endpoint("203.0.113.1", 1194)
CLIENT_6 = Endpoint("2001:db8:1::30", 50123)
SERVER_6 = Endpoint("2001:db8:2::1", 1194)
SOFT_RESET, CONTROL, ACK, DATA_V1, CLIENT_V2, SERVER_V2, DATA_V2, CLIENT_V3, WRAPPED = (
    3, 4, 5, 6, 7, 8, 9, 10, 11,
)  # fmt: skip

Wrap = Literal["plain", "tls-auth", "tls-crypt", "tls-crypt-v2"]
Data = Literal["aead-v2", "aead-v1", "cbc-v2", "cbc-v1", "epoch"]
VARIANTS: dict[str, str] = {
    "aead-v2": "data_v2", "aead-v1": "data_v1", "cbc-v2": "data_v2_cbc", "cbc-v1": "data_v1_cbc",
    "epoch": "data_v2_epoch",
}  # fmt: skip
"""What the project calls each form of data."""
_PING_BYTES = 16
_TLS_BYTES = 1150  # as much of a TLS flight as a control packet takes


@dataclass
class OpenVpn:
    """One client's session over datagrams, or framed on TCP."""

    talk: Talk | Framed
    wrap: Wrap = "plain"
    data: Data = "aead-v2"
    first: int = 0
    key_id: int = 0
    session: dict[bool, bytes] = field(init=False)
    _id: dict[bool, int] = field(init=False)
    _replay: dict[bool, int] = field(init=False)
    _data_id: dict[bool, int] = field(init=False)
    _peer: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.session = {up: self.talk.wire.rng.randbytes(8) for up in (True, False)}
        self._id = {True: 0, False: 0}
        self._replay = {True: 0, False: 0}
        self._data_id = {True: self.first, False: self.first}
        self._peer = self.talk.wire.rng.randrange(1 << 8).to_bytes(3, "big")

    def control(self, up: bool, opcode: int, tls: bytes = b"", acks: tuple[int, ...] = ()) -> int:
        """One control packet; its id, which the peer acknowledges."""
        random = self.talk.wire.rng.randbytes
        ids = bytes([len(acks)]) + b"".join(struct.pack(">I", a) for a in acks)
        ids += self.session[not up] if acks else b""
        number = self._id[up]
        if opcode != ACK:
            ids += struct.pack(">I", number)
            self._id[up] += 1
        self._replay[up] += 1
        replay = struct.pack(">II", self._replay[up], START_NS // 1_000_000_000)
        head = bytes([opcode << 3 | self.key_id]) + self.session[up]
        if self.wrap == "plain":
            packet = head + ids + tls
        elif self.wrap == "tls-auth":  # SHA-1 by default: an HMAC of 20 bytes
            packet = head + random(20) + replay + ids + tls
        else:
            packet = head + replay + random(32) + random(len(ids) + len(tls))
            if self.wrap == "tls-crypt-v2" and up and opcode == CLIENT_V3:
                packet += random(300) + struct.pack(">H", 302)  # the wrapped client key, its length last
        self.talk.say(up, packet)
        return number

    def handshake(self, *, flights: int = 3) -> None:
        """Resets, then a TLS handshake of records cut into control packets, and the key exchange."""
        random = self.talk.wire.rng.randbytes
        opening = CLIENT_V3 if self.wrap == "tls-crypt-v2" else CLIENT_V2
        hello = self.control(True, opening)
        reset = self.control(False, SERVER_V2, acks=(hello,))
        if not flights:
            return
        self.control(True, ACK, acks=(reset,))
        mine = self.control(True, CONTROL, b"\x16\x03\x01\x01\x1f" + random(290))
        for flight in range(flights):
            tls = b"\x16\x03\x03" if flight == 0 else b""
            theirs = self.control(
                False, CONTROL, tls + random(_TLS_BYTES), acks=(mine,) if flight == 0 else ()
            )
            self.control(True, ACK, acks=(theirs,))
        mine = self.control(True, CONTROL, b"\x14\x03\x03\0\1\1\x17\x03\x03" + random(600))
        theirs = self.control(False, CONTROL, b"\x17\x03\x03" + random(260), acks=(mine,))
        self.control(True, ACK, acks=(theirs,))

    def renew(self) -> None:
        """A soft reset: the next key id, on which control packets go on."""
        self.key_id = self.key_id % 7 + 1
        self._id = {True: 0, False: 0}
        mine = self.control(True, SOFT_RESET)
        theirs = self.control(False, SOFT_RESET, acks=(mine,))
        self.control(True, CONTROL, b"\x16\x03\x01" + self.talk.wire.rng.randbytes(280), acks=(theirs,))
        self.control(False, ACK, acks=(mine + 1,))

    def packet(self, up: bool, length: int) -> None:
        """Data: with AEAD the packet id in clear and a tag; with CBC an HMAC, an IV and whole blocks."""
        random = self.talk.wire.rng.randbytes
        self._data_id[up] += 1
        number = self._data_id[up]
        second = not self.data.endswith("v1")
        head = bytes([(DATA_V2 if second else DATA_V1) << 3 | self.key_id]) + (self._peer if second else b"")
        if self.data.startswith("aead"):
            body = struct.pack(">I", number) + random(16 + length)
        elif self.data == "epoch":  # 16 bits of epoch, 48 of counter; the tag stands at the end
            body = struct.pack(">HHI", 1, 0, number) + random(length + 16)
        else:
            body = random(20 + 16 + 16 * ((4 + length) // 16 + 1))
        self.talk.say(up, head + body)

    def ping(self, up: bool) -> None:
        """The keep-alive is data of 16 fixed bytes."""
        self.packet(up, _PING_BYTES)

    def carry(self, count: int) -> None:
        for step in chatter(self.talk.wire.rng, count):
            self.packet(step.up, step.length)


class Framed:
    """Packets on TCP behind their lengths of two bytes."""

    def __init__(self, connection: Connection) -> None:
        self.wire, self._connection = connection.wire, connection

    def say(self, up: bool, payload: bytes) -> None:
        self._connection.say(up, struct.pack(">H", len(payload)) + payload)


def specimens() -> Iterator[Specimen]:
    yield from _handshakes()
    yield from _without_handshake()
    yield from _one_way()
    yield from _on_tcp()


def _udp(
    name: str, ends: tuple[Endpoint, Endpoint] = (CLIENT, SERVER), seen: str = "both"
) -> tuple[Draft, Talk]:
    draft = Draft(name, "openvpn")
    return draft, Talk(draft.wire, *ends, seen)


def _handshakes() -> Iterator[Specimen]:
    for wrap in ("plain", "tls-auth", "tls-crypt", "tls-crypt-v2"):
        for data in ("aead-v2", "cbc-v2") if wrap != "plain" else VARIANTS:
            draft, talk = _udp(f"openvpn-{wrap}-{data}")
            session = OpenVpn(talk, wrap, data)  # type: ignore[arg-type]
            session.handshake()
            session.carry(16)
            draft.holds("openvpn", CLIENT, SERVER, VARIANTS[data])
            yield draft.done()
        draft, talk = _udp(f"openvpn-{wrap}-four-packets")
        session = OpenVpn(talk, wrap)  # type: ignore[arg-type]
        hello = session.control(True, CLIENT_V3 if wrap == "tls-crypt-v2" else CLIENT_V2)
        reset = session.control(False, SERVER_V2, acks=(hello,))
        session.control(True, ACK, acks=(reset,))
        session.control(True, CONTROL, b"\x16\x03\x01\x01\x1f" + draft.wire.rng.randbytes(290))
        draft.holds("openvpn", CLIENT, SERVER)
        yield draft.done()

    draft, talk = _udp("openvpn-ipv6", (CLIENT_6, SERVER_6))
    session = OpenVpn(talk)
    session.handshake()
    session.carry(12)
    draft.holds("openvpn", CLIENT_6, SERVER_6, "data_v2")
    yield draft.done()

    draft, talk = _udp("openvpn-port-443", (CLIENT, Endpoint("203.0.113.1", 443)))
    session = OpenVpn(talk, "tls-auth")
    session.handshake()
    session.carry(12)
    draft.holds("openvpn", CLIENT, talk.server, "data_v2")
    yield draft.done()

    draft, talk = _udp("openvpn-renewed")
    session = OpenVpn(talk)
    session.handshake()
    session.carry(10)
    session.renew()
    session.carry(10)
    draft.holds("openvpn", CLIENT, SERVER, "data_v2")
    yield draft.done()

    draft, talk = _udp("openvpn-pings")
    session = OpenVpn(talk)
    session.handshake()
    for number in range(8):
        draft.wire.later(5)
        session.ping(number % 2 == 0)
    draft.holds("openvpn", CLIENT, SERVER)
    yield draft.done()


def _without_handshake() -> Iterator[Specimen]:
    for data in ("aead-v2", "aead-v1", "epoch"):
        draft, talk = _udp(f"openvpn-mid-{data}")
        OpenVpn(talk, data=data, first=4_000).carry(30)  # type: ignore[arg-type]
        draft.holds("openvpn", CLIENT, SERVER, VARIANTS[data])
        yield draft.done()
    draft, talk = _udp("openvpn-mid-cbc")
    OpenVpn(talk, data="cbc-v2").carry(30)
    # A constant first word, and nothing else in clear: its lengths have to prove it.
    draft.holds("unknown", CLIENT, SERVER, sure=False)
    yield draft.done()


def _one_way() -> Iterator[Specimen]:
    for seen in ("up", "down"):
        for wrap in ("plain", "tls-auth", "tls-crypt"):
            draft, talk = _udp(f"openvpn-{wrap}-only-{seen}", seen=seen)
            session = OpenVpn(talk, wrap)  # type: ignore[arg-type]
            session.handshake()
            session.carry(16)
            draft.holds("openvpn", CLIENT, SERVER, "data_v2")
            yield draft.done()
        draft, talk = _udp(f"openvpn-cbc-only-{seen}", seen=seen)
        session = OpenVpn(talk, data="cbc-v2")
        session.handshake()
        session.carry(16)
        draft.holds("openvpn", CLIENT, SERVER, "data_v2_cbc")
        yield draft.done()
        draft, talk = _udp(f"openvpn-mid-only-{seen}", seen=seen)
        OpenVpn(talk, first=900).carry(40)
        draft.holds("openvpn", CLIENT, SERVER, "data_v2")
        yield draft.done()


def _on_tcp() -> Iterator[Specimen]:
    for wrap, data in (
        ("plain", "aead-v2"), ("tls-auth", "cbc-v2"), ("tls-crypt", "aead-v2"), ("plain", "epoch"),
    ):  # fmt: skip
        draft = Draft(f"openvpn-tcp-{wrap}-{data}", "openvpn")
        session = OpenVpn(Framed(Connection(draft.wire, CLIENT, SERVER)), wrap, data)  # type: ignore[arg-type]
        session.handshake()
        session.carry(16)
        draft.holds("openvpn", CLIENT, SERVER, VARIANTS[data])
        yield draft.done()
    for seen in ("both", "up", "down"):
        draft = Draft("openvpn-tcp-mid" + ("" if seen == "both" else f"-only-{seen}"), "openvpn")
        connection = Connection(draft.wire, CLIENT, SERVER, opened=False, seen=seen)
        OpenVpn(Framed(connection), first=600).carry(40)
        draft.holds("openvpn", CLIENT, SERVER, "data_v2")
        yield draft.done()
