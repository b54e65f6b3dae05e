"""Which of two sockets the kernel gives a datagram to."""

import socket
import struct

import pytest

from vpnforensics.reftunnel import sorting
from vpnforensics.reftunnel.udp import UdpSockets


@pytest.fixture
def sockets():
    sockets = UdpSockets()
    yield sockets
    sockets.close()


def sorted_into(sockets, datagrams, family=socket.AF_INET):
    """Names of the queues that the datagrams came to."""
    queues = dict.fromkeys(sockets.data_sockets(), "data")
    names = ["cookies", "calls"] * 2
    queues |= dict(zip(sockets.call_sockets(), names, strict=False))
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    found = []
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, (host, sockets.port))
            buffer = bytearray(65_536)
            found.append([name for sock, name in queues.items() if sockets.receive(sock, buffer)])
    return [name for (name,) in found]


def data(index):
    return struct.pack("<II", 4, index) + bytes(40)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_only_data_of_live_sessions_is_data(sockets, family):
    sockets.expect([0x01020304, 7])
    calls = [b"\1\0\0\0" + bytes(144), b"\2\0\0\0" + bytes(88), b"\3\0\0\0" + bytes(60), b"", b"\4"]
    strange = [data(8), data(0x04030201), b"\4\0\0\1\7\0\0\0" + bytes(24)]
    datagrams = [data(7), *calls, data(0x01020304), *strange]
    names = ["data", *["calls"] * 5, "data", *["calls"] * 3]
    assert sorted_into(sockets, datagrams, family) == names
    sockets.expect([8])
    assert sorted_into(sockets, [data(7), data(8)], family) == ["calls", "data"]


def test_initiations_with_a_mac2_have_a_queue_of_their_own(sockets):
    plain = b"\1\0\0\0" + b"x" * 128 + bytes(16)
    with_cookie = [plain[:132] + bytes(at) + b"c" + bytes(15 - at) for at in range(16)]
    assert sorted_into(sockets, [plain, *with_cookie, b"\2" + with_cookie[0][1:], with_cookie[0] + b"!"]) == [
        "calls",
        *["cookies"] * 16,
        "calls",
        "calls",
    ]


def test_many_sessions(sockets):
    sockets.expect(range(sorting.MAX_INDICES))
    assert sorted_into(sockets, [data(999), data(1000)]) == ["data", "calls"]
    sockets.expect(range(sorting.MAX_INDICES + 1))  # too many to look at each: the type decides
    assert sorted_into(sockets, [data(5), data(12345), b"\1\0\0\0" + bytes(144)]) == ["data", "data", "calls"]


def test_a_kernel_that_cannot_sort_has_one_queue(monkeypatch):
    def cannot(sock, indices):
        raise OSError

    monkeypatch.setattr("vpnforensics.reftunnel.udp.sort", cannot)
    sockets = UdpSockets()
    assert sockets.call_sockets() == []
    sockets.expect([1])
    assert sorted_into(sockets, [data(7), b"\1\0\0\0" + bytes(144)]) == ["data", "data"]
    sockets.close()


def test_a_port_has_one_tunnel_only(sockets):
    with pytest.raises(Exception, match="cannot listen on UDP port"):
        UdpSockets(sockets.port)


def test_what_does_not_fit_is_counted(sockets):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(3000):
            sender.sendto(b"\1\0\0\0" + bytes(144), ("127.0.0.1", sockets.port))
    waiting, buffer = 0, bytearray(65_536)
    calls = sockets.call_sockets()[1]
    while sockets.receive(calls, buffer):
        waiting += 1
    assert 100 < waiting < 2000
    assert sockets.overflowed() == 3000 - waiting
