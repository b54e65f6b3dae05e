"""Whole devices against each other over simulated time."""

import heapq
import ipaddress
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.device import Device
from vpnforensics.reftunnel.drops import Drop
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.events import Connected, Deliver, Disconnected, Moved, Transmit
from vpnforensics.reftunnel.keys import PresharedKey, PrivateKey
from vpnforensics.reftunnel.peers import PeerConfig
from vpnforensics.reftunnel.session import REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES

from .pair import DOWN, UP, UP6, Node, Wire, ipv4, make_pair, networks, seeded, wall_ns

INITIATION, RESPONSE, COOKIE = 148, 92, 64


@pytest.mark.parametrize("preshared", [PresharedKey(bytes(32)), PresharedKey(b"p" * 32)])
def test_the_first_packet_makes_a_handshake_and_arrives(preshared):
    wire, client, server = make_pair(preshared)
    wire.send(client, UP)
    assert server.delivered() == [UP]
    assert wire.sizes() == [INITIATION, RESPONSE, 32 + 32]
    wire.send(server, DOWN)
    wire.send(client, UP6)
    assert client.delivered() == [DOWN]
    assert server.delivered() == [UP, UP6]
    assert len(client.events(Connected)) == len(server.events(Connected)) == 1
    assert not client.device.drops
    assert not server.device.drops


def test_a_responder_does_not_send_before_the_initiator_has_used_the_session():
    wire, client, server = make_pair()
    wire.lose = lambda datagram: datagram[0] == 4
    wire.send(client, UP)
    assert server.only_peer.usable_session(wire.now) is None
    server.device.send(DOWN, wire.now)
    assert not [out for out in server.device.take() if isinstance(out, Transmit) and out.datagram[0] == 4]


def test_wrong_preshared_key_never_connects():
    wire, client, server = make_pair(PresharedKey(b"p" * 32))
    client.only_peer.config = PeerConfig(
        server.device.private_key.public,
        PresharedKey(b"q" * 32),
        client.only_peer.config.allowed_ips,
        server.endpoint,
    )
    wire.send(client, UP)
    assert server.delivered() == []
    assert client.device.drops == {Drop.NOT_AUTHENTIC: 1}


def test_rekey_after_120_s_loses_nothing():
    wire, client, server = make_pair()
    packets = [ipv4("10.0.0.2", "10.0.0.1", number.to_bytes(4, "big")) for number in range(400)]
    for packet in packets:
        wire.send(client, packet)
        wire.send(server, DOWN)
        wire.run(1.0)
    assert server.delivered() == packets
    assert len(client.delivered()) == 400
    handshakes = wire.sizes().count(INITIATION)
    assert handshakes == 4  # at 0, 120, 240 and 360 s
    assert [event.is_rekey for event in client.events(Connected)] == [False, True, True, True]
    # Only the initiator renews: every initiation came from the client.
    assert all(at == client.endpoint for at, datagram in wire.seen if len(datagram) == INITIATION)


@pytest.mark.parametrize("seed", range(4))
def test_packets_in_flight_during_a_rekey_arrive_though_they_overtake_each_other(seed):
    """30 ms each way with up to 20 ms of jitter, a packet each way every 7 ms, from 100 s to 140 s."""
    wire, client, server = make_pair()
    wire.send(client, UP)
    wire.run(100.0)
    wire.send(client, UP)
    chance, flying, sent = random.Random(seed), [], {client.endpoint: [], server.endpoint: []}
    arrived = {client.endpoint: [], server.endpoint: []}
    start = wire.now

    def speak():
        for node, other in ((client, server), (server, client)):
            for output in node.device.take():
                if isinstance(output, Transmit):
                    at = wire.now + 0.03 + chance.uniform(0, 0.02)
                    heapq.heappush(flying, (at, chance.random(), other, output.datagram, node.endpoint))
                elif isinstance(output, Deliver):
                    arrived[node.endpoint].append(output.packet)

    for number in range(int(40 / 0.007) + 20):
        until = start + 0.007 * number
        while flying and flying[0][0] <= until:
            wire.now, _, to, datagram, origin = heapq.heappop(flying)
            to.device.receive(datagram, origin, wire.now)
            speak()
        wire.now = until
        for node in (client, server):
            node.device.tick(until)
        if until < start + 40:
            for node, source, target in ((client, "10.0.0.2", "10.0.0.1"), (server, "10.0.0.1", "10.0.0.2")):
                packet = ipv4(source, target, number.to_bytes(4, "big"))
                sent[node.endpoint].append(packet)
                node.device.send(packet, until)
        speak()
    assert len(client.device.sessions) >= 2  # there was a rekey
    assert sorted(arrived[server.endpoint]) == sent[client.endpoint]
    assert sorted(arrived[client.endpoint]) == sent[server.endpoint]
    assert not client.device.drops
    assert not server.device.drops


