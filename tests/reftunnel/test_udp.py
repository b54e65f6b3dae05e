import socket

import pytest

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.udp import UdpSockets


def test_a_port_that_is_taken_for_one_of_the_two_families_is_an_error():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(("::", 0))
        with pytest.raises(TunnelError, match="cannot listen on UDP port"):
            UdpSockets(taken.getsockname()[1])
