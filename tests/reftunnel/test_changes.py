"""Peers that come, change and go while a tunnel runs."""

from __future__ import annotations

import json
import re
import socket
import sys

import pytest

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.changes import PeerChange, apply_change, pack, parse_change
from vpnforensics.reftunnel.drops import Drop
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.keys import PresharedKey, PrivateKey
from vpnforensics.reftunnel.status import describe, metrics

from .netlab import PORT, Key, cable, config, two_configs
from .pair import DOWN, UP, make_pair, networks

COMMAND = (sys.executable, "-m", "vpnforensics.reftunnel")


def test_a_change_survives_its_way():
    key, secret = PrivateKey.generate().public, PresharedKey.generate()
    text = pack(str(key), ["10.0.0.5/32", "fd00::/64"], "[2001:db8::1]:5", 25, secret.to_text())
    assert parse_change(text, "tcp") == PeerChange(
        key, networks("10.0.0.5/32", "fd00::/64"), Endpoint("2001:db8::1", 5, "tcp"), 25, secret
    )
    assert parse_change(pack(str(key), None, None, None, None), "udp") == PeerChange(key)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", "7", '{"public_key": 5}', '{"public_key": "short"}', "\0", "[" * 5000),
        json.dumps({"public_key": str(PrivateKey(b"k" * 32).public), "keepalive_s": -1}),
        json.dumps({"public_key": str(PrivateKey(b"k" * 32).public), "keepalive_s": 2.5}),
        json.dumps({"public_key": str(PrivateKey(b"k" * 32).public), "allowed_ips": ["10.0.0.0/99"]}),
        json.dumps({"public_key": str(PrivateKey(b"k" * 32).public), "endpoint": "nowhere"}),
        json.dumps({"public_key": str(PrivateKey(b"k" * 32).public), "allowed_ips": 5}),
        json.dumps({"public_key": str(PrivateKey(b"k" * 32).public), "preshared_key": "c2VjcmV0"}),
    ],
)
def test_a_change_that_makes_no_sense_is_a_clear_error(text):
    with pytest.raises(TunnelError) as error:
        parse_change(text, "udp")
    assert "c2VjcmV0" not in str(error.value)


def test_a_peer_is_removed_with_its_keys_and_comes_again():
    wire, client, server = make_pair()
    wire.send(client, UP)
    peer = server.only_peer
    key, before = peer.config.public_key, peer.config
    server.device.remove_peer(peer)
    assert server.device.sessions == {}
    assert server.device.allowed_ips() == set()
    wire.send(client, UP)
    assert server.device.drops[Drop.UNKNOWN_INDEX] == 1
    wire.send(server, DOWN)
    assert server.device.drops[Drop.NO_ROUTE] == 1
    apply_change(server.device, PeerChange(key, before.allowed_ips), wire.now, is_new=True)
    wire.run(30.0)
    wire.send(client, UP)
    assert server.delivered().count(UP) >= 2


def test_an_allowed_network_goes_to_who_is_given_it():
    wire, client, server = make_pair()
    wire.send(client, UP)
    old, new = server.only_peer, PrivateKey.generate().public
    apply_change(server.device, PeerChange(new, networks("10.0.0.2/32")), wire.now, is_new=True)
    assert old.config.allowed_ips == networks("fd00::2/128")
    wire.send(client, UP)
    assert server.device.drops[Drop.WRONG_SOURCE] == 1
    change = PeerChange(old.config.public_key, networks("10.0.0.2/32", "fd00::2/128"))
    apply_change(server.device, change, wire.now, is_new=False)
    wire.send(client, UP)
    assert server.delivered() == [UP, UP]  # the session went on
    with pytest.raises(TunnelError, match="there already"):
        apply_change(server.device, PeerChange(new), wire.now, is_new=True)
    with pytest.raises(TunnelError, match="no peer"):
        apply_change(server.device, PeerChange(PrivateKey.generate().public), wire.now, is_new=False)
    with pytest.raises(TunnelError, match="itself"):
        apply_change(server.device, PeerChange(server.device.private_key.public), wire.now, is_new=True)


def test_keepalive_can_be_switched_on_and_off():
    wire, client, _ = make_pair()
    key = client.only_peer.config.public_key
    apply_change(client.device, PeerChange(key, persistent_keepalive_s=25), wire.now, is_new=False)
    wire.run(110.0)
    assert wire.sizes().count(32) == 5  # and the first by the handshake
    apply_change(client.device, PeerChange(key, persistent_keepalive_s=0), wire.now, is_new=False)
    wire.seen.clear()
    wire.run(60.0)
    assert wire.seen == []


