"""Relays that do otherwise than a law says, or carry what none is made for: never a wrong link."""

from __future__ import annotations

import numpy as np
import pytest

import vpnforensics as vf
from tests.align.test_kept_bytes import Relayed, page
from tests.align.test_relays import OUTSIDE, SERVER, talks
from tests.evidence.test_kept_bytes import correlated
from tests.tables import table, udp

EPOCH_S = 1_700_000_000.0


def judged(outer, inner, *, flows=12):
    """The case, and how many flows are linked rightly and wrongly: ports tell the client."""
    sides = (sorted(rows, key=lambda row: row["ts_ns"]) for rows in (outer, inner))
    case = vf.correlate(*map(table, sides))
    host = dict(zip(case.tunnels["id"], case.tunnels["client"].str.rpartition(":")[0], strict=True))
    right = wrong = 0
    for src, tunnel in zip(case.endpoints["src"], case.links["tunnel"], strict=True):
        if isinstance(tunnel, str):
            client = (int(src.rpartition(":")[2]) - 41_000) // flows
            right += host[tunnel] == f"10.0.1.{client + 2}"
            wrong += host[tunnel] != f"10.0.1.{client + 2}"
    return case, right, wrong


def rows_of(seed, **options):
    return [talk.rows for talk in talks(seed, **options)]


def test_padding_of_the_first_write_costs_no_link():
    """Shadowsocks-2022 (SIP022) pads a first write without payload by up to 900 bytes."""
    _, right, wrong = judged(*rows_of(21, frame=34, padded=900))
    assert wrong == 0
    assert right >= 30


def record(rng, size):
    """One TLS record of so many bytes."""
    return b"\x17\x03\x03" + (size - 5).to_bytes(2, "big") + rng.bytes(size - 5)


@pytest.mark.parametrize(("frame", "variant"), [(22, "tls1.3"), (29, "tls1.2_gcm")])
def test_a_law_for_each_version_of_tls(frame, variant):
    rng = np.random.default_rng(5)
    opening = [
        (True, b"\x16\x03\x01\x02\x00\x01" + rng.bytes(511)),
        (False, b"\x16\x03\x03\x00\x7a\x02" + rng.bytes(121)),
    ]
    outer, inner = rows_of(22, frame=frame, opening=opening, wrap=lambda size: record(rng, size))
    case, right, wrong = judged(outer, inner)
    assert wrong == 0
    assert right >= 30
    assert set(case.tunnels["variant"]) == {variant}


def kept_alive(rows):
    """After some packets, half a second later, their sender asks who is there (RFC 9293, 3.8.4)."""
    asked = [row for row in rows[::3] if row["payload_bytes"]]
    again = [
        {**row, "ts_ns": row["ts_ns"] + 500_000_000, "seq": row["seq"] - 1, "head": b"\0" * (n % 2),
         "payload_bytes": n % 2, "ip_len_bytes": 40 + n % 2}
        for n, row in enumerate(asked)
    ]  # fmt: skip
    return rows + again


def test_keepalives_are_no_writes():
    outer, inner = rows_of(23, frame=34)
    before = judged(outer, inner)[0]
    case, right, wrong = judged(kept_alive(outer), kept_alive(inner))
    assert wrong == 0
    assert right >= 30
    assert case.links["tunnel"].tolist() == before.links["tunnel"].tolist()


def with_datagrams(rng, outer, inner, *, header, port, clients=3, each=6):
    """Lookups that go through the relay in datagrams: ``header`` bytes more outside."""
    for c in range(clients):
        for n in range(each):
            at, size = EPOCH_S + float(rng.uniform(1, 40)), int(rng.integers(30, 60))
            here, there = (OUTSIDE, 41_000 + 12 * c + n), ("192.0.2.53", 53)
            client = (f"10.0.1.{c + 2}", 52_000)
            outer = [
                *outer,
                udp(at - 0.0003, *client, SERVER[0], port, size + header, head=rng.bytes(32)),
                udp(at + 0.0203, SERVER[0], port, *client, size + header + 40, head=rng.bytes(32)),
            ]
            inner = [
                *inner,
                udp(at, *here, *there, size, head=rng.bytes(32)),
                udp(at + 0.02, *there, *here, size + 40, head=rng.bytes(32)),
            ]
    return outer, inner


@pytest.mark.parametrize("header", [10, 55])
def test_datagrams_through_a_relay_cost_no_link_and_are_not_denied(header):
    """SOCKS's UDP ASSOCIATE (RFC 1928, 7) and Shadowsocks' datagrams stand beside the streams."""
    outer, inner = rows_of(24, frame=34)
    outer, inner = with_datagrams(np.random.default_rng(3), outer, inner, header=header, port=SERVER[1])
    case, right, wrong = judged(outer, inner)
    assert wrong == 0
    assert right >= 30
    assert "no_tunnel" not in set(case.links["verdict"])


def test_requests_that_a_proxy_writes_anew_are_nobodys_where_their_client_is_missing():
    relay = Relayed(proxy="http")
    relay.some_tls()
    for n in range(6):
        page(relay, 2.3 + 3 * n, "198.51.100.9", seen=False)
        page(relay, 2.3 + 3 * n, "198.51.100.1", goes_on=False)
    _, linked, true = correlated(relay)
    assert all(c in (None, t) for c, t in zip(linked, true, strict=True))
    assert sum(c is not None for c in linked) == 18


def test_a_connection_used_again_for_another_client_is_neithers():
    """A proxy that keeps upstream connections (RFC 9112, 9.3) puts requests of two clients into one."""
    relay = Relayed(proxy="http")
    relay.some_tls()
    text = [(True, b"GET /a"), (False, b"HTTP/1.1 200 OK\r\n" + relay.rng.bytes(500))]
    for n in range(4):
        at_s = 2.3 + 4 * n
        for part, client in enumerate(("198.51.100.1", "198.51.100.2")):
            relay.connection(at_s + part, client, text, port=80, goes_on=False)
        relay.connection(at_s, "both", text * 2, port=80, seen=False)
    _, linked, true = correlated(relay)
    assert all(c is None for c, t in zip(linked, true, strict=True) if t == "both")
    assert sum(c is not None for c in linked) == 18
