"""The TCP transport: framing, and a tunnel on it."""

from __future__ import annotations

import contextlib
import errno
import json
import select
import socket
import struct
import subprocess
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.tcp import TcpLinks
from vpnforensics.reftunnel.tcp_guests import HALF_OPEN_S, Guests
from vpnforensics.reftunnel.tcp_link import Deframer, Link
from vpnforensics.reftunnel.timers import NEVER

from .netlab import cable, two_configs
from .test_interop import download

MESSAGES = st.lists(st.binary(min_size=1, max_size=300), max_size=10)


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
        self.taken, self.now = [], 0.0
        self.ends = [TcpLinks(), TcpLinks()]
        for end in self.ends:
            end.attach(self.poll, self.take)

    def turn(self, times=20):
        for _ in range(times):
            for fd, events in self.poll.poll(0.01):
                for end in self.ends:
                    end.ready(fd, events, self.now)

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


def test_an_orderly_end_waits_for_acknowledgements_but_not_for_ever(loop):
    client, _ = loop.ends
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Endpoint("127.0.0.1", listener.getsockname()[1], "tcp")
        client.send(b"hello", 5, target)
        other_end, _ = listener.accept()
        loop.turn(3)
        while not client.send(bytes(100_000), 1000, target):
            pass
        start = time.monotonic()
        client.drain(0.1)  # nobody reads
        assert time.monotonic() - start >= 0.1
        assert client.queue(target) is not None

        def read() -> None:
            while other_end.recv(1 << 16):
                pass

        reader = threading.Thread(target=read)
        reader.start()
        client.drain(30)
        assert client.queue(target) is None
        client.close()
        reader.join(10)
        other_end.close()


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


def test_strangers_that_say_nothing_lock_nobody_out(loop):
    client, server = loop.ends
    server._guests.limit = 4
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


def test_a_stranger_must_turn_out_to_be_a_peer_in_time(loop):
    client, server = loop.ends
    server._guests.is_peer = lambda endpoint: endpoint == peer
    peer = None
    target = Endpoint("127.0.0.1", server.port, "tcp")
    loop.send(client, b"rubbish", 7, target)
    loop.turn(5)
    (stranger,) = server._links.values()
    assert server._guests.is_stranger(stranger)  # a whole message alone proves nothing
    assert server.wake_at() == HALF_OPEN_S
    server.tick(HALF_OPEN_S - 0.1)
    assert server._links
    server.tick(HALF_OPEN_S)
    assert not server._links
    loop.turn(5)
    loop.send(client, b"hello", 5, target)
    loop.turn(2)
    (link,) = server._links.values()
    peer = link.endpoint
    client.send(b"again", 5, target)
    loop.turn(5)
    assert not server._guests.is_stranger(link)
    assert server.wake_at() == NEVER


def test_who_goes_first_when_all_is_full():
    guests, links = Guests(3), [Link(None, number, connected=True) for number in range(3)]
    peers = {0, 1}
    guests.is_peer = peers.__contains__
    for link in links:
        guests.add(link, 0.0)
        guests.heard(link)
    assert guests.is_full()
    assert guests.victim() is links[2]  # a stranger
    guests.remove(links[2])
    assert guests.victim() is links[0]  # the longest silent
    guests.heard(links[0])
    assert guests.victim() is links[1]
    peers.remove(0)
    assert guests.victim() is links[0]  # a peer that has gone elsewhere


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", b"\xff\xff", b"\0\0"])
def test_a_stream_that_is_not_ours_is_closed_at_once(loop, start):
    _, server = loop.ends
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(start)
        loop.turn(5)
        sock.settimeout(1)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    assert not server._links


def test_without_descriptors_it_does_not_spin_and_accepts_again(loop):
    _, server = loop.ends
    real = server._listener

    class Full:
        fileno, close = real.fileno, real.close
        accepts = 0

        def accept(self):
            self.accepts += 1
            raise OSError(errno.EMFILE, "Too many open files")

    server._listener = full = Full()
    with socket.create_connection(("127.0.0.1", server.port)):
        loop.turn(20)
        assert full.accepts == 1
        server._listener = real
        server.tick(server.wake_at())
        loop.turn(5)
        assert len(server._links) == 1


@pytest.mark.needs("wireguard")
def test_a_tunnel_on_tcp_and_a_restart_of_its_server(netlab, tmp_path):
    cable(netlab)
    journal = tmp_path / "journal.jsonl"
    client, server, _, _ = two_configs(preshared=True, extra={"Transport": "tcp"})
    process = netlab.ours("s", server)
    of_client = netlab.ours("c", client.replace("[Interface]", f"[Interface]\nJournal = {journal}"))
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
    # An orderly end, in the midst of traffic, leaves no row in doubt.
    before = time.time_ns()
    pings = netlab.start("c", "ping", "-f", "-q", "10.77.0.1", stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    assert netlab.end(of_client) == 0
    netlab.end(pings)
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    kinds = [row["kind"] for row in rows if row["direction"] == "out" and row["inner_ns"] > before]
    assert kinds.count("data") > 20
    assert not {"unsent", "unacked"} & set(kinds)
