"""The tunnel of each client among the frames of an ingress capture."""

from __future__ import annotations

import pytest

from tests.packets import frames as build
from vpnforensics.groundtruth.lab.drivers import Client
from vpnforensics.groundtruth.lab.truth_file import outer_endpoints

CLIENT = Client(1, "ann", "nowhere", "198.51.100.11", 40000, "10.8.0.3")
SERVER = "198.51.100.1"


@pytest.mark.parametrize(("transport", "proto"), [("gre", 47), ("esp", 50)])
def test_what_has_no_ports_is_one_tunnel_whatever_its_first_bytes_are(transport, proto):
    ends = {"src": CLIENT.outer, "dst": SERVER}
    control = build.tcp(b"call", sport=50000, dport=1723)
    ingress = [build.ethernet(build.ipv4(control, 6, **ends))]
    ingress += [build.ethernet(build.ipv4(bytes([n]) * 90, proto, **ends)) for n in range(5)]
    found = outer_endpoints(ingress, [CLIENT], transport)
    near, far, others = found["ann"]
    assert (str(near), str(far)) == (f"{CLIENT.outer}:0", f"{SERVER}:0")
    assert others == [f"tcp {CLIENT.outer}:50000 {SERVER}:1723"]
