import ipaddress
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.config import parse_config, read_config
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.keys import PresharedKey, PrivateKey
from vpnforensics.reftunnel.network import outer_mark
from vpnforensics.reftunnel.shaping import Padding

PRIVATE = PrivateKey(b"a" * 32)
PEER = PrivateKey(b"b" * 32).public
SECRET = PresharedKey(b"p" * 32)

FULL = f"""
# a comment
[Interface]
PrivateKey = {PRIVATE.to_text()}   # trailing
Address = 10.0.0.1/24, fd00::1/64
Address = 10.1.0.1/32
ListenPort = 51820
DNS = 9.9.9.9
MTU = 1380
Table = off
FwMark = 0x1234
PostUp = iptables -A FORWARD
PreDown = true; rm -rf /
SaveConfig = true
Transport = tcp
Offload = off
Nat = eth0
Journal = /tmp/j.parquet
UsageLog = /tmp/u.jsonl
Pad = buckets:128,512
Cover = 50
BatchMs = 2.5
ScrubTimestamps = on
ScrubIpId = zero
NormaliseTtl = 64

[Peer]
publickey={PEER}
PRESHAREDKEY = {SECRET.to_text()}
AllowedIPs = 10.0.0.2/32, fd00::2, 192.168.1.77/24
Endpoint = [2001:db8::1]:51820
PersistentKeepalive = 25
"""

MINIMAL = f"[Interface]\nPrivateKey = {PRIVATE.to_text()}\n"


def test_every_key_of_a_full_file():
    config = parse_config(FULL, "wg0")
    assert config.private_key == PRIVATE
    assert [str(address) for address in config.addresses] == ["10.0.0.1/24", "fd00::1/64", "10.1.0.1/32"]
    assert (config.listen_port, config.mtu, config.table, config.mark) == (51820, 1380, None, 0x1234)
    assert (config.transport, config.offload, config.nat) == ("tcp", False, "eth0")
    assert str(config.journal) == "/tmp/j.parquet"
    assert str(config.usage_log) == "/tmp/u.jsonl"
    assert config.shaping.padding == Padding("buckets", (128, 512))
    assert (config.shaping.cover_hz, config.shaping.batch_s) == (50, 0.0025)
    assert (config.scrub.timestamps, config.scrub.ip_id, config.scrub.ttl) == (True, "zero", 64)
    (peer,) = config.peers
    assert (peer.public_key, peer.preshared_key) == (PEER, SECRET)
    assert peer.allowed_ips[2] == ipaddress.ip_network("192.168.1.0/24")
    assert peer.endpoint == Endpoint("2001:db8::1", 51820, "tcp")
    assert peer.persistent_keepalive_s == 25


def test_commands_are_reported_and_not_run():
    notes = "\n".join(parse_config(FULL, "wg0").notes)
    for word in ("postup", "predown", "dns", "saveconfig"):
        assert word in notes
    assert "rm -rf" not in notes


def test_defaults_are_plain_wireguard():
    config = parse_config(MINIMAL, "wg0")
    assert (config.listen_port, config.mtu, config.table, config.transport) == (0, 0, 0, "udp")
    assert config.journal is None
    assert config.usage_log is None
    assert not config.scrub.is_on
    assert config.shaping.rule(1420)(100) == 112