def test_an_initiator_that_only_receives_renews_before_the_session_dies():
    wire, client, server = make_pair()
    wire.send(client, UP)
    wire.lose = lambda datagram: len(datagram) == 32  # even if its keepalives are lost
    for _ in range(200):
        wire.send(server, DOWN)
        wire.run(1.0)
    assert len(client.delivered()) == 200
    assert wire.sizes().count(INITIATION) >= 2


def test_sessions_die_after_180_s_of_silence_and_packets_wait_for_a_new_one():
    wire, client, server = make_pair()
    wire.send(client, UP)
    old = [datagram for _, datagram in wire.seen if datagram[0] == 4]
    wire.run(181.0)
    assert client.only_peer.usable_session(wire.now) is None
    server.device.receive(old[0], client.endpoint, wire.now)
    assert server.device.drops[Drop.EXPIRED] == 1
    wire.send(client, UP)
    assert server.delivered() == [UP, UP]


def test_keys_are_erased_after_nine_minutes():
    wire, client, server = make_pair()
    wire.send(client, UP)
    wire.run(541.0)
    assert client.device.sessions == server.device.sessions == {}
    assert len(client.events(Disconnected)) == len(server.events(Disconnected)) == 1


def test_passive_keepalive_after_ten_seconds():
    wire, client, server = make_pair()
    wire.send(client, UP)
    wire.seen.clear()
    wire.run(9.9)
    assert wire.seen == []
    wire.run(0.2)
    assert [(at, len(datagram)) for at, datagram in wire.seen] == [(server.endpoint, 32)]
    wire.run(60.0)
    assert len(wire.seen) == 1  # a keepalive is not answered


def test_persistent_keepalive_keeps_the_session_and_starts_by_itself():
    wire, client, server = make_pair(keepalive_s=25)
    client.device.start(wire.now)
    wire.run(600.0)
    assert server.only_peer.usable_session(wire.now) is not None
    assert wire.sizes().count(32) >= 600 / 25 - 2
    assert wire.sizes().count(INITIATION) == pytest.approx(600 / 125, abs=1)


def test_a_dead_peer_is_called_for_90_s_and_then_left_alone():
    wire, client, _ = make_pair()
    wire.lose = lambda datagram: True
    wire.send(client, UP)
    wire.run(300.0)
    assert wire.sizes().count(INITIATION) == 20  # as many as wireguard-go sends
    assert not client.only_peer.staged
    assert client.device.drops == {Drop.NO_ANSWER: 1}
    wire.seen.clear()
    wire.run(60.0)
    assert wire.seen == []
    wire.lose = lambda datagram: False
    wire.send(client, UP)
    assert len(wire.seen) == 3


def test_data_without_answer_asks_for_a_new_handshake_after_15_s():
    wire, client, _ = make_pair()
    wire.send(client, UP)
    wire.run(20.0)
    wire.lose = lambda datagram: True
    wire.seen.clear()
    wire.send(client, UP)
    wire.run(14.9)
    assert INITIATION not in wire.sizes()
    wire.run(0.6)
    assert INITIATION in wire.sizes()


