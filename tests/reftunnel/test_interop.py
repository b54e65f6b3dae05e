"""On the wire with wireguard-go, as client and as server, in network namespaces."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from vpnforensics.reftunnel.keys import PresharedKey

from .netlab import CLIENT_INNER, SERVER_INNER, NetLab, bring_up, cable, two_configs, without_address

pytestmark = pytest.mark.needs("wireguard")

DOWNLOAD_BYTES = 100_000_000


def download(lab: NetLab, url_host: str, folder: Path, size: int) -> None:
    """Fetch a file of random bytes from the server and compare digests."""
    content = os.urandom(1 << 20) * (size // (1 << 20)) + os.urandom(size % (1 << 20))
    (folder / "file").write_bytes(content)
    with lab.serving("s", folder):
        lab.run("c", "curl", "-sf", "-o", str(folder / "got"), f"http://{url_host}:8000/file", timeout_s=60)
    got = (folder / "got").read_bytes()
    assert len(got) == size
    assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()


@pytest.mark.parametrize("preshared", [False, True], ids=["plain", "psk"])
@pytest.mark.parametrize("version", [4, 6], ids=["outer4", "outer6"])
@pytest.mark.parametrize("we_are", ["client", "server"])
def test_wireguard_go_ping_download_and_iperf(netlab, tmp_path, we_are, version, preshared):
    bring_up(netlab, we_are, version, preshared)
    assert netlab.ping("c", "10.77.0.1") == 3
    assert netlab.ping("s", "10.77.0.2") == 3
    assert netlab.ping("c", "fd77::1") == 3
    # The whole 100 MB over each inner family once, smaller ones in the other combinations.
    size = DOWNLOAD_BYTES if preshared else 2_000_000
    download(netlab, "10.77.0.1" if version == 4 else "[fd77::1]", tmp_path, size)
    if preshared:
        with netlab.iperf_server("s"):
            assert netlab.iperf("c", "10.77.0.1", 1) > 20
            assert netlab.iperf("c", "10.77.0.1", 1, "-R") > 20
            assert netlab.iperf("c", "fd77::1", 1, "-u", "-b", "20M") > 15
    state = netlab.show("c" if we_are == "client" else "s")
    assert state["peers"][0]["latest_handshake_age_s"] < 60
    assert set(state["dropped"]) <= {"no_route"}  # the kernel's router solicitations


def test_a_wrong_preshared_key_carries_nothing(netlab):
    cable(netlab)
    client, server, _, _ = two_configs(preshared=True)
    other = PresharedKey.generate().to_text()
    wrong = "\n".join(
        f"PresharedKey = {other}" if "Preshared" in line else line for line in client.splitlines()
    )
    netlab.theirs("s", without_address(server), SERVER_INNER)
    netlab.ours("c", wrong)
    assert netlab.ping("c", "10.77.0.1", 2, wait_s=1) == 0
    assert netlab.show("c")["dropped"]["not_authentic"] >= 1


@pytest.mark.parametrize("we_are", ["client", "server"])
def test_roaming_to_another_address_and_port(netlab, we_are):
    bring_up(netlab, we_are)
    assert netlab.ping("c", "10.77.0.1") == 3
    interface = netlab.ip("c", "-br", "link").split("@")[0].split()[-1]
    netlab.ip("c", "addr", "del", "192.0.2.2/24", "dev", interface)
    netlab.ip("c", "addr", "add", "192.0.2.99/24", "dev", interface)
    if we_are == "server":
        # wireguard-go keeps the source address that it had; a new endpoint makes it choose again.
        peer = netlab.run("c", "wg", "show", netlab.interface("c"), "peers").strip()
        netlab.run("c", "wg", "set", netlab.interface("c"), "peer", peer, "endpoint", "192.0.2.1:51820")
    # The client's next packet comes from the new address; the server must follow it, without a handshake.
    assert netlab.ping("c", "10.77.0.1", 3, wait_s=3) == 3
    assert netlab.ping("s", "10.77.0.2", 3) == 3
    if we_are == "server":
        assert netlab.show("s")["peers"][0]["endpoint"].startswith("192.0.2.99:")
        netlab.run("c", "wg", "set", netlab.interface("c"), "listen-port", "40404")
        assert netlab.ping("c", "10.77.0.1", 3, wait_s=3) == 3
        assert netlab.show("s")["peers"][0]["endpoint"] == "192.0.2.99:40404"
    else:
        assert "192.0.2.99:" in netlab.run("s", "wg", "show", netlab.interface("s"), "endpoints")


def test_a_restarted_server_is_found_again_by_both_kinds_of_client(netlab):
    netlab.add("c", "s", "d", "t")
    netlab.link("c", "s", ["192.0.2.2/24"], ["192.0.2.1/24"])
    netlab.link("d", "t", ["192.0.2.2/24"], ["192.0.2.1/24"])
    client, server, _, _ = two_configs()
    servers = {name: netlab.ours(name, server) for name in ("s", "t")}
    netlab.theirs("c", without_address(client), CLIENT_INNER)
    netlab.ours("d", client)
    assert netlab.ping("c", "10.77.0.1") == netlab.ping("d", "10.77.0.1") == 3
    assert netlab.end(servers["s"]) == 0
    netlab.end(servers["t"], 9)  # not even a chance to say goodbye
    netlab.ours("s", server)
    netlab.ours("t", server)
    # A client notices by itself when nothing comes back for 15 s, and then calls again.
    deadline = time.monotonic() + 30
    waiting = {"c", "d"}
    while waiting:
        assert time.monotonic() < deadline, waiting
        waiting = {name for name in waiting if netlab.ping(name, "10.77.0.1", 1, wait_s=1) == 0}
