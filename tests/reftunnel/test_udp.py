import errno
import socket
import time

import pytest

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel import udp
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.udp import UdpSockets


def test_a_port_that_is_taken_for_one_of_the_two_families_is_an_error():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("::", 0))
        with pytest.raises(TunnelError, match="cannot listen on UDP port"):
            UdpSockets(taken.getsockname()[1])


def test_the_kernel_says_when_a_datagram_came_and_not_when_it_was_read():
    """It begins to stamp at arrival a while after it is asked to; before that, when a datagram is read."""
    receiver, sender = UdpSockets(stamps=True), UdpSockets()
    buffer = bytearray(65_536)
    until = time.monotonic() + 10
    try:
        stamped = False
        while not stamped:
            assert time.monotonic() < until, "all were stamped when they were read"
            before_ns = time.time_ns()
            assert not sender.send(b"x" * 300, 100, Endpoint("127.0.0.1", receiver.port))
            time.sleep(0.05)
            read_ns = time.time_ns()
            (received, *_) = filter(None, (receiver.receive(sock, buffer) for sock in receiver.sockets()))
            assert received.segment == 100
            assert before_ns <= received.at_ns <= time.time_ns()
            stamped = received.at_ns < read_ns
    finally:
        receiver.close()
        sender.close()


class Picky:
    """A socket that takes no batches of datagrams above a size, and of single ones not those given."""

    def __init__(self, largest=1000, refuses=()):
        self.largest, self.refuses = largest, refuses
        self.batches, self.singles = 0, []

    def sendmsg(self, buffers, ancillary, flags, address):
        self.batches += 1
        if int.from_bytes(ancillary[0][2], "little") > self.largest:
            raise OSError(errno.EINVAL, "Invalid argument")

    def sendto(self, data, address):
        if bytes(data) in self.refuses:
            raise OSError(errno.EPERM, "Operation not permitted")
        self.singles.append(bytes(data))


@pytest.fixture
def picky(monkeypatch):
    sockets, fake = UdpSockets(), Picky()
    for sock in sockets.sockets():
        sock.close()
    sockets._v4 = fake
    return sockets, fake


TO = Endpoint("192.0.2.1", 51820)


def test_a_batch_that_the_kernel_refuses_goes_one_by_one_and_each_outcome_is_told(picky):
    sockets, fake = picky
    fake.refuses = {b"b" * 1400}
    data = b"a" * 1400 + b"b" * 1400 + b"c" * 100
    assert sockets.send(data, 1400, TO) == {1: errno.EPERM}
    assert fake.singles == [b"a" * 1400, b"c" * 100]
    assert sockets.send(b"d" * 1800, 900, TO) == {}  # smaller ones still go in one call
    assert fake.singles == [b"a" * 1400, b"c" * 100]


def test_a_way_that_takes_no_batches_is_remembered_and_tried_again(picky, monkeypatch):
    sockets, fake = picky
    clock = [100.0]
    monkeypatch.setattr(udp.time, "monotonic", lambda: clock[0])
    for _ in range(3):
        assert sockets.send(b"a" * 2800, 1400, TO) == {}
    assert fake.batches == 1
    assert sockets.narrow() == {TO: 1400}
    clock[0] += 6
    fake.largest = 1500
    assert sockets.send(b"a" * 2800, 1400, TO) == {}
    assert fake.batches == 2
    assert len(fake.singles) == 6
    assert sockets.narrow() == {}
