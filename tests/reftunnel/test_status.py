import json

from vpnforensics.reftunnel.keys import PresharedKey
from vpnforensics.reftunnel.status import _ago, _size, describe, render

from .pair import UP, make_pair

SECRET = PresharedKey(b"p" * 32)


def test_it_reads_like_wg_show():
    wire, client, server = make_pair(SECRET, keepalive_s=25)
    wire.send(client, UP)
    client.device.receive(b"rubbish", server.endpoint, wire.now)
    state = describe(client.device, "wg0", 51820, wire.now + 65, 10**18)
    assert render(state).splitlines() == [
        "interface: wg0",
        f"  public key: {client.device.private_key.public}",
        "  private key: (hidden)",
        "  listening port: 51820",
        "",
        f"peer: {server.device.private_key.public}",
        "  preshared key: (hidden)",
        "  endpoint: 192.0.2.1:51820",
        "  allowed ips: 10.0.0.0/24, fd00::/64",
        "  latest handshake: 1 minute, 5 seconds ago",
        "  transfer: 92 B received, 212 B sent",
        "  persistent keepalive: every 25 seconds",
        "",
        "dropped: malformed 1",
    ]
    assert state["peers"][0]["latest_handshake_ns"] == 10**18 - 65 * 10**9


def test_no_secret_is_in_it():
    wire, client, _ = make_pair(SECRET)
    wire.send(client, UP)
    text = json.dumps(describe(client.device, "wg0", 1, wire.now, 0))
    assert SECRET.to_text() not in text
    assert client.device.private_key.to_text() not in text


def test_a_peer_never_heard_of():
    _, _, server = make_pair()
    text = render(describe(server.device, "wg0", 1, 0.0, 0))
    assert "endpoint" not in text
    assert "handshake" not in text
    assert "transfer" not in text
    assert "preshared" not in text
    assert "dropped" not in text


def test_sizes_and_ages():
    assert [_size(count) for count in (0, 1023, 1024, 3 << 20, 5 << 30)] == [
        *("0 B", "1023 B", "1.00 KiB", "3.00 MiB", "5.00 GiB")
    ]
    assert _ago(0.5) == "Now"
    assert _ago(90_061) == "1 day, 1 hour, 1 minute, 1 second ago"
