"""How two ends come together again: both calling at once, giving up, and clocks that are wrong."""

import pytest

from vpnforensics.reftunnel.device import Device
from vpnforensics.reftunnel.drops import Drop
from vpnforensics.reftunnel.events import Transmit

from .pair import DOWN, UP, Node, make_pair, seeded, wall_ns

INITIATION, RESPONSE = 148, 92


def test_giving_up_acknowledges_nothing_and_forgets_what_waited():
    wire, client, server = make_pair()
    wire.send(client, UP)
    wire.run(200.0)  # the session is too old to send with
    wire.lose = lambda datagram: True
    wire.send(server, DOWN)
    while server.only_peer.timers.attempts < 19:
        wire.run(1.0)
    # The last call went out; a packet comes in, and its acknowledgement is due after the end of trying.
    server.only_peer.timers.data_received(wire.now)
    wire.run(6.0)
    assert server.only_peer.timers.attempts == 0
    assert not server.only_peer.staged
    assert server.device.drops[Drop.NO_ANSWER] == 1
    wire.seen.clear()
    wire.run(60.0)
    assert wire.seen == []


@pytest.mark.parametrize("server_calls_first", [True, False])
def test_calls_that_cross_end_in_one_session(server_calls_first):
    wire, client, server = make_pair()
    wire.send(client, UP)  # so that the server knows where the client is
    wire.run(200.0)
    wire.nodes = [server, client] if server_calls_first else [client, server]
    calls = []
    for node, packet in ((client, UP), (server, DOWN)):
        node.device.send(packet, wire.now)
        calls.append((node, [output for output in node.device.take() if isinstance(output, Transmit)]))
        assert [len(output.datagram) for output in calls[-1][1]] == [INITIATION]
    client.device.receive(calls[1][1][0].datagram, server.endpoint, wire.now)
    server.device.receive(calls[0][1][0].datagram, client.endpoint, wire.now)
    wire.settle()
    for _ in range(2):
        wire.send(client, UP)
        wire.send(server, DOWN)
    one, other = client.only_peer.sessions.current, server.only_peer.sessions.current
    assert (one.local_index, one.remote_index) == (other.remote_index, other.local_index)
    assert one.is_initiator != other.is_initiator
    assert client.delivered().count(DOWN) == server.delivered().count(UP) - 1 == 3


def test_a_crossing_call_whose_answer_is_lost_costs_no_packet():
    wire, client, server = make_pair()
    wire.send(client, UP)
    wire.run(200.0)
    for node, packet in ((client, UP), (server, DOWN)):
        node.device.send(packet, wire.now)
    answers = []
    wire.lose = lambda datagram: len(datagram) == RESPONSE and not answers and not answers.append(datagram)
    wire.settle()
    assert answers
    for _ in range(3):
        wire.send(client, UP)
        wire.send(server, DOWN)
    assert client.delivered().count(DOWN) == 4
    assert server.delivered().count(UP) == 5


def test_a_start_with_the_clock_behind_recovers_when_the_clock_is_set():
    """And one whose clock is set back afterwards goes on."""
    wire, client, server = make_pair()
    wire.send(client, UP)  # the server has a time stamp of today
    behind = [400 * 86_400 * 10**9]
    again = Device(
        client.device.private_key,
        [client.only_peer.config],
        wall_ns=lambda now: wall_ns(now) - behind[0],
        random_bytes=seeded(3),
    )
    node = Node(again, client.endpoint)
    wire.nodes = [node, server]
    wire.send(node, UP)
    wire.run(30.0)
    assert server.device.drops[Drop.OLD_TIMESTAMP] > 3
    assert server.delivered() == [UP]
    behind[0] = 0
    wire.run(10.0)
    assert server.delivered() == [UP, UP]
    behind[0] = 86_400 * 10**9
    wire.run(600.0)
    wire.send(node, UP)
    assert server.delivered() == [UP, UP, UP]
