"""Hosts that were asked for, against the addresses that flows went to."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vpnforensics.align.asked_hosts import AskedHosts
from vpnforensics.tunnels.relay_requests import UNKNOWN, Destination

A, B = b"a.example.org", b"b.example.org"


@pytest.fixture
def hosts():
    """Conversations 0 and 1 asked for a, 2 for b; that of flow 0 is proved to be 0, and flow 3's to be 3."""
    asked = {0: Destination(A, 443), 1: Destination(A, UNKNOWN), 2: Destination(B, 443)}
    flows = SimpleNamespace(dst=np.array([7, 8, 7, 9]), dport=np.array([443, 443, 80, 443]))
    return AskedHosts.of(asked, flows, 4, np.array([0, 3]), np.array([0, 3]))


@pytest.mark.parametrize(
    ("conversation", "flow", "decades"),
    [
        (0, 0, 0.0),  # where the host is, the only one known: by chance always
        (1, 0, 0.0),
        (0, 1, -2.0),  # the host has another address
        (1, 2, 0.0),  # its port is not known
        (0, 2, -np.inf),  # another port
        (2, 1, 0.0),  # a host of which no address is known
        (2, 2, -np.inf),
        (3, 2, 0.0),  # asked for nothing
    ],
)
def test_what_a_destination_says(hosts, conversation, flow, decades):
    assert hosts.decades(np.array([conversation]), np.array([flow])).tolist() == [decades]


def test_of_more_addresses_one_is_more_of_a_proof():
    asked = {0: Destination(A, 443), 1: Destination(B, 443)}
    flows = SimpleNamespace(dst=np.array([7, 8]), dport=np.array([443, 443]))
    both = np.array([0, 1])
    hosts = AskedHosts.of(asked, flows, 2, both, both)
    assert hosts.decades(both, both).tolist() == pytest.approx([np.log10(2)] * 2)
    assert hosts.decades(both, both[::-1]).tolist() == [-2.0, -2.0]
