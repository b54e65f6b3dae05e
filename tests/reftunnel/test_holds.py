"""What a real network does to a tunnel: many peers, loss, floods, crashes, long runs."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from .netlab import CLIENT_INNER, PORT, Key, NetLab, bring_up, cable, config, two_configs, without_address

pytestmark = pytest.mark.needs("wireguard")

HERE = Path(__file__).parent
PEERS = 24


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def test_24_peers_at_once(netlab):
    """Our server, two dozen wireguard-go clients, all pinging and two downloading at once."""
    netlab.add("s")
    server, clients = Key(), [Key() for _ in range(PEERS)]
    peers = [
        {"PublicKey": str(key.public), "AllowedIPs": f"10.77.0.{number + 2}/32"}
        for number, key in enumerate(clients)
    ]
    netlab.ours("s", config(server, peers, "10.77.0.1/24", PORT))
    for number, key in enumerate(clients):
        name = f"c{number}"
        netlab.add(name)
        netlab.link("s", name, [f"198.18.{number}.1/24"], [f"198.18.{number}.2/24"])
        to_server = {
            "PublicKey": str(server.public),
            "AllowedIPs": "10.77.0.0/24",
            "Endpoint": f"198.18.{number}.1:{PORT}",
        }
        netlab.theirs(name, config(key, [to_server]), f"10.77.0.{number + 2}/24")
    pings = [
        netlab.start(f"c{number}", "ping", "-n", "-q", "-c", "25", "-i", "0.2", "-W", "5", "10.77.0.1")
        for number in range(PEERS)
    ]
    with netlab.iperf_server("s"):
        assert netlab.iperf("c0", "10.77.0.1", 2) > 20
    # ping ends with 0 only if at least one answer came; all answers are counted on our side below.
    assert all(process.wait(30) == 0 for process in pings)
    state = netlab.show("s")
    assert sum(peer["received_packets"] >= 25 for peer in state["peers"]) == PEERS
    assert all(peer["sent_packets"] >= 25 for peer in state["peers"])
    # One client reaches another through the server, if the server forwards.
    netlab.run("s", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    assert netlab.ping("c3", "10.77.0.25") == 3


def test_loss_and_jitter(netlab, tmp_path):
    """2 % loss and up to 20 ms jitter, which reorders most packets: everything still arrives."""
    netlab.add("c", "r", "s")
    netlab.link("c", "r", ["198.51.100.2/24"], ["198.51.100.1/24"])
    netlab.link("r", "s", ["192.0.2.2/24"], ["192.0.2.1/24"])
    client, server, _, _ = two_configs()
    client = client.replace(f"192.0.2.1:{PORT}", "198.51.100.1:4000")
    netlab.start(
        "r", sys.executable, str(HERE / "relay.py"), *("4000", "192.0.2.1", str(PORT), "0.02", "0.02", "7")
    )
    netlab.ours("s", server)
    netlab.ours("c", client)
    # 4 % of the round trips are lost; the chance of losing more than 12 % of 100 is below 0.1 %.
    assert netlab.ping("c", "10.77.0.1", 100, 0.02, 1) >= 88
    (tmp_path / "file").write_bytes(bytes(range(256)) * 4096)
    with netlab.serving("s", tmp_path):
        netlab.run(
            "c", "curl", "-sf", "-o", str(tmp_path / "got"), "http://10.77.0.1:8000/file", timeout_s=60
        )
    assert (tmp_path / "got").read_bytes() == (tmp_path / "file").read_bytes()
    # Reordering within 20 ms is far inside the replay window: nothing was taken for a replay.
    assert "replay" not in netlab.show("s")["dropped"]
    assert "replay" not in netlab.show("c")["dropped"]


def test_a_flood_of_50_000_forged_initiations(netlab):
    """A real peer keeps its traffic, and a new one gets in, while cookies hold the flood off."""
    netlab.add("c", "n", "x", "s")
    netlab.link("c", "s", ["192.0.2.2/24"], ["192.0.2.1/24"])
    netlab.link("n", "s", ["198.51.100.2/24"], ["198.51.100.1/24"])
    netlab.link("x", "s", ["203.0.113.2/24"], ["203.0.113.1/24"])
    server, client, newcomer = Key(), Key(), Key()
    peers = [
        {"PublicKey": str(client.public), "AllowedIPs": "10.77.0.2/32"},
        {"PublicKey": str(newcomer.public), "AllowedIPs": "10.77.0.3/32"},
    ]
    to_server = {"PublicKey": str(server.public), "AllowedIPs": "10.77.0.0/24"}
    process = netlab.ours("s", config(server, peers, "10.77.0.1/24", PORT))
    netlab.ours("c", config(client, [{**to_server, "Endpoint": f"192.0.2.1:{PORT}"}], "10.77.0.2/24"))
    netlab.theirs("n", config(newcomer, [{**to_server, "Endpoint": f"198.51.100.1:{PORT}"}]), "10.77.0.3/24")
    assert netlab.ping("c", "10.77.0.1") == 3
    before = resident_bytes(process.pid)
    flood = netlab.start(
        "x",
        *(
            sys.executable,
            "-m",
            "tests.reftunnel.flood",
            "initiations",
            str(server.public),
            "203.0.113.1",
            str(PORT),
        ),
        *("50000", "4000"),
    )
    netlab.wait(lambda: netlab.show("s")["dropped"].get("under_load"))
    assert netlab.ping("c", "10.77.0.1", 60, 0.05, 2) >= 59
    with netlab.iperf_server("s"):
        assert netlab.iperf("c", "10.77.0.1", 2) > 20
    # wireguard-go is given a cookie, and comes again with it after 5 s.
    assert flood.poll() is None
    assert netlab.ping("n", "10.77.0.1", 20, 0.5, 2) >= 5
    assert flood.wait(60) == 0
    dropped = netlab.show("s")["dropped"]
    assert sum(dropped.values()) > 45_000
    assert dropped["under_load"] > 40_000
    assert resident_bytes(process.pid) - before < 20 << 20


def leftovers(lab: NetLab, name: str) -> str:
    """All that a tunnel could leave in a namespace, as text."""
    return "\n".join(
        (
            *(line.split()[0] for line in lab.ip(name, "-br", "link").splitlines()),
            lab.ip(name, "rule"),
            lab.ip(name, "-6", "rule"),
            lab.ip(name, "-4", "route", "show", "table", "all"),
            *(
                line
                for line in lab.ip(name, "-6", "route", "show", "table", "all").splitlines()
                if "51820" in line
            ),
            lab.run(name, "nft", "list", "ruleset"),
            lab.run(name, "sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"),
            lab.run(name, "sysctl", "net.ipv4.conf.all.src_valid_mark"),
        )
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["INT", "TERM", "HUP"])
def test_nothing_is_left_behind(netlab, number):
    cable(netlab)
    client, server, _, _ = two_configs()
    server = server.replace("[Interface]", "[Interface]\nNat = lo")
    client = client.replace("10.77.0.0/24, fd77::/64", "0.0.0.0/0, ::/0")
    before = {name: leftovers(netlab, name) for name in "cs"}
    processes = {"s": netlab.ours("s", server), "c": netlab.ours("c", client)}
    assert netlab.ping("c", "10.77.0.1") == 3
    assert "masquerade" in leftovers(netlab, "s")
    assert "fwmark" in leftovers(netlab, "c")
    for name, process in processes.items():
        assert netlab.end(process, number) == 0
        assert leftovers(netlab, name) == before[name]
        assert not Path(f"/run/vpnforensics/{netlab.interface(name)}.sock").exists()


def test_a_full_tunnel_with_nat_that_was_killed_comes_up_again_and_then_leaves_nothing(netlab):
    cable(netlab)
    client, server, _, _ = two_configs()
    texts = {
        "s": server.replace("[Interface]", "[Interface]\nNat = lo"),
        "c": client.replace("10.77.0.0/24, fd77::/64", "0.0.0.0/0, ::/0"),
    }
    before = {name: leftovers(netlab, name) for name in "cs"}
    for name, text in texts.items():
        netlab.end(netlab.ours(name, text), signal.SIGKILL)
        assert leftovers(netlab, name) != before[name]
    again = {name: netlab.ours(name, text) for name, text in texts.items()}
    assert netlab.ping("c", "10.77.0.1") == 3
    assert leftovers(netlab, "s").count("masquerade") == 1
    # What it was before can no longer be known: the switches that the killed ones turned on stay on.
    switches = ("ip_forward", "forwarding", "src_valid_mark")
    for name, process in again.items():
        assert netlab.end(process) == 0
        after, earlier = (
            [line for line in text.splitlines() if not any(switch in line for switch in switches)]
            for text in (leftovers(netlab, name), before[name])
        )
        assert after == earlier


def test_a_second_full_tunnel_does_not_break_the_first(netlab):
    cable(netlab)
    client, server, _, _ = two_configs()
    client = client.replace("10.77.0.0/24, fd77::/64", "0.0.0.0/0")
    netlab.ours("s", server)
    netlab.ours("c", client)
    rules = netlab.ip("c", "rule")
    second = netlab.folder / f"{netlab.prefix}t2.conf"
    second.touch(0o600)
    second.write_text(client.replace("10.77.0.2/24", "10.78.0.2/24"))
    command = (sys.executable, "-m", "vpnforensics.reftunnel", "up", str(second), "-f")
    with pytest.raises(AssertionError, match="another tunnel has its default route"):
        netlab.run("c", *command)
    assert netlab.ip("c", "rule") == rules
    assert netlab.ping("c", "10.77.0.1") == 3


def test_an_interface_taken_away_ends_the_tunnel_and_one_taken_down_does_not(netlab):
    cable(netlab)
    client, server, _, _ = two_configs()
    netlab.ours("s", server)
    process = netlab.ours("c", client.replace("10.77.0.0/24, fd77::/64", "0.0.0.0/0"))
    before = netlab.ip("s", "rule")
    assert netlab.ping("c", "10.77.0.1") == 3
    netlab.ip("c", "link", "set", netlab.interface("c"), "down")
    netlab.ping("s", "10.77.0.2", 2, wait_s=1)
    netlab.ip("c", "link", "set", netlab.interface("c"), "up")
    netlab.ip("c", "route", "replace", "default", "dev", netlab.interface("c"), "table", "51820")
    assert netlab.ping("c", "10.77.0.1") == 3
    netlab.ip("c", "link", "del", netlab.interface("c"))
    assert process.wait(10) == 1
    assert netlab.ip("c", "rule") == before  # a rule that stayed would send all traffic nowhere
    assert not Path(f"/run/vpnforensics/{netlab.interface('c')}.sock").exists()


def test_the_crash_of_a_peer_leaves_nothing_and_changes_nothing_else(netlab):
    cable(netlab)
    client, server, _, _ = two_configs()
    ours = netlab.ours("s", server)
    other = netlab.ours("c", client)
    assert netlab.ping("c", "10.77.0.1") == 3
    netlab.end(other, signal.SIGKILL)
    assert netlab.ping("s", "10.77.0.2", 2, wait_s=1) == 0
    assert ours.poll() is None
    assert netlab.interface("c") not in netlab.ip("c", "-br", "link")
    # A socket file is left by a process that was killed; the next start replaces it.
    netlab.ours("c", client)
    deadline = time.monotonic() + 20
    while netlab.ping("c", "10.77.0.1", 1, wait_s=1) == 0:
        assert time.monotonic() < deadline
    assert netlab.end(ours) == 0


def test_a_full_tunnel_with_nat(netlab):
    """All of a client's traffic goes through the server, and the Internet sees only the server."""
    netlab.add("c", "s", "i")
    netlab.link("c", "s", ["192.0.2.2/24"], ["192.0.2.1/24"])
    outside, _ = netlab.link("s", "i", ["203.0.113.1/24"], ["203.0.113.2/24"])
    netlab.ip("c", "route", "add", "default", "via", "192.0.2.1")
    client, server, _, _ = two_configs()
    netlab.ours("s", server.replace("[Interface]", f"[Interface]\nNat = {outside}"))
    netlab.ours("c", client.replace("10.77.0.0/24, fd77::/64", "0.0.0.0/0"))
    sniffer = netlab.start("i", "timeout", "20", "tcpdump", "-nn", "-l", "-c", "6", "icmp", stdout=-1)
    sniffer.stderr.readline()  # "listening on"
    assert netlab.ping("c", "203.0.113.2") == 3
    seen = sniffer.communicate(timeout=20)[0].decode()
    assert seen.count("203.0.113.1 > 203.0.113.2: ICMP echo request") == 3
    assert "10.77.0.2" not in seen
    with netlab.iperf_server("i"):
        assert netlab.iperf("c", "203.0.113.2", 1) > 20
        assert netlab.iperf("c", "203.0.113.2", 1, "-R") > 20


