"""Floods from outside do not harm the traffic inside, and do not lock out who has a key."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from ..netlab import PORT, Key, NetLab, config
from .underflood import FLOODED, flooded_server, under_flood

pytestmark = pytest.mark.needs("wireguard")

RATE_HZ = 20_000


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NetLab, Key]]:
    """One tunnel for all floods, and its server's key."""
    with NetLab(tmp_path_factory.mktemp("flooded")) as lab:
        yield lab, flooded_server(lab, is_ours=True)


@pytest.mark.parametrize("kind", ["initiations", "bad-mac1", "transport", "short"])
def test_traffic_is_unharmed_under_a_flood(flooded, kind):
    lab, server = flooded
    before = sum(lab.show("s")["dropped"].values())
    felt = under_flood(lab, server, kind, RATE_HZ, seconds=2)
    assert felt.flood_hz > RATE_HZ / 2  # less, and the machine was too busy to say anything
    assert felt.lost <= 0.02, felt
    assert felt.stream_lost <= 0.02, felt
    assert felt.median_ms <= 20, felt
    assert sum(lab.show("s")["dropped"].values()) - before > RATE_HZ


def test_a_newcomer_gets_in_during_a_flood(netlab):
    """The server gives it a cookie, and it calls again with it."""
    server, newcomer = Key(), Key()
    netlab.add("n", "x", "s")
    netlab.link("n", "s", ["192.0.2.2/24"], ["192.0.2.1/24"])
    netlab.link("x", "s", ["203.0.113.2/24"], ["203.0.113.1/24"])
    peer = {"PublicKey": str(newcomer.public), "AllowedIPs": "10.77.0.3/32"}
    netlab.ours("s", config(server, [peer], "10.77.0.1/24", PORT))
    flood = netlab.start(
        "x",
        *(sys.executable, "-m", "tests.reftunnel.flood", "initiations", str(server.public), FLOODED),
        *(str(PORT), str(60 * RATE_HZ), str(RATE_HZ)),
    )
    netlab.wait(lambda: netlab.show("s")["dropped"].get("under_load"))
    to_server = {
        "PublicKey": str(server.public),
        "AllowedIPs": "10.77.0.0/24",
        "Endpoint": f"192.0.2.1:{PORT}",
    }
    netlab.ours("n", config(newcomer, [to_server], "10.77.0.3/24"))
    netlab.wait(lambda: netlab.ping("n", "10.77.0.1", 1, wait_s=1), timeout_s=50)
    assert flood.poll() is None
