"""What services open with, and what becomes of connections that were joined in their middle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.tunnels.streams import CLIENT, Talk
from vpnforensics.packets.table import TCP_ACK as ACK
from vpnforensics.packets.table import TCP_FIN as FIN
from vpnforensics.packets.table import TCP_SYN as SYN
from vpnforensics.tunnels.carriers import as_carried, find_carriers, list_tunnels
from vpnforensics.tunnels.find import find_tunnels
from vpnforensics.tunnels.write_law import LAWS, OPENING, WriteLaw
from vpnforensics.tunnels.writes import find_writes

SERVER = ("10.0.0.1", 8388)


def spoken(rng, *conversations, opened=True, turns=24):
    """Conversations of (client, up and down writes in turn); what they have not, is ciphertext."""
    talk = Talk()
    for client, said in conversations:
        at = {True: 1000, False: 5000}
        if opened:
            talk.syn(client=client, server=SERVER)
        for n in range(turns):
            for up in (True, False):
                data = said[up][n] if n < len(said[up]) else rng.bytes(int(rng.integers(60, 900)))
                talk.segment(up, at[up], data, client=client, server=SERVER, step_s=0.01)
                at[up] += len(data)
    return talk.from_table()


def protocol_of(conversations):
    return [t.protocol for t in find_carriers(conversations, find_tunnels(conversations)).tunnels]


@pytest.mark.parametrize(
    ("up", "down", "protocol"),
    [
        ([b"\5\2\0\1", b"\5\1\0\3\x0bexample.org\1\xbb"], [b"\5\0"], "socks5"),
        ([b"\4\1\1\xbb\xc0\0\2\x3cme\0"], [b"\0\x5a" + bytes(6)], "socks4"),
        ([b"CONNECT example.org:443 HTTP/1.1\r\n\r\n"], [b"HTTP/1.1 200 OK\r\n\r\n"], "http-proxy"),
        ([b"GET http://example.org/ HTTP/1.1\r\n\r\n"], [b"HTTP/1.1 200 OK\r\n\r\n"], "http-proxy"),
        ([b"SSH-2.0-x\r\n"], [b"SSH-2.0-y\r\n"], "ssh"),
        ([b"\x16\x03\x01\0\x80" + bytes(120)], [b"\x16\x03\x03\0\x30" + bytes(40)], "tls"),
        ([], [], "stream"),
    ],
)
def test_services_by_their_openings(up, down, protocol):
    rng = np.random.default_rng(1)
    clients = [(("10.0.0.2", 40000 + n), {True: up, False: down}) for n in range(3)]
    conversations = spoken(rng, *clients)
    (found,) = find_carriers(conversations, find_tunnels(conversations)).tunnels
    assert (found.protocol, found.transport) == (protocol, "stream")
    assert 1 + len(found.beside) == 3


def test_a_service_of_many_connections_is_known_by_all_that_open():
    """More than are looked at, and of so many writes that every n-th would seldom be a first one."""
    rng = np.random.default_rng(8)
    more = [rng.bytes(60) for _ in range(30)]
    said = {True: [b"\5\2\0\1", *more], False: [b"\5\0", *more]}
    clients = [(("10.0.0.2", 40000 + n), said) for n in range(300)]
    assert protocol_of(spoken(rng, *clients, turns=31)) == ["socks5"]


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] * 24, [b"HTTP/1.1 200 OK\r\n\r\n" + b"text " * 30] * 24),
        ([b"EHLO example.org\r\n"] * 24, [b"250 OK\r\n"] * 24),
        ([b"\3select 1 from t where i = 5"] * 24, [b"\1\0\0\1\1" + bytes(60)] * 24),
        ([b"\3\0\0\x13\x0e" + bytes(14)] * 24, [b"\3\0\0\x13\x0e" + bytes(14)] * 24),
    ],
)
def test_ordinary_services_are_none(up, down):
    rng = np.random.default_rng(2)
    clients = [(("10.0.0.2", 40000 + n), {True: up, False: down}) for n in range(3)]
    assert protocol_of(spoken(rng, *clients)) == []


def test_a_service_is_known_though_an_opening_was_lost():
    rng = np.random.default_rng(5)
    hello = {True: [b"\x16\x03\x01\0\x80" + bytes(120)], False: [b"\x16\x03\x03\0\x30" + bytes(40)]}
    lost = {True: [b"\x14\x03\x03\0\x01\x01"], False: hello[False]}
    clients = [(("10.0.0.2", 40000 + n), hello) for n in range(5)]
    assert protocol_of(spoken(rng, *clients, (("10.0.0.2", 40005), lost))) == ["tls"]
    others = [(("10.0.0.2", 40010 + n), lost) for n in range(5)]
    assert protocol_of(spoken(rng, *clients, *others)) != ["tls"]


def test_cells_tell_tor_from_the_web():
    rng = np.random.default_rng(3)

    def records(*sizes):
        return [b"\x17\x03\x03" + size.to_bytes(2, "big") + rng.bytes(size) for size in sizes]

    hello = [b"\x16\x03\x01\0\x80" + bytes(120)]
    cells = {side: hello + records(*[514 * (1 + n % 2) + 17 for n in range(23)]) for side in (True, False)}
    # A handshake's records hold none, and in a download whole chunks of Tor's buffer do not end with a cell.
    bulk = {side: hello + records(*[28, 74, 2054], *[4048 + 17] * 10, *[531] * 10) for side in (True, False)}
    web = {side: hello + records(*rng.integers(60, 1300, 23).tolist()) for side in (True, False)}
    assert protocol_of(spoken(rng, (("10.0.0.2", 40000), cells))) == ["tor"]
    assert protocol_of(spoken(rng, (("10.0.0.2", 40000), bulk))) == ["tor"]
    joined = {side: [rng.bytes(99), *cells[side][1:]] for side in cells}
    assert protocol_of(spoken(rng, (("10.0.0.2", 40000), joined), opened=False)) == ["tor"]
    assert protocol_of(spoken(rng, (("10.0.0.2", 40000), web))) == ["tls"]


def test_who_is_the_client_where_nobody_was_seen_to_open():
    """A service is what several share, whoever spoke first in the capture."""
    rng = np.random.default_rng(4)
    clients = [((f"10.0.0.{n}", 40000 + n), {True: [], False: []}) for n in range(2, 6)]
    conversations = spoken(rng, *clients, opened=False)
    found = find_carriers(conversations, find_tunnels(conversations))
    assert {t.server for t in found.tunnels} == {"10.0.0.1:8388"}
    assert sorted(t.client for t in found.tunnels) == [f"10.0.0.{n}:{40000 + n}" for n in range(2, 6)]


def test_records_are_writes_of_one_segment_and_openings_are_marked():
    rng = np.random.default_rng(5)
    said = {True: [rng.bytes(200), rng.bytes(300)], False: [rng.bytes(100 + 32), rng.bytes(90)]}
    conversations = spoken(rng, (("10.0.0.2", 40000), said))
    carriers = find_carriers(conversations, find_tunnels(conversations))
    shadowsocks = carriers.records(LAWS["stream"][0])
    assert shadowsocks.size[shadowsocks.up][0] == 300  # the first one up has an address of any length
    assert shadowsocks.size[~shadowsocks.up][:2].tolist() == [100 + OPENING, 90]
    plain = carriers.records(WriteLaw(""))
    assert plain.size[plain.up][0] == 300
    assert plain.size[~plain.up][0] == 90
    assert (np.diff(plain.ts_ns) >= 0).all()


def test_flows_keep_their_numbers_and_those_without_writes_stand_for_themselves():
    rng = np.random.default_rng(6)
    talk = Talk()
    talk.datagram(True, rng.bytes(40), server=("192.0.2.53", 53))
    talk.syn(server=("192.0.2.60", 443))
    talk.segment(True, 1000, rng.bytes(70), server=("192.0.2.60", 443))
    talk.segment(True, 1070, rng.bytes(80), server=("192.0.2.60", 443))
    flows = talk.from_table()
    carried = as_carried(flows, find_writes(flows), LAWS["stream"][0])
    assert carried.flow.tolist() == [0, 1]
    assert carried.packets.ip_len_bytes.tolist() == [3 * OPENING, 80]
    assert carried.bytes.tolist() == flows.bytes.tolist()
    assert as_carried(flows, find_writes(flows), WriteLaw("", of_packets=True)) is flows


def packets_of(*flags):
    """A flow of packets (up, flags) without data."""
    talk = Talk()
    for up, flag in flags:
        ends = (CLIENT, ("192.0.2.60", 443))
        talk._tcp(*(ends if up else ends[::-1]), flag, 1000, b"")
    return talk.from_table()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([(True, SYN), (False, SYN | ACK), (True, ACK)], [(False, 8)]),
        ([(True, SYN), (False, SYN | ACK), (False, SYN | ACK)], [(False, 8)]),  # sent again
        ([(True, SYN), (False, SYN | ACK), (True, FIN | ACK)], [(False, 8), (True, 0)]),
        ([(True, FIN | ACK), (False, FIN | ACK)], [(True, 0), (False, 0), (False, 0)]),
        (
            [(True, SYN), (False, FIN | ACK), (True, FIN | ACK), (True, FIN | ACK)],
            [(False, 0), (True, 0), (True, 0)],
        ),
        ([(True, SYN)], [(True, 3 * OPENING)]),  # nothing was said
    ],
)
def test_with_lengths_in_clear_openings_and_ends_are_messages(flags, said):
    """RFC 4254, 5.1 and 5.3: a confirmation; the end of data, and with the second end that all is closed."""
    flows = packets_of(*flags)
    (law,) = (law for law in LAWS["ssh"] if law.of_frames and law.unit == 16)
    carried = as_carried(flows, find_writes(flows), law)
    assert list(zip(carried.up.tolist(), carried.packets.ip_len_bytes.tolist(), strict=True)) == said
    hidden = as_carried(flows, find_writes(flows), replace(law, of_frames=False))
    assert hidden.packets.ip_len_bytes.tolist() == [3 * OPENING]


def test_a_listing_has_each_connection_once():
    rng = np.random.default_rng(7)
    clients = [(("10.0.0.2", 40000 + n), {True: [], False: []}) for n in range(3)]
    (listed,) = list_tunnels(spoken(rng, *clients)).tunnels
    assert (listed.protocol, listed.sure, 1 + len(listed.beside)) == ("stream", False, 3)