def test_lost_handshake_messages_are_sent_again():
    wire, client, server = make_pair()
    lost = []
    wire.lose = lambda datagram: (
        len(datagram) in (INITIATION, RESPONSE) and len(lost) < 3 and not lost.append(1)
    )
    wire.send(client, UP)
    assert server.delivered() == []
    wire.run(30.0)
    assert server.delivered() == [UP]


def test_at_most_128_packets_wait():
    wire, client, server = make_pair()
    wire.lose = lambda datagram: True
    packets = [ipv4("10.0.0.2", "10.0.0.1", number.to_bytes(4, "big")) for number in range(200)]
    for packet in packets:
        wire.send(client, packet)
    assert client.device.drops == {Drop.QUEUE_FULL: 72}
    wire.lose = lambda datagram: False
    wire.run(6.0)
    assert server.delivered() == packets[72:]


def test_packets_for_a_peer_that_cannot_be_called_are_not_kept():
    """Delivered when the peer calls some hours later, they would be ghosts."""
    wire, client, server = make_pair()
    wire.send(server, DOWN)
    assert server.device.drops == {Drop.NO_ENDPOINT: 1}
    wire.run(3600.0)
    wire.send(client, UP)
    assert client.delivered() == []
    wire.send(server, DOWN)
    assert client.delivered() == [DOWN]


def test_roaming_follows_the_last_authentic_message():
    wire, client, server = make_pair()
    wire.send(client, UP)
    client.endpoint = Endpoint("198.51.100.7", 1234)
    wire.send(client, UP)
    assert server.only_peer.endpoint == client.endpoint
    (_, moved) = server.events(Moved)
    assert (moved.old.host, moved.new.host) == ("192.0.2.2", "198.51.100.7")
    wire.send(server, DOWN)
    assert client.delivered() == [DOWN]


def test_a_forged_message_does_not_move_the_endpoint():
    wire, client, server = make_pair()
    wire.send(client, UP)
    data = bytearray(wire.seen[-1][1])
    data[-1] ^= 1
    server.device.receive(bytes(data), Endpoint("203.0.113.9", 9), wire.now)
    replayed = bytes(wire.seen[-1][1])
    server.device.receive(replayed, Endpoint("203.0.113.9", 9), wire.now)
    assert server.only_peer.endpoint == client.endpoint
    assert server.device.drops == {Drop.NOT_AUTHENTIC: 1, Drop.REPLAY: 1}
    assert server.device.take() == []


def test_a_source_outside_the_allowed_ips_is_dropped():
    wire, client, server = make_pair()
    wire.send(client, ipv4("10.0.0.3", "10.0.0.1"))
    assert server.delivered() == []
    assert server.device.drops == {Drop.WRONG_SOURCE: 1}


def test_what_is_not_ip_is_dropped_on_both_ways():
    wire, client, server = make_pair()
    wire.send(client, UP)
    session = client.only_peer.usable_session(wire.now)
    for inner in (bytes(64), b"\x45" + bytes(5), b"\x45\0\xff\xff" + bytes(60), b"\x60" + bytes(39 - 1)):
        server.device.receive(session.seal(inner), client.endpoint, wire.now)
    assert server.device.drops == {Drop.NOT_IP: 4}
    client.device.send(b"rubbish", wire.now)
    client.device.send(ipv4("10.0.0.2", "8.8.8.8"), wire.now)
    assert client.device.drops == {Drop.NOT_IP: 1, Drop.NO_ROUTE: 1}


def test_an_initiation_counts_once():
    wire, client, server = make_pair()
    wire.send(client, UP)
    initiation = wire.seen[0][1]
    server.device.receive(initiation, Endpoint("203.0.113.9", 9), wire.now + 1)
    assert server.device.take() == []
    assert server.device.drops == {Drop.OLD_TIMESTAMP: 1}
    assert server.only_peer.endpoint == client.endpoint


