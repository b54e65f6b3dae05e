from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import table, tcp
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.relay_requests import UNKNOWN, Destination, destinations, requested


@pytest.mark.parametrize(
    ("head", "host", "port"),
    [
        (b"\5\1\0\1\xc0\0\2\x09\x01\xbb", b"\xc0\0\2\x09", 443),
        (b"\5\1\0\3\x0bexample.org\0\x50", b"example.org", 80),
        (b"\5\1\0\4" + bytes(15) + b"\1\x1f\x90", bytes(15) + b"\1", 8080),
        (b"\4\1\0\x50\xc0\0\2\x09user\0", b"\xc0\0\2\x09", 80),
        (b"CONNECT example.org:443 HTTP/1.1", b"example.org", 443),
        (b"CONNECT [2001:db8::1]:443 HTTP/1", b"[2001:db8::1]", 443),
    ],
)
def test_what_is_asked_for(head, host, port):
    assert requested(head) == Destination(host, port)


def test_a_name_that_is_cut_has_no_port():
    assert requested(b"CONNECT a-rather-long-name.examp") == Destination(b"a-rather-long-name.examp", UNKNOWN)
    assert requested(b"CONNECT long-name.example.org:44") == Destination(b"long-name.example.org", UNKNOWN)
    socks = b"\5\1\0\3\x20" + b"a" * 27
    assert requested(socks) == Destination(b"a" * 27, UNKNOWN)


@pytest.mark.parametrize(
    "head",
    [
        b"\5\1\0",  # a greeting with one method
        b"\5\2\0\1\xc0\0\2\x09\x01\xbb",  # BIND
        b"\5\1\1\1\xc0\0\2\x09\x01\xbb",
        b"\5\1\0\2\xc0\0\2\x09\x01\xbb",
        b"\4\3\0\x50\xc0\0\2\x09\0",
        b"GET http://example.org/ HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"",
    ],
)
def test_what_is_no_request(head):
    assert requested(head) is None


@given(st.binary(max_size=32))
def test_hostile_heads(head):
    found = requested(head)
    assert found is None or -1 <= found.port <= 65535


@given(st.binary(max_size=24))
def test_hostile_targets(target):
    found = requested(b"CONNECT " + target)
    assert found is not None
    assert -1 <= found.port <= 65535


def test_the_first_request_of_each_conversation():
    rows = []
    for n, says in enumerate(
        (
            [
                (True, b"\5\1\0"),
                (False, b"\5\0"),
                (True, b"\5\1\0\1\xc0\0\2\x09\x01\xbb"),
                (True, b"CONNECT b:1 H"),
            ],
            [(False, b"CONNECT c:1 H"), (True, b"GET / HTTP/1.1\r\n\r\n")],
            [(True, b""), (True, b"CONNECT d:443 HTTP/1.1\r\n")],
        )
    ):
        ends = {
            True: ("198.51.100.1", 4000 + n, "203.0.113.1", 1080),
            False: ("203.0.113.1", 1080, "198.51.100.1", 4000 + n),
        }
        for k, (up, data) in enumerate(says):
            rows.append(tcp(n + k / 10, *ends[up], payload_bytes=len(data), head=data[:32]))
    conversations = assemble_flows(table(rows))
    numbers = np.arange(len(conversations))
    forward = np.array([conversations.source(n).startswith("198") for n in numbers])
    found = destinations(conversations, numbers, forward)
    by_port = {
        int(conversations.sport[n] if forward[n] else conversations.dport[n]): d for n, d in found.items()
    }
    assert by_port == {4000: Destination(b"\xc0\0\2\x09", 443), 4002: Destination(b"d", 443)}
    assert destinations(conversations, numbers[:0], forward) == {}
