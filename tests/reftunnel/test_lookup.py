"""Endpoints by name."""

from __future__ import annotations

import socket

from vpnforensics.reftunnel import lookup
from vpnforensics.reftunnel.endpoint import Endpoint


def test_of_the_addresses_of_a_name_one_is_taken_that_is_reached(monkeypatch):
    found = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("2001:db8:ffff::1", 51820, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", 51820)),
    ]
    monkeypatch.setattr(lookup.socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(lookup, "_is_routed", lambda each: each[0] == socket.AF_INET)
    assert lookup.resolve("vpn.example:51820", "udp") == Endpoint("127.0.0.1", 51820)
