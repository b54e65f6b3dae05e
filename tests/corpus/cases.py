"""Both sides of a server with three clients: every protocol and variant, in one capture and in two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from tests.corpus import ipsec, media, mesh, openvpn, quic, ssh, tls_vpn, wireguard
from tests.corpus.inner import SERVER_OUTSIDE, Sealer, browse, through_a_server
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import IP_PROTO_ESP, MS, START_NS, Connection, Endpoint, Talk, Wire

_ENOUGH = 20
"""Links of 24 that a complete capture of one clock has to give; of lengths that are learned, too."""

Client = Callable[[Draft, int], tuple[Endpoint, Sealer]]
"""Sets up the tunnel of client 0, 1 or 2; its end, and what seals its packets."""


def _at(server: Endpoint, number: int, port: int) -> tuple[Endpoint, Endpoint]:
    return Endpoint(f"198.51.100.{100 + number}", port), server


def _talk(draft: Draft, ends: tuple[Endpoint, Endpoint], **options: int) -> Talk:
    return Talk(draft.wire, *ends, pause_s=(0, 0), **options)


def _wireguard(variant: str, **changes: object) -> Client:
    def client(draft: Draft, number: int) -> tuple[Endpoint, Sealer]:
        ends = _at(wireguard.SERVER, number, 41641)
        types = {}
        if variant == "reserved_bytes":
            mark = draft.wire.rng.randbytes(3)
            types = {"types": tuple(bytes([kind]) + mark for kind in (1, 2, 3, 4))}
        elif variant == "amnezia":
            types = {"types": tuple(bytes([17 * kind, 200, 3 * kind, 91]) for kind in (1, 2, 3, 4))}
        talk = _talk(draft, ends)
        session = wireguard.WireGuard(talk, **types, **changes)  # type: ignore[arg-type]
        session.handshake()
        if variant == "tailscale":
            wireguard.disco(talk, 6)
        draft.holds("wireguard", *ends, variant)
        return ends[0], session

    return client


def _wireguard_tcp(draft: Draft, number: int) -> tuple[Endpoint, Sealer]:
    ends = _at(wireguard.SERVER, number, 41641)
    session = wireguard.WireGuard(wireguard.Framed(Connection(draft.wire, *ends, pause_s=(0, 0))))
    session.handshake()
    draft.holds("wireguard", *ends)
    return ends[0], session


def _openvpn(wrap: openvpn.Wrap, data: openvpn.Data, *, on_tcp: bool = False) -> Client:
    def client(draft: Draft, number: int) -> tuple[Endpoint, Sealer]:
        ends = _at(openvpn.SERVER, number, 50123)
        if on_tcp:
            carrier: Talk | openvpn.Framed = openvpn.Framed(Connection(draft.wire, *ends, pause_s=(0, 0)))
        else:
            carrier = _talk(draft, ends)
        session = openvpn.OpenVpn(carrier, wrap, data)
        session.handshake()
        draft.holds("openvpn", *ends, openvpn.VARIANTS[data])
        return ends[0], session

    return client


def _esp(*, bare: bool = False, cbc: bool = False, begun: bool = False) -> Client:
    def client(draft: Draft, number: int) -> tuple[Endpoint, Sealer]:
        if bare:
            ends = _at(Endpoint(ipsec.SERVER.address), number, 0)
            talk = _talk(draft, ends, proto=IP_PROTO_ESP)
        else:
            ends = _at(ipsec.SERVER, number, 61500)
            talk = _talk(draft, ends)
        if begun:
            ipsec.Ike(talk, marked=True).exchange(ipsec.IKE_AUTH, 1, (300, 240))
        draft.holds("esp", *ends)
        return ends[0], ipsec.Esp(talk, cbc=cbc)

    return client


def _tinc(draft: Draft, number: int) -> tuple[Endpoint, Sealer]:
    ends = _at(mesh.TINC, number, 655)
    draft.holds("tinc", *ends)
    return ends[0], mesh.Tinc(_talk(draft, ends))


def _nebula(draft: Draft, number: int) -> tuple[Endpoint, Sealer]:
    ends = _at(mesh.NEBULA, number, 4242)
    session = mesh.Nebula(_talk(draft, ends))
    session.handshake()
    draft.holds("nebula", *ends)
    return ends[0], session


def _dtls(draft: Draft, number: int) -> tuple[Endpoint, Sealer]:
    ends = _at(tls_vpn.SERVER, number, 51001)
    tls_vpn.Tls(Connection(draft.wire, Endpoint(ends[0].address, 51000), tls_vpn.SERVER)).handshake()
    session = tls_vpn.Dtls(_talk(draft, ends))
    session.handshake()
    draft.holds("dtls", *ends, sure=False)
    return ends[0], session


def _tls(cipher: tls_vpn.Cipher, extra: int) -> Client:
    def client(draft: Draft, number: int) -> tuple[Endpoint, Sealer]:
        ends = _at(tls_vpn.SERVER, number, 51000)
        session = tls_vpn.Tls(Connection(draft.wire, *ends, pause_s=(0, 0)), cipher, extra)
        session.handshake()
        session.log_in()
        draft.holds("tls", *ends, cipher, sure=False)
        return ends[0], session

    return client


def _ssh(suite: ssh.Suite) -> Client:
    def client(draft: Draft, number: int) -> tuple[Endpoint, Sealer]:
        ends = _at(ssh.SERVER, number, 51000)
        session = ssh.Ssh(Connection(draft.wire, *ends, pause_s=(0, 0)), suite)
        session.handshake()
        draft.holds("ssh", *ends, suite.variant, sure=False)
        return ends[0], session

    return client


_CLIENTS: dict[str, Client] = {
    "wireguard": _wireguard(""),
    "wireguard-204-100": _wireguard("handshake", handshake_bytes=(204, 100)),
    "warp": _wireguard("reserved_bytes"),
    "tailscale": _wireguard("tailscale"),
    "amneziawg": _wireguard("amnezia", junk=(57, 81)),
    "wireguard-tcp": _wireguard_tcp,
    "openvpn-tls-auth": _openvpn("tls-auth", "aead-v2"),
    "openvpn-v1": _openvpn("tls-crypt", "aead-v1"),
    "openvpn-cbc": _openvpn("tls-auth", "cbc-v2"),
    "openvpn-epoch": _openvpn("tls-crypt-v2", "epoch"),
    "openvpn-tcp": _openvpn("tls-crypt", "aead-v2", on_tcp=True),
    "openvpn-tcp-cbc": _openvpn("tls-auth", "cbc-v2", on_tcp=True),
    "esp-natt": _esp(begun=True),
    "esp-natt-cbc": _esp(cbc=True),
    "esp": _esp(bare=True),
    "tinc": _tinc,
    "nebula": _nebula,
}
_PROVED_BY_LENGTHS: dict[str, Client] = {
    "anyconnect": _dtls,
    "cstp": _tls("tls1.3", 8),
    "cstp-1.2-gcm": _tls("tls1.2_gcm", 8),
    "sstp": _tls("tls1.3", 8),
    "ssh-w-gcm": _ssh(ssh.GCM),
    "ssh-w-etm": _ssh(ssh.ETM),
}
"""Candidates: only the other side shows that they are tunnels."""


def specimens() -> Iterator[Specimen]:
    for name, client in _CLIENTS.items():
        for apart in (False, True):
            yield _drafted(name, (client,) * 3, apart=apart).done()
    for name, client in _PROVED_BY_LENGTHS.items():
        yield _drafted(name, (client,) * 3, apart=True).done(exit_code=0)
    draft = _drafted("ssh-w-beside-a-shell", (_ssh(ssh.GCM),) * 3, apart=True)
    draft.wire.now_ns = START_NS + 500 * MS
    shell = ssh.Ssh(Connection(draft.wire, *_at(ssh.SERVER, 9, 52000)))
    shell.handshake()
    for _ in range(200):
        shell.message(True, 10)
        shell.message(False, draft.wire.rng.choice((10, 40, 300)))
    yield draft.done(exit_code=0)
    mixed = (_CLIENTS["wireguard"], _CLIENTS["openvpn-tls-auth"], _CLIENTS["esp-natt"])
    for apart in (False, True):
        yield _drafted("three-protocols", mixed, apart=apart).done()
        yield _drafted("of-lookalikes", mixed, apart=apart, traffic=_lookalikes).done()
        candidates = partial(_lookalikes, most=3)
        yield _drafted("of-candidates", mixed, apart=apart, traffic=candidates).done()
        draft = _drafted("beside-the-servers-own-flows", mixed, apart=apart)
        for port in range(46000, 46012, 2):
            draft.outside.now_ns = START_NS + draft.wire.rng.randrange(0, 9_000 * MS)
            browse(draft.outside, port)
        yield draft.done()


def _drafted(
    name: str,
    clients: tuple[Client, ...],
    *,
    apart: bool,
    traffic: Callable[[Wire, int], tuple[str, ...]] = browse,
) -> Draft:
    draft = Draft(f"case-{name}{'-two-files' if apart else ''}", "cases", apart=apart)
    draft.least_links = _ENOUGH
    through_a_server(draft, [client(draft, number) for number, client in enumerate(clients)], traffic=traffic)
    return draft


def _lookalikes(wire: Wire, source: int, *, most: int = 6) -> tuple[str, ...]:
    """Two flows that come close to a VPN, and yet are what a VPN carries."""
    sources = []
    for port, (there, write) in zip(
        (source, source + 1), wire.rng.sample(_LOOKALIKES[:most], 2), strict=True
    ):
        talk = Talk(
            wire, Endpoint(SERVER_OUTSIDE, port), Endpoint(f"192.0.2.{wire.rng.randrange(60, 250)}", there)
        )
        write(talk)
        sources.append(str(talk.client))
    return tuple(sources)


def _quic(talk: Talk) -> None:
    ids = talk.wire.rng.randbytes(8), talk.wire.rng.randbytes(8)
    quic.handshake(talk, quic.V1, *ids)
    quic.short_headers(talk, 16, *ids)


def _stun(talk: Talk) -> None:
    for _ in range(10):
        ident = media.stun_message(talk, True, 1, talk.wire.rng.randrange(2, 20) * 4)
        media.stun_message(talk, False, 0x101, talk.wire.rng.randrange(3, 25) * 4, ident)


def _sip(talk: Talk) -> None:
    for number in range(1, 9):
        talk.up(media.sip_request("REGISTER" if number % 2 else "SUBSCRIBE", 10**number))
        talk.down(media.sip_answer("401 Unauthorized" if number % 2 else "200 OK", 10**number, "REGISTER"))


def _dtls_data(talk: Talk) -> None:
    session = tls_vpn.Dtls(talk)
    session.handshake()
    for number in range(16):
        session.packet(number % 2 == 0, talk.wire.rng.randrange(20, 900))


def _rtp(talk: Talk) -> None:
    media.rtp(talk, 30)


def _game(talk: Talk) -> None:
    for number in range(24):
        talk.say(
            number % 3 > 0,
            b"\xa7\3\x5c\x11" + number.to_bytes(4, "big") + bytes(talk.wire.rng.randrange(20, 300)),
        )


_LOOKALIKES = [(40002, _rtp), (4433, _dtls_data), (30101, _game), (443, _quic), (3478, _stun), (5060, _sip)]
"""The first three are candidates by themselves, whatever is in them."""
