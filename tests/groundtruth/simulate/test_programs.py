"""The lab's programs as scripts."""

from __future__ import annotations

import dpkt
import numpy as np
import pytest

from vpnforensics.groundtruth.places import BULK_BYTES, draw_places
from vpnforensics.groundtruth.scenario import loads
from vpnforensics.groundtruth.simulate.spec import Activity
from vpnforensics.groundtruth.simulate.traffic import converse, dns
from vpnforensics.groundtruth.simulate.traffic.conversation import (
    DOWN,
    ICMP,
    SECOND,
    TCP,
    UDP,
    UP,
    scenario_internet,
)
from vpnforensics.groundtruth.simulate.traffic.programs import PROGRAMS, Person, curl

PLACES = draw_places(loads("seed: 3\nvpn: {kind: wireguard}\nclients: [{}]\n"))
INTERNET = scenario_internet(PLACES)
CLIENT_NS = 10_000_000


def person(seed=1):
    return Person(np.random.default_rng(seed), INTERNET, PLACES, 0, CLIENT_NS)


def said(talk, towards):
    return sum(message.size_bytes for message in talk.messages if message.towards == towards)


@pytest.mark.parametrize("kind", sorted(PROGRAMS))
def test_a_program_runs_until_the_end_or_for_so_many_flows(kind):
    lasting = Activity(kind, None, start_s=2.0, end_s=60.0)
    talks = converse(lasting, np.random.default_rng(5), INTERNET, CLIENT_NS, 90 * SECOND)
    assert talks
    assert min(talk.start_ns for talk in talks) >= 2 * SECOND
    assert max(talk.start_ns for talk in talks) < 62 * SECOND
    assert {talk.host for talk in talks} <= set(range(len(PLACES.hosts)))
    counted = Activity(kind, 7, start_s=2.0, end_s=60.0)
    some = converse(counted, np.random.default_rng(5), INTERNET, CLIENT_NS, 90 * SECOND)
    assert 7 <= len(some) < 7 + 60
    protocols = {"ping": ICMP, "dns": UDP}
    assert protocols.get(kind, TCP) in {talk.proto for talk in talks}


def test_six_connections_at_once_and_an_idle_one_is_used_again():
    name = PLACES.sites[0].hosts[0]
    talks, _ = curl(person(), [(name, 2000)] * 14, "http", SECOND)
    connections = [talk for talk in talks if talk.proto == TCP]
    lookups = [talk for talk in talks if talk.proto == UDP]
    assert len(connections) == len(lookups) == 6
    requests = [sum(message.towards == UP for message in talk.messages) for talk in connections]
    assert sum(requests) == 14
    assert all(talk.closer == UP for talk in connections)
    assert {talk.host for talk in connections} == {2 + PLACES.names[name]}


@pytest.mark.parametrize(("kind", "port"), [("http", 80), ("https", 443), ("h2", 443)])
def test_the_bytes_are_the_object_and_what_its_protocol_adds(kind, port):
    size = BULK_BYTES[1]
    talks, _ = curl(person(), [(PLACES.sites[1].hosts[0], size)], kind, SECOND)
    (talk,) = [talk for talk in talks if talk.proto == TCP]
    assert talk.port == port
    assert size + 200 < said(talk, DOWN) < 1.004 * size + 2000
    # curl's first words on TLS are 517 bytes, on plain HTTP its request.
    assert (talk.messages[0].size_bytes == 517) == (kind != "http")


def test_lookups_are_messages_that_dnsmasq_and_dig_would_exchange():
    random = np.random.default_rng(2)
    together = dns.resolve(random, PLACES, PLACES.sites[0].hosts[0], 0, 0)
    first, second, address, nothing = (dpkt.dns.DNS(text) for text in together.payloads.values())
    assert [m.qd[0].type for m in (first, second, address, nothing)] == [1, 28, 1, 28]
    assert [len(m.an) for m in (first, second, address, nothing)] == [0, 0, 1, 0]
    assert not first.ar
    asked = [dns.dig(random, PLACES, 0, 0).payloads for _ in range(400)]
    options, missing = set(), 0
    for texts in asked:
        query, answer = (dpkt.dns.DNS(texts[i]) for i in (0, 1))
        assert query.id == answer.id
        assert query.qd[0].name == answer.qd[0].name
        exists = query.qd[0].name in PLACES.names
        assert answer.rcode == (0 if exists else 3)
        assert len(answer.an) == (exists and query.qd[0].type == 1)
        assert len(query.ar) == len(answer.ar)
        options.add(len(query.ar[0].rdata) if query.ar else None)
        missing += not exists
    assert options == {None, 0, 12}
    assert 0.12 < missing / len(asked) < 0.28


def test_messages_are_as_long_as_their_payloads():
    for seed in range(20):
        talk = dns.dig(np.random.default_rng(seed), PLACES, 0, 0)
        assert [m.size_bytes for m in talk.messages] == [len(text) for text in talk.payloads.values()]
        both = dns.resolve(np.random.default_rng(seed), PLACES, PLACES.sites[2].hosts[0], 0, 0)
        assert [m.size_bytes for m in both.messages] == [len(text) for text in both.payloads.values()]
