"""What the path says of its MTU, truly or not, costs speed at most."""

from __future__ import annotations

import sys

import pytest

from ..netlab import PORT, cable, two_configs

pytestmark = pytest.mark.needs("wireguard")

FLOOR_MBIT_S = 40
"""Far above the 0.06 Mbit/s of a tunnel whose every batch is refused, far below a busy machine's speed."""


def tell(lab, mtu: int, version: int, port: int) -> None:
    """The server's side of the cable tells the client's tunnel that the way takes `mtu` bytes."""
    source, to = ("192.0.2.1", "192.0.2.2") if version == 4 else ("2001:db8::1", "2001:db8::2")
    lab.run(
        "s",
        *(sys.executable, "-m", "tests.reftunnel.attacks.icmp", source, to),
        *map(str, (port, PORT, mtu, 2)),
    )


def bring_up(lab, version: int) -> int:
    """Our tunnel at both ends; the client's port."""
    cable(lab)
    client, server, _, _ = two_configs(version)
    lab.ours("s", server)
    lab.ours("c", client)
    assert lab.ping("c", "10.77.0.1") == 3
    return int(lab.show("c")["listening_port"])


@pytest.mark.parametrize("version", [4, 6])
def test_neither_a_narrower_link_nor_forged_icmp_stops_bulk_traffic(netlab, version):
    port = bring_up(netlab, version)
    outer = f"{netlab.prefix}cs"
    with netlab.iperf_server("s"):
        netlab.ip("c", "link", "set", outer, "mtu", "1400")
        assert netlab.iperf("c", "10.77.0.1", 1) > FLOOR_MBIT_S
        assert list(netlab.show("c")["narrow"].values()) == [1452]
        # When the link is wide again, that is found out.
        netlab.ip("c", "link", "set", outer, "mtu", "1500")
        netlab.wait(lambda: netlab.iperf("c", "10.77.0.1", 1) and not netlab.show("c")["narrow"])
        tell(netlab, 1280 if version == 6 else 576, version, port)
        assert netlab.iperf("c", "10.77.0.1", 2) > FLOOR_MBIT_S
    state = netlab.show("c")
    if version == 4:
        assert state["narrow"] == {}  # not even batches stopped
        assert "send_failed" not in state["dropped"]


def test_the_tunnel_fits_the_link_that_it_starts_on(netlab):
    """As wg-quick has it: without MTU in the file the tunnel's is that of the way, less 80 bytes."""
    cable(netlab)
    for name, other in ("cs", "sc"):
        netlab.ip(name, "link", "set", f"{netlab.prefix}{name}{other}", "mtu", "1400")
    client, server, _, _ = two_configs()
    netlab.ours("s", server)
    netlab.ours("c", client)
    assert "mtu 1320" in netlab.ip("c", "link", "show", netlab.interface("c"))
    with netlab.iperf_server("s"):
        assert netlab.iperf("c", "10.77.0.1", 1) > FLOOR_MBIT_S
    assert netlab.show("c")["narrow"] == {}


def test_ipv6_through_a_router_with_a_narrow_link(netlab):
    """As behind PPPoE: the first link takes 1500 bytes, the next 1492; only ICMP tells, and it is true."""
    netlab.add("c", "r", "s")
    netlab.link("c", "r", ["2001:db8:1::2/64"], ["2001:db8:1::1/64"])
    netlab.link("r", "s", ["2001:db8:2::2/64"], ["2001:db8:2::1/64"])
    netlab.run("r", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    netlab.ip("c", "-6", "route", "add", "default", "via", "2001:db8:1::1")
    netlab.ip("s", "-6", "route", "add", "default", "via", "2001:db8:2::2")
    for name, other in ("rs", "sr"):
        netlab.ip(name, "link", "set", f"{netlab.prefix}{name}{other}", "mtu", "1492")
    client, server, _, _ = two_configs(6)
    netlab.ours("s", server)
    netlab.ours("c", client.replace("2001:db8::1", "2001:db8:2::1"))
    with netlab.iperf_server("s"):
        assert netlab.iperf("c", "10.77.0.1", 2) > FLOOR_MBIT_S
