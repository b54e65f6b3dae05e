"""Both sides of a relay with three clients, and of hosts that look like one and relay nothing.

SOCKS 5 (RFC 1928), HTTP CONNECT (RFC 9110, 9.3.6), Shadowsocks AEAD (https://shadowsocks.org/doc/aead.html),
trojan (a header, then the bytes, in TLS 1.3 records; RFC 8446, 5.2) and ``ssh -D`` (RFC 4254, 5.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.corpus import wireguard
from tests.corpus.inner import SERVER_OUTSIDE, through_a_server
from tests.corpus.specimen import DONE, UNREADABLE, Draft, Specimen
from tests.corpus.ssh import CHACHA, Ssh
from tests.corpus.tls_vpn import record
from tests.corpus.wire import MS, Connection, Endpoint, Talk, Wire

_FLOWS = 6
_SERVER = "198.51.100.1"


@dataclass
class Outer:
    """One connection to the relay: what it opens with, and what becomes of each write."""

    connection: Connection
    opened: dict[bool, bool] = field(default_factory=dict)

    @property
    def random(self) -> Callable[[int], bytes]:
        return self.connection.wire.rng.randbytes

    def open(self) -> None: ...

    def write(self, up: bool, payload: bytes) -> None:
        self.connection.say(up, payload)

    def first(self, up: bool) -> bool:
        return not self.opened.setdefault(up, False) and not self.opened.update({up: True})


class Socks(Outer):
    def open(self) -> None:
        self.connection.up(b"\5\1\0")
        self.connection.down(b"\5\0")
        self.connection.up(b"\5\1\0\1" + self.random(6))
        self.connection.down(b"\5\0\0\1" + bytes(6))


class Connect(Outer):
    def open(self) -> None:
        self.connection.up(b"CONNECT www.example.org:443 HTTP/1.1\r\nHost: www.example.org:443\r\n\r\n")
        self.connection.down(b"HTTP/1.1 200 Connection established\r\n\r\n")


class Shadowsocks(Outer):
    def write(self, up: bool, payload: bytes) -> None:
        salt = 32 if self.first(up) else 0
        address = 34 + 20 if salt and up else 0
        self.connection.say(up, self.random(salt + address + 34 + len(payload)))


class Trojan(Outer):
    def open(self) -> None:
        self.connection.up(record(22, b"\1\0\0\0" + self.random(508)))
        self.connection.down(record(22, b"\2\0\0\0" + self.random(118)) + record(20, b"\1"))
        self.connection.down(record(23, self.random(2400)))
        self.connection.up(record(20, b"\1") + record(23, self.random(53)))

    def write(self, up: bool, payload: bytes) -> None:
        header = 56 + 2 + 1 + 20 + 4 if self.first(up) and up else 0
        self.connection.say(up, record(23, self.random(17 + header + len(payload))))


def _relayed(
    draft: Draft,
    outer: Callable[[Endpoint, Endpoint], Outer],
    server: Endpoint,
    *,
    one_stream: bool = False,
    port: int = 40000,
) -> None:
    """Three clients fetch pages through the relay; each write goes on as it comes."""
    plan = []
    for number in range(3):
        client = f"198.51.100.{100 + number}"
        shared = outer(Endpoint(client, 51000), server) if one_stream else None
        for flow, at_ms in enumerate(sorted(draft.wire.rng.randrange(300, 9_000) for _ in range(_FLOWS))):
            apart = Wire(f"{draft.name} {port}")
            begin = apart.now_ns + at_ms * MS
            apart.now_ns = begin
            near, there = Endpoint(SERVER_OUTSIDE, port), Endpoint(f"192.0.2.{60 + number + flow}", 443)
            page, said = Connection(apart, near, there), []
            for step in range(apart.rng.randrange(6, 12)):
                payload = apart.rng.randbytes(apart.rng.randrange(60, 1300))
                page.say(step % 2 == 0, payload)
                said.append((step % 2 == 0, payload, apart.packets[-2].ts_ns))
            page.close()
            draft.outside.packets += apart.packets
            draft.carried[str(near)] = f"{client}:51000"
            mine = shared
            if mine is None:
                draft.wire.now_ns = begin - 30 * MS
                mine = outer(Endpoint(client, 51000 + flow), server)
                mine.open()
            plan += [(ts_ns, mine, up, payload) for up, payload, ts_ns in said]
            port += 1
    for ts_ns, mine, up, payload in sorted(plan, key=lambda each: each[0]):
        delay = draft.wire.rng.randrange(40_000, 160_000)
        draft.wire.now_ns = ts_ns - delay if up else ts_ns + delay
        mine.write(up, payload)


def _relays() -> Iterator[Specimen]:
    for name, protocol, kind, port, sure in (
        ("socks5", "socks5", Socks, 1080, True),
        ("connect", "http-proxy", Connect, 8080, True),
        ("shadowsocks", "stream", Shadowsocks, 8388, False),
        ("shadowsocks-in-one-capture", "stream", Shadowsocks, 8388, False),
        ("trojan", "", Trojan, 443, False),
    ):
        draft = Draft(f"relay-{name}", "relays", apart="one-capture" not in name)
        server = Endpoint(_SERVER, port)

        def outer(client: Endpoint, server: Endpoint, kind=kind, draft=draft) -> Outer:
            return kind(Connection(draft.wire, client, server, pause_s=(0, 0)))

        _relayed(draft, outer, server)
        for number in range(3 if protocol else 0):
            draft.holds(protocol, Endpoint(f"198.51.100.{100 + number}", 51000), server, sure=sure)
        draft.least_links = 16
        yield draft.done(exit_code=DONE)


@dataclass
class _Ssh(Outer):
    """``ssh -D``: each write as a message of a channel."""

    def __post_init__(self) -> None:
        self.session = Ssh(self.connection, CHACHA)
        self.session.handshake()

    def write(self, up: bool, payload: bytes) -> None:
        self.session.message(up, 9 + len(payload))


def _ssh() -> Iterator[Specimen]:
    draft = Draft("relay-ssh-D", "relays", apart=True)
    server = Endpoint(_SERVER, 22)

    def outer(client: Endpoint, server: Endpoint) -> Outer:
        return _Ssh(Connection(draft.wire, client, server, pause_s=(0.001, 0.002)))

    _relayed(draft, outer, server, one_stream=True)
    for number in range(3):
        ends = Endpoint(f"198.51.100.{100 + number}", 51000), server
        draft.holds("ssh", *ends, CHACHA.variant, sure=False)
    login = Ssh(Connection(draft.wire, Endpoint("198.51.100.120", 50000), server), CHACHA)
    login.handshake()  # a shell beside them carries nothing
    for _ in range(40):
        login.message(True, 10)
        login.message(False, draft.wire.rng.choice((10, 40, 80)))
    draft.holds("ssh", login.connection.client, server, CHACHA.variant, sure=False)
    draft.least_links = 14
    yield draft.done(exit_code=DONE)


def _beside_a_tunnel() -> Iterator[Specimen]:
    """A server that relays and has WireGuard, too: what the relay carried is denied no tunnel."""
    draft = Draft("relay-beside-wireguard", "relays", apart=True)
    client, there = Endpoint("198.51.100.150", 41641), Endpoint(_SERVER, 51820)
    session = wireguard.WireGuard(Talk(draft.wire, client, there, pause_s=(0, 0)))
    session.handshake()
    draft.holds("wireguard", client, there)
    through_a_server(draft, [(client, session)], flows=8)
    server = Endpoint(_SERVER, 8388)

    def outer(client: Endpoint, server: Endpoint) -> Outer:
        return Shadowsocks(Connection(draft.wire, client, server, pause_s=(0, 0)))

    _relayed(draft, outer, server, port=45000)
    draft.least_links = 14
    yield draft.done()


def _look_alikes() -> Iterator[Specimen]:
    """A web server and a host with shells, whose own connections have nothing to do with their guests'."""
    for name, port in (
        ("web-server-that-updates", 443),
        ("shells-on-a-busy-host", 22),
        ("sealed-service", 7000),
    ):
        draft = Draft(name, "relays", apart=True)
        server = Endpoint(_SERVER, port)
        for number in range(3):
            client = Endpoint(f"198.51.100.{100 + number}", 51000)
            connection = Connection(draft.wire, client, server)
            if port == 22:
                session = Ssh(connection, CHACHA)
                session.handshake()
                draft.holds("ssh", client, server, CHACHA.variant, sure=False)
            elif port == 443:
                Trojan(connection).open()
            for _ in range(40):
                for up in (True, False):
                    size = draft.wire.rng.randrange(60, 1300)
                    if port == 22:
                        session.message(up, 9 + size % 90)
                    elif port == 443:
                        connection.say(up, record(23, draft.wire.rng.randbytes(size)))
                    else:
                        connection.say(up, draft.wire.rng.randbytes(size))
        for number in range(24):
            apart = Wire(f"{name} {number}")
            apart.now_ns += draft.wire.rng.randrange(0, 2_000) * MS
            own = Connection(apart, Endpoint(SERVER_OUTSIDE, 41000 + number), Endpoint("192.0.2.80", 80))
            for step in range(10):
                own.say(step % 2 == 0, apart.rng.randbytes(apart.rng.randrange(60, 1300)))
            own.close()
            draft.outside.packets += apart.packets
        yield draft.done(exit_code=UNREADABLE)


def specimens() -> Iterator[Specimen]:
    yield from _relays()
    yield from _ssh()
    yield from _beside_a_tunnel()
    yield from _look_alikes()