def test_metrics_are_prometheus_text():
    wire, client, _ = make_pair()
    wire.send(client, UP)
    client.device.drops[Drop.NO_ROUTE] = 3
    state = describe(client.device, 'odd"name', 1, wire.now, 10**18)
    state["trouble"] = {"journal_rows": 2}
    text = metrics([state])
    for line in text.splitlines():
        assert re.fullmatch(
            r"# (HELP|TYPE) [a-z_]+ .+|[a-z_]+\{([a-z]+=\"(\\.|[^\"\\])*\",?)+\} [0-9.e+]+", line
        ), line
    assert 'vpnf_tunnel_dropped_total{interface="odd\\"name",reason="no_route"} 3' in text
    assert "vpnf_tunnel_sent_packets_total{" in text
    assert "vpnf_tunnel_latest_handshake_seconds" in text
    assert metrics([]) == ""


def change(lab, name, request, *arguments, check=True):
    return lab.run(name, *COMMAND, request, lab.interface(name), *arguments, check=check)


@pytest.mark.needs("wireguard")
def test_peers_of_a_running_tunnel(netlab, tmp_path):
    cable(netlab)
    server, client, secret = Key(), Key(), PresharedKey.generate()
    psk = tmp_path / "psk"
    psk.touch(0o600)
    psk.write_text(secret.to_text() + "\n")
    netlab.ours("s", config(server, [], "10.77.0.1/24", PORT))
    netlab.ours("c", config(client, [], "10.77.0.2/32"))
    to_server = (str(server.public), "--allowed-ips", "10.77.0.0/24", "--endpoint", "192.0.2.1:51820")
    change(netlab, "c", "add-peer", *to_server, "--preshared-key", str(psk))
    change(
        netlab,
        "s",
        "add-peer",
        *(str(client.public), "--allowed-ips", "10.77.0.2/32", "--preshared-key", str(psk)),
    )
    assert "10.77.0.0/24" in netlab.ip("c", "route")
    assert netlab.ping("c", "10.77.0.1") == 3
    change(netlab, "c", "set", str(server.public), "--allowed-ips", "10.77.0.0/24,10.78.0.0/24")
    assert "10.78.0.0/24" in netlab.ip("c", "route")
    assert netlab.ping("c", "10.77.0.1") == 3
    assert "full tunnel" in netlab_error(netlab, "c", "set", str(server.public), "--allowed-ips", "0.0.0.0/0")
    assert "there already" in netlab_error(netlab, "c", "add-peer", str(server.public))
    assert "no peer" in netlab_error(netlab, "c", "set", str(Key().public))
    psk.chmod(0o644)
    assert "chmod" in netlab_error(netlab, "c", "set", str(server.public), "--preshared-key", str(psk))
    change(netlab, "c", "remove-peer", str(server.public))
    assert "10.77.0.0/24" not in netlab.ip("c", "route")
    assert netlab.show("c")["peers"] == []
    assert netlab.ping("c", "10.77.0.1", 1, wait_s=1) == 0
    change(netlab, "c", "add-peer", *to_server, "--preshared-key", str(psk), check=False)
    psk.chmod(0o600)
    change(netlab, "c", "add-peer", *to_server, "--preshared-key", str(psk))
    assert netlab.ping("c", "10.77.0.1") == 3
    assert "vpnf_tunnel_sent_packets_total" in netlab.run(
        "c", *COMMAND, "show", netlab.interface("c"), "--metrics"
    )


def netlab_error(lab, name, request, *arguments):
    with pytest.raises(AssertionError) as error:
        change(lab, name, request, *arguments)
    assert "Traceback" not in str(error.value)
    return str(error.value)


@pytest.mark.needs("wireguard")
def test_one_file_with_endpoints_of_both_families(netlab):
    """A client of two servers, one reached by IPv4 and the other by IPv6."""
    netlab.add("c", "s", "t")
    netlab.link("c", "s", ["192.0.2.2/24"], ["192.0.2.1/24"])
    netlab.link("c", "t", ["2001:db8::2/64"], ["2001:db8::1/64"])
    client, one, other = Key(), Key(), Key()
    back = {"PublicKey": str(client.public), "AllowedIPs": "10.77.0.2/32"}
    netlab.ours("s", config(one, [back], "10.77.0.1/24", PORT))
    netlab.ours("t", config(other, [back], "10.78.0.1/24", PORT))
    peers = [
        {"PublicKey": str(one.public), "AllowedIPs": "10.77.0.1/32", "Endpoint": "192.0.2.1:51820"},
        {"PublicKey": str(other.public), "AllowedIPs": "10.78.0.0/24", "Endpoint": "[2001:db8::1]:51820"},
    ]
    netlab.ours("c", config(client, peers, "10.77.0.2/32"))
    assert netlab.ping("c", "10.77.0.1") == 3
    assert netlab.ping("c", "10.78.0.1") == 3


@pytest.mark.needs("wireguard")
def test_a_service_manager_is_told_that_traffic_may_flow(netlab, tmp_path):
    cable(netlab)
    _, server, _, _ = two_configs()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        netlab.ours("s", server, "env", f"NOTIFY_SOCKET={tmp_path}/notify")
        manager.settimeout(5)
        assert manager.recv(100) == b"READY=1"