def test_messages_for_nobody_are_counted():
    wire, client, server = make_pair()
    server.device.receive(b"\4\0\0\0" + bytes(28), client.endpoint, wire.now)
    server.device.receive(b"\3\0\0\0" + bytes(60), client.endpoint, wire.now)
    server.device.receive(b"\1\0\0\0" + bytes(144), client.endpoint, wire.now)
    server.device.receive(b"\2\0\0\0" + bytes(88), client.endpoint, wire.now)
    server.device.receive(b"GET / HTTP/1.1", client.endpoint, wire.now)
    assert server.device.drops == {Drop.UNKNOWN_INDEX: 2, Drop.BAD_MAC1: 2, Drop.MALFORMED: 1}
    assert server.device.take() == []


def test_a_stranger_gets_no_answer():
    wire, _, server = make_pair()
    stranger = Device(
        PrivateKey(b"x" * 32),
        [
            PeerConfig(
                server.device.private_key.public,
                allowed_ips=networks("10.0.0.0/24"),
                endpoint=server.endpoint,
            )
        ],
        wall_ns=wall_ns,
        random_bytes=seeded(9),
    )
    wire.nodes.append(Node(stranger, Endpoint("203.0.113.9", 9)))
    wire.send(wire.nodes[-1], UP)
    assert wire.sizes() == [INITIATION]
    assert server.device.drops == {Drop.UNKNOWN_PEER: 1}


