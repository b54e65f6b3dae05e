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
    source, to = ("192.0.2.1", "192.0.2.2") if version == 4 else ("2001:db8:2::1", "2001:db8:1::2")
    lab.run(
        "s",
        *(sys.executable, "-m", "tests.reftunnel.attacks.icmp", source, to),
        *map(str, (port, PORT, mtu, 2)),
    )


def is_still_carrying(lab, seconds: int = 1) -> bool:
    return lab.iperf("c", "10.77.0.1", seconds) > FLOOR_MBIT_S


def test_on_ipv4_neither_a_narrower_link_nor_forged_icmp_stops_bulk_traffic(netlab):
    """On a link of 1400 bytes at first: without MTU in the file the tunnel's fits, as wg-quick has it."""
    cable(netlab)
    outer = f"{netlab.prefix}cs"
    for name, other in ("cs", "sc"):
        netlab.ip(name, "link", "set", f"{netlab.prefix}{name}{other}", "mtu", "1400")
    client, server, _, _ = two_configs()
    netlab.ours("s", server)
    netlab.ours("c", client)
    assert "mtu 1320" in netlab.ip("c", "link", "show", netlab.interface("c"))
    with netlab.iperf_server("s"):
        assert is_still_carrying(netlab)
        assert netlab.show("c")["narrow"] == {}
        netlab.ip("c", "link", "set", outer, "mtu", "1300")
        assert is_still_carrying(netlab)
        assert list(netlab.show("c")["narrow"].values()) == [1352]
        # When the link is wide again, that is found out.
        netlab.ip("c", "link", "set", outer, "mtu", "1400")
        netlab.wait(lambda: not netlab.show("c")["narrow"])
        tell(netlab, 576, 4, int(netlab.show("c")["listening_port"]))
        assert is_still_carrying(netlab)
    state = netlab.show("c")
    assert state["narrow"] == {}  # not even batches stopped
    assert "send_failed" not in state["dropped"]


def test_on_ipv6_neither_narrower_links_nor_forged_icmp_stop_bulk_traffic(netlab):
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
    outer = f"{netlab.prefix}cr"
    with netlab.iperf_server("s"):
        assert is_still_carrying(netlab)
        netlab.ip("c", "link", "set", outer, "mtu", "1400")
        assert is_still_carrying(netlab)
        netlab.ip("c", "link", "set", outer, "mtu", "1500")
        tell(netlab, 1280, 6, int(netlab.show("c")["listening_port"]))
        assert "mtu 1280" in netlab.ip("c", "-6", "route", "get", "2001:db8:2::1")  # the kernel believes it
        assert is_still_carrying(netlab)