def test_a_short_soak_grows_no_memory(netlab):
    """10 s of traffic both ways; the 10-minute run with rekeys is `benchmarks/tunnel.py soak`."""
    bring_up(netlab, "both")
    with netlab.iperf_server("s"):
        netlab.iperf("c", "10.77.0.1", 2, "--bidir")
        pids = [process.pid for process in netlab.tunnels]
        before = [resident_bytes(pid) for pid in pids]
        netlab.iperf("c", "10.77.0.1", 8, "--bidir")
    for pid, earlier in zip(pids, before, strict=True):
        assert resident_bytes(pid) - earlier < 4 << 20


def test_wireguard_go_client_with_a_larger_mtu(netlab):
    """Packets longer than our rows take the slow way, and arrive."""
    netlab.add("c", "s")
    one, other = netlab.link("c", "s", ["192.0.2.2/24"], ["192.0.2.1/24"])
    netlab.ip("c", "link", "set", one, "mtu", "9000")
    netlab.ip("s", "link", "set", other, "mtu", "9000")
    client, server, _, _ = two_configs()
    netlab.ours("s", server)
    netlab.theirs("c", without_address(client), CLIENT_INNER, mtu=8000)
    netlab.ip("s", "link", "set", netlab.interface("s"), "mtu", "8000")
    out = netlab.run("c", "ping", "-n", "-c", "2", "-i", "0.2", "-s", "6000", "-M", "do", "10.77.0.1")
    assert "2 received" in out
    # TCP leaves in super-segments, of segments that are as long.
    with netlab.iperf_server("c"):
        assert netlab.iperf("s", "10.77.0.2", 1) > 20
    assert "malformed" not in netlab.show("s")["dropped"]
