from __future__ import annotations

import numpy as np
import pytest

from tests.tunnels import datagrams
from tests.tunnels.streams import CLIENT, Talk, tls_records
from vpnforensics.tunnels.find import find_tunnels


def talk_of(packets, port, *, talk=None, client=CLIENT):
    talk = talk or Talk()
    for up, data in packets:
        talk.datagram(up, data, client=client, server=("10.0.0.1", port))
    return talk


def found(packets, port):
    return find_tunnels(talk_of(packets, port).from_table())


@pytest.mark.parametrize("first", [0, 70_000], ids=["from its start", "mid-session"])
@pytest.mark.parametrize("name", datagrams.VPNS)
def test_vpn_protocols_are_known_and_their_records_counted(name, first):
    make, port, _ = datagrams.VPNS[name]
    packets = make(datagrams.rng_of(name), 200, first)
    tunnels = found(packets, port)
    (tunnel,) = tunnels.tunnels
    assert tunnel.sure
    assert tunnel.protocol == name
    assert (tunnel.client, tunnel.server) == ("10.0.0.2:40000", f"10.0.0.1:{port}")
    records = tunnels.records
    assert len(records) == 200
    for up in (True, False):
        counter = records.counter[records.up == up]
        assert np.array_equal(np.diff(counter), np.ones(len(counter) - 1))
    assert np.array_equal(records.size, [len(data) for _, data in packets][-200:])
    assert tunnel.packets_up + tunnel.packets_down == len(packets)
    assert tunnel.stream is None


@pytest.mark.parametrize("name", datagrams.VPNS)
def test_a_port_of_its_own_is_not_needed_and_the_server_is_who_is_shared(name):
    make, _, _ = datagrams.VPNS[name]
    talk = Talk()
    for n in range(3):
        # The server speaks first in the capture, from a high port.
        packets = make(datagrams.rng_of(name + str(n)), 60, 5000)
        client = (f"10.0.0.{n + 10}", 1000 + n)
        talk_of([(False, packets[0][1]), *packets], 60000, talk=talk, client=client)
    tunnels = find_tunnels(talk.from_table())
    assert {t.server for t in tunnels.tunnels} == {"10.0.0.1:60000"}
    assert {t.protocol for t in tunnels.tunnels} == {name}
    # RFC 3948 knows one port only, and a game that encrypts whole blocks looks like ESP.
    assert all(t.sure or name == "esp" for t in tunnels.tunnels)


@pytest.mark.parametrize("make", [lambda r, n: datagrams.openvpn(r, n, version=1), datagrams.openvpn_cbc])
def test_other_openvpn_variants(make):
    tunnels = found(make(datagrams.rng_of("variant"), 120), 1194)
    (tunnel,) = tunnels.tunnels
    assert tunnel.protocol == "openvpn"
    assert tunnel.sure
    assert len(tunnels.records) == 120
    cbc = tunnel.variant.endswith("_cbc")
    assert cbc == (make is datagrams.openvpn_cbc)
    assert tunnel.length_maps[0].block == (16 if cbc else 1)


@pytest.mark.parametrize("name", datagrams.PLAIN)
def test_what_is_no_vpn_is_at_most_a_candidate(name):
    make, port = datagrams.PLAIN[name]
    for count in (3, 60, 600):
        tunnels = found(make(datagrams.rng_of(name), count), port)
        assert not any(t.sure for t in tunnels.tunnels)


@pytest.mark.parametrize("name", datagrams.VPNS)
def test_heads_cut_to_nothing_are_no_tunnel_for_sure(name):
    make, port, _ = datagrams.VPNS[name]
    packets = make(datagrams.rng_of(name), 100, 1000)
    talk = Talk()
    for up, data in packets:
        talk.datagram(up, b"", length=len(data), server=("10.0.0.1", port))
    assert not any(t.sure for t in find_tunnels(talk.from_table()).tunnels)


@pytest.mark.parametrize("kept", [16, 20, 24])
@pytest.mark.parametrize("name", datagrams.VPNS)
def test_snapped_heads_serve(name, kept):
    make, port, _ = datagrams.VPNS[name]
    packets = make(datagrams.rng_of(name), 100, 1000)
    whole = found(packets, port)
    talk = Talk()
    for up, data in packets:
        talk.datagram(up, data[:kept], length=len(data), server=("10.0.0.1", port))
    snapped = find_tunnels(talk.from_table())
    assert np.array_equal(snapped.records.counter, whole.records.counter)
    assert np.array_equal(snapped.records.size, whole.records.size)


def test_one_packet_and_random_bytes_are_nothing():
    rng = np.random.default_rng(5)
    for count in (1, 2, 5, 300):
        tunnels = found([(bool(i % 2), rng.bytes(int(rng.integers(0, 200)))) for i in range(count)], 9999)
        assert not any(t.sure for t in tunnels.tunnels)


def test_dtls_and_tls_beside_each_other_are_candidates():
    """AnyConnect speaks so, and a TURN server."""
    rng = np.random.default_rng(6)
    https = ("10.0.0.1", 443)
    talk = Talk()
    talk.syn(server=https)
    for up, kind in ((True, 22), (False, 22)):
        talk.segment(up, 1000 if up else 5000, tls_records(rng, [200], kind=kind)[0], server=https)
    at = {True: 1205, False: 5205}
    for size in rng.integers(80, 1400, 60).tolist():
        up = bool(rng.random() < 0.5)
        record = tls_records(rng, [size])[0]
        talk.segment(up, at[up], record, server=https)
        at[up] += len(record)
    alone = find_tunnels(talk.from_table())
    assert [t.sure for t in alone.tunnels] == [False]
    talk_of(datagrams.dtls(rng, 100), 443, talk=talk, client=(CLIENT[0], 41000))
    both = find_tunnels(talk.from_table())
    assert {(t.protocol, t.sure) for t in both.tunnels} == {("tls", False), ("dtls", False)}


def test_tinc_is_known_by_its_port_or_its_greeting():
    packets = datagrams.tinc(np.random.default_rng(7), 200)
    (tunnel,) = found(packets, 655).tunnels
    assert (tunnel.protocol, tunnel.sure) == ("tinc", True)
    (other,) = found(packets, 7655).tunnels
    assert (other.protocol, other.sure) == ("unknown", False)
    talk = Talk()
    meta = ("10.0.0.1", 7655)
    talk.syn(server=meta)
    talk.segment(True, 1000, b"0 client 17\n", server=meta)
    talk_of(packets, 7655, talk=talk)
    assert [(t.protocol, t.sure) for t in find_tunnels(talk.from_table()).tunnels] == [("tinc", True)]