@given(st.data())
@settings(max_examples=150)
def test_damaged_messages_never_raise_and_never_answer(data):
    wire, client, server = make_pair()
    wire.send(client, UP)
    wire.send(server, DOWN)
    _, message = data.draw(st.sampled_from(wire.seen))
    change = data.draw(st.sampled_from(["cut", "extend", "flip", "swap"]))
    damaged = bytearray(message)
    if change == "cut":
        damaged = damaged[: data.draw(st.integers(0, len(damaged) - 1))]
    elif change == "extend":
        damaged += data.draw(st.binary(min_size=1, max_size=40))
    elif change == "flip":
        bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
        damaged[bit // 8] ^= 1 << bit % 8
    else:
        damaged[0] = data.draw(st.integers(0, 255))
    if bytes(damaged) == message:
        return
    for node in (client, server):
        before = node.device.drops.total()
        node.device.receive(bytes(damaged), Endpoint("203.0.113.9", 9), wire.now)
        assert node.device.take() == []
        assert node.device.drops.total() == before + 1
    assert server.only_peer.endpoint == client.endpoint


def test_under_load_a_cookie_is_demanded_and_a_real_peer_still_gets_in():
    wire, client, server = make_pair()
    # A flood that knows the server's public key: mac1 is right, everything else is noise.
    attacker = seeded(7)
    from vpnforensics.reftunnel.cookie import MacStamper

    stamper = MacStamper(server.device.private_key.public)
    for number in range(500):
        body = b"\1\0\0\0" + attacker(112)
        server.device.receive(stamper.stamp(body, wire.now), Endpoint("203.0.113.9", number + 1), wire.now)
    answers = server.device.take()
    assert server.device.drops[Drop.UNDER_LOAD] >= 450
    assert all(len(answer.datagram) == COOKIE for answer in answers)  # 64 bytes for 148: no amplifier
    wire.send(client, UP)
    assert wire.sizes() == [INITIATION, COOKIE]
    wire.now += 5.0

    def keep_up_the_flood():
        for number in range(100):
            message = stamper.stamp(b"\1\0\0\0" + attacker(112), wire.now)
            server.device.receive(message, Endpoint("203.0.113.9", number + 1), wire.now)
        server.device.take()

    keep_up_the_flood()
    wire.run(1.0)
    assert server.delivered() == [UP]


def test_a_flood_from_one_true_address_meets_a_limit():
    wire, client, server = make_pair()
    granted = 0
    for number in range(200):
        client.only_peer.initiation_sent_at = float("-inf")
        client.device.stage(client.only_peer, UP, wire.now + number * 0.03)
        for out in client.device.take():
            server.device.receive(out.datagram, client.endpoint, wire.now + number * 0.001)
        for out in server.device.take():
            if isinstance(out, Transmit):
                granted += len(out.datagram) == RESPONSE
                client.device.receive(out.datagram, server.endpoint, wire.now + number * 0.03)
                client.device.take()
    assert granted < 60
    assert server.device.drops[Drop.RATE_LIMITED] > 50


def test_message_limits():
    wire, client, server = make_pair()
    wire.send(client, UP)
    wire.run(6.0)
    client.only_peer.usable_session(wire.now).sent = REKEY_AFTER_MESSAGES
    wire.send(client, UP)
    assert wire.sizes().count(INITIATION) == 2
    wire.run(6.0)
    client.only_peer.usable_session(wire.now).sent = REJECT_AFTER_MESSAGES
    wire.send(client, UP)
    assert client.device.drops == {Drop.COUNTER_EXHAUSTED: 1}
    assert server.delivered() == [UP, UP]


def test_reordered_and_duplicated_packets_arrive_once():
    wire, client, server = make_pair()
    wire.send(client, UP)
    packets = [ipv4("10.0.0.2", "10.0.0.1", number.to_bytes(2, "big")) for number in range(50)]
    for packet in packets:
        client.device.send(packet, wire.now)
    datagrams = [out.datagram for out in client.device.take()]
    for datagram in datagrams[::-1] + datagrams:
        server.device.receive(datagram, client.endpoint, wire.now)
    server.outputs.clear()
    wire.settle()
    assert server.delivered() == packets[::-1]
    assert server.device.drops == {Drop.REPLAY: 50}


def test_many_peers_at_once():
    server_key = PrivateKey(b"s" * 32)
    server_at = Endpoint("192.0.2.1", 51820)
    keys = [PrivateKey(bytes([number + 1]) * 32) for number in range(24)]
    server = Device(
        server_key,
        [
            PeerConfig(key.public, allowed_ips=networks(f"10.0.0.{number + 2}"))
            for number, key in enumerate(keys)
        ],
        wall_ns=wall_ns,
        random_bytes=seeded(100),
    )
    nodes = [Node(server, server_at)]
    for number, key in enumerate(keys):
        device = Device(
            key,
            [PeerConfig(server_key.public, allowed_ips=networks("10.0.0.0/24"), endpoint=server_at)],
            wall_ns=wall_ns,
            random_bytes=seeded(number),
        )
        nodes.append(Node(device, Endpoint(str(ipaddress.ip_address("192.0.2.2") + number), 40000)))
    wire = Wire(nodes)
    for _ in range(150):
        for number, node in enumerate(nodes[1:]):
            node.device.send(ipv4(f"10.0.0.{number + 2}", "10.0.0.1"), wire.now)
            server.send(ipv4("10.0.0.1", f"10.0.0.{number + 2}"), wire.now)
        wire.run(1.0)
    for node in nodes[1:]:
        assert len(node.delivered()) >= 149
        assert len(node.events(Connected)) == 2
    assert len(nodes[0].delivered()) == 24 * 150


def test_configuration_that_cannot_work_is_refused():
    key = PrivateKey(b"s" * 32)
    with pytest.raises(TunnelError):
        Device(key, [PeerConfig(key.public)], wall_ns=wall_ns)
    other = PeerConfig(PrivateKey(b"o" * 32).public)
    with pytest.raises(TunnelError):
        Device(key, [other, other], wall_ns=wall_ns)


def test_bytes_are_counted_as_wg_show_counts_them():
    wire, client, server = make_pair()
    wire.send(client, UP)
    total = sum(len(datagram) for at, datagram in wire.seen if at == client.endpoint)
    assert client.only_peer.traffic.sent_bytes == server.only_peer.traffic.received_bytes == total
    assert server.only_peer.traffic.sent_bytes == client.only_peer.traffic.received_bytes == RESPONSE
