"""The TCP transport: framing, and a tunnel on it."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.tcp import TcpLinks
from vpnforensics.reftunnel.tcp_link import Deframer, Link

from .netlab import cable, two_configs
from .test_interop import download

MESSAGES = st.lists(st.binary(max_size=300), max_size=10)


@given(MESSAGES, st.lists(st.integers(1, 50), max_size=40))
def test_messages_come_out_as_they_went_in_however_the_stream_is_cut(messages, cuts):
    stream = b"".join(struct.pack(">H", len(message)) + message for message in messages)
    deframer, out = Deframer(), []
    at = 0
    for cut in [*cuts, len(stream)]:
        out += [bytes(message) for message in deframer.feed(stream[at : at + cut])]
        at += cut
    assert out == messages


@given(MESSAGES, st.binary(min_size=1, max_size=60))
def test_trailing_bytes_wait(messages, rest):
    stream = b"".join(struct.pack(">H", len(message)) + message for message in messages)
    deframer = Deframer()
    out = [bytes(message) for message in deframer.feed(stream + struct.pack(">H", len(rest) + 1) + rest)]
    assert out == messages
    assert [bytes(message) for message in deframer.feed(b"!")] == [rest + b"!"]


class Loop:
    """A reduced event loop around two ends."""

    def __init__(self):
        self.poll = select.epoll()
        self.taken = []
        self.ends = [TcpLinks(), TcpLinks()]
        for end in self.ends:
            end.attach(self.poll)

    def turn(self, times=20):
        for _ in range(times):
            for fd, events in self.poll.poll(0.01):
                for end in self.ends:
                    end.ready(fd, events, self.take, 0.0)

    def send(self, end, data, segment, endpoint):
        """Send as the service does: what waits for a connection is sent when it is there."""
        refused = end.send(data, segment, endpoint)
        if refused.get(0) == errno.EINPROGRESS:
            end.when_connected(endpoint, lambda connected: connected and end.send(data, segment, endpoint))
        return refused

    def take(self, data, segment, endpoint, now):
        self.taken.append((bytes(data), endpoint))

    def close(self):
        for end in self.ends:
            end.close()
        self.poll.close()


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.close()


def test_both_ends_exchange_messages_over_one_connection(loop):
    client, server = loop.ends
    target = Endpoint("127.0.0.1", server.port, "tcp")
    assert loop.send(client, b"aabbc", 2, target) == dict.fromkeys(range(3), errno.EINPROGRESS)
    loop.turn()
    assert [data for data, _ in loop.taken] == [b"aa", b"bb", b"c"]
    origin = loop.taken[0][1]
    assert origin.transport == "tcp"
    loop.taken.clear()
    assert not server.send(b"answer", 6, origin)
    loop.turn()
    assert loop.taken == [(b"answer", target)]


def test_a_lost_connection_is_made_again(loop):
    client, server = loop.ends
    target = Endpoint("127.0.0.1", server.port, "tcp")
    loop.send(client, b"one", 3, target)
    loop.turn()
    server._close(next(iter(server._links.values())))
    loop.turn()
    loop.send(client, b"two", 3, target)
    loop.turn()
    assert [data for data, _ in loop.taken] == [b"one", b"two"]


def test_strangers_that_say_nothing_lock_nobody_out(loop, monkeypatch):
    monkeypatch.setattr("vpnforensics.reftunnel.tcp._MAX_CONNECTIONS", 4)
    client, server = loop.ends
    target = Endpoint("127.0.0.1", server.port, "tcp")
    loop.send(client, b"one", 3, target)
    loop.turn(5)
    origin = loop.taken[0][1]
    with contextlib.ExitStack() as strangers:
        for _ in range(12):  # a peer that spoke once keeps its connection, however silent it is now
            strangers.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            loop.turn(2)
        assert len(server._links) <= 5
        assert not server.send(b"answer", 6, origin)
        loop.turn(5)
    assert loop.taken[-1] == (b"answer", target)
    assert [data for data, _ in loop.taken] == [b"one", b"answer"]


def test_a_peer_that_came_back_from_the_same_port_keeps_its_new_connection(loop):
    """Its old connection, of which the end was never heard, is closed later."""
    client, server = loop.ends
    loop.send(client, b"one", 3, Endpoint("127.0.0.1", server.port, "tcp"))
    loop.turn(5)
    (old,) = server._links.values()
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(other.getsockname()) as sock,
    ):
        server._add(Link(sock, old.endpoint, connected=True))
        new = server._links[old.endpoint]
        server._close(old)
        assert server._links[old.endpoint] is new


def test_what_nobody_reads_is_refused_message_by_message_and_the_stream_stays_whole(loop):
    client, _ = loop.ends
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        target = Endpoint("127.0.0.1", deaf.getsockname()[1], "tcp")
        loop.send(client, b"first", 5, target)
        loop.turn(2)
        sent = [b"first"]
        for number in range(500):
            batch = [number.to_bytes(4, "big") * 350] * 40 + [b"end"]
            refused = client.send(b"".join(batch), 1400, target)
            assert set(refused.values()) <= {errno.EAGAIN}
            sent += [message for at, message in enumerate(batch) if at not in refused]
        assert len(refused) == 41
        (link,) = client._links.values()
        assert len(link.rest) < 1402
        peer, _ = deaf.accept()
        with peer:
            deframer, got = Deframer(), []
            peer.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                while data := peer.recv(1 << 20):
                    got += [bytes(message) for message in deframer.feed(data)]
                    loop.turn(1)
            assert got == sent  # each message that was taken came, once, and no other
            assert not client.send(b"again", 5, target)
            assert peer.recv(100)[2:] == b"again"


def test_what_waits_for_a_connection_that_fails_is_told(loop):
    client, _ = loop.ends
    with socket.create_server(("127.0.0.1", 0)) as gone:
        target = Endpoint("127.0.0.1", gone.getsockname()[1], "tcp")
    outcomes = []
    assert client.send(b"x", 1, target) == {0: errno.EINPROGRESS}
    client.when_connected(target, outcomes.append)
    loop.turn()
    assert outcomes == [False]


def test_nobody_listening_is_not_an_exception(loop):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    loop.ends[0].send(b"x", 1, Endpoint("127.0.0.1", port, "tcp"))
    loop.turn()
    assert loop.ends[0]._links == {}


@pytest.mark.needs("wireguard")
def test_a_tunnel_on_tcp_and_a_restart_of_its_server(netlab, tmp_path):
    cable(netlab)
    client, server, _, _ = two_configs(preshared=True, extra={"Transport": "tcp"})
    process = netlab.ours("s", server)
    netlab.ours("c", client)
    sniffer = netlab.start(
        "s", *["timeout", "10", "tcpdump", "-nn", "-i", "any", "-c", "40", "port", "51820"], stdout=-1
    )
    sniffer.stderr.readline()
    assert netlab.ping("c", "10.77.0.1") == 3
    download(netlab, "10.77.0.1", tmp_path, 20_000_000)
    with netlab.iperf_server("s"):
        assert netlab.iperf("c", "10.77.0.1", 1, "-R") > 20
    seen = sniffer.communicate(timeout=15)[0].decode()
    assert "UDP" not in seen
    assert "TS val" in seen  # what this transport is for: outer TCP timestamps
    netlab.end(process, 9)
    netlab.ours("s", server)
    for _ in range(30):
        if netlab.ping("c", "10.77.0.1", 1, wait_s=1):
            break
    else:
        pytest.fail("the client did not come back")