def test_a_full_tunnel_has_a_mark():
    peer = f"[Peer]\nPublicKey = {PEER}\nAllowedIPs = "
    assert outer_mark(parse_config(MINIMAL + peer + "0.0.0.0/0", "wg0")) == 51820
    assert outer_mark(parse_config(MINIMAL + peer + "10.0.0.0/8", "wg0")) == 0
    assert outer_mark(parse_config(MINIMAL + "FwMark = 7\n" + peer + "::/0", "wg0")) == 7
    assert outer_mark(parse_config(MINIMAL + "Table = off\n" + peer + "::/0", "wg0")) == 0


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "Interface"),
        ("[Interface]\n", "privatekey"),
        (MINIMAL + MINIMAL, "Interface"),
        (MINIMAL + "[Pear]\n", "Interface"),
        (MINIMAL + "Colour = red\n", "colour"),
        (MINIMAL + "ListenPort = 1\nListenPort = 2\n", "twice"),
        (MINIMAL + "ListenPort = 70000\n", "ListenPort".lower()),
        (MINIMAL + "MTU = 12\n", "mtu"),
        (MINIMAL + "Address = 10.0.0.300\n", "Address"),
        (MINIMAL + "Transport = carrier-pigeon\n", "Transport"),
        (MINIMAL + "Offload = maybe\n", "offload"),
        (MINIMAL + "Pad = 7\n", "Pad"),
        (MINIMAL + "Pad = block:20\n", "Pad"),
        (MINIMAL + "Cover = fast\n", "cover"),
        (MINIMAL + "ScrubIpId = some\n", "ScrubIpId"),
        (MINIMAL + "Table = main\n", "table"),
        (MINIMAL + "[Peer]\nAllowedIPs = 10.0.0.0/8\n", "publickey"),
        (MINIMAL + f"[Peer]\nPublicKey = {PEER}\nAllowedIPs = 10.0.0.0/33\n", "allowedips"),
        (MINIMAL + f"[Peer]\nPublicKey = {PEER}\nEndpoint = 10.0.0.1\n", "Endpoint"),
        (MINIMAL + f"[Peer]\nPublicKey = {PEER}\nEndpoint = no.such.name.invalid:1\n", "Endpoint"),
        (MINIMAL + f"[Peer]\nPublicKey = {PEER}\nPersistentKeepalive = -1\n", "persistentkeepalive"),
        ("PrivateKey = x\n", "line 1"),
    ],
)
def test_errors_say_what_is_wrong(text, word):
    with pytest.raises(TunnelError, match=word):
        parse_config(text, "wg0")


@pytest.mark.parametrize(
    "text",
    [
        f"[Interface]\nPrivateKey {PRIVATE.to_text()}\n",
        f"[Interface]\nPrivateKey = {PRIVATE.to_text()[:-2]}\n",
        f"[Interface]\nPrivateKey = {PRIVATE.to_text()}\nPrivateKey = {PRIVATE.to_text()}\n",
        f"{PRIVATE.to_text()}\n",
        f"[Interface]\n{PRIVATE.to_text()}\n",
        MINIMAL + f"{PRIVATE.to_text()}\n",
        MINIMAL + f"[Peer]\nPublicKey = {PEER}\nPresharedKey = {PRIVATE.to_text()}x\n",
        MINIMAL + f"[Peer]\nPublicKey = {PEER}\nPreshared Key = {PRIVATE.to_text()}\n",
    ],
)
def test_errors_do_not_repeat_secrets(text):
    with pytest.raises(TunnelError) as error:
        parse_config(text, "wg0")
    assert PRIVATE.to_text()[:12].lower() not in str(error.value).lower()


def test_a_config_does_not_show_its_keys():
    shown = repr(parse_config(FULL, "wg0"))
    assert PRIVATE.to_text() not in shown
    assert SECRET.to_text() not in shown


@pytest.mark.parametrize(
    ("interface", "peer"),
    [
        (f"ListenPort = {'9' * 400}", ""),
        ("ListenPort = 51820.7", ""),
        ("MTU = 1e3", ""),
        ("Cover = nan", ""),
        ("BatchMs = -1", ""),
        ("Journal =", ""),
        ("", "PersistentKeepalive = 25.5"),
        ("", "Endpoint = localhost:99999"),  # the resolver would make 34463 of it
        ("", "Endpoint = 192.0.2.1:0"),
        ("", "Endpoint ="),
        ("", "[Peer"),
    ],
)
def test_numbers_that_are_none_and_values_that_are_missing(interface, peer):
    assert parse_config(MINIMAL + f"\n[Peer]\nPublicKey = {PEER}\n", "wg0").peers
    with pytest.raises(TunnelError):
        parse_config(MINIMAL + f"{interface}\n[Peer]\nPublicKey = {PEER}\n{peer}\n", "wg0")


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_clear_error(text):
    with pytest.raises(TunnelError):
        parse_config(text, "wg0")


def test_files_are_read_only_if_private(tmp_path):
    path = tmp_path / "wg7.conf"
    with pytest.raises(TunnelError, match="No such file"):
        read_config(path)
    path.write_text(FULL)
    path.chmod(0o644)
    with pytest.raises(TunnelError, match="chmod 600"):
        read_config(path)
    path.chmod(0o600)
    assert read_config(path).name == "wg7"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TunnelError, match="not text"):
        read_config(path)
