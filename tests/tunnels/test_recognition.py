"""Which protocol a conversation is called: crafted captures, and handshakes in every wrapping."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vpnforensics as vf
from tests.tunnels import datagrams
from tests.tunnels.test_find_datagrams import found
from vpnforensics import samples
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.packets.read import read_capture
from vpnforensics.tunnels.find import PROTOCOLS, find_tunnels
from vpnforensics.tunnels.protocol import SURE, Datagrams

CASES = Path(__file__).parents[1] / "cases"
CLIENT = "198.51.100.20"

# What has to be said: protocol, variant, sure, the client's port. Nothing sure may be said of the rest.
RIGHT = {
    "vpn-ike-only": [("ike", "ikev2", False, 500)],
    "vpn-natt-idle-dpd": [("esp", "", True, 4500)],
    "vpn-natt-six-sas": [("esp", "", True, 4500)],
    "vpn-openvpn-cbc-one-way": [("openvpn", "data_v1_cbc", True, 33000)],
    "vpn-openvpn-epoch": [("openvpn", "data_v2_epoch", True, 33000)],
    "vpn-tailscale": [("wireguard", "tailscale", True, 41641)],
    "vpn-warp-reserved": [("wireguard", "reserved_bytes", True, 51820)],
    "vpn-wireguard-204-100": [("wireguard", "handshake", True, 57636)],
    "vpn-wireguard-one-client-three-servers": [("wireguard", "", True, 41641)] * 3,
}
ORDINARY = sorted(path.stem for kind in ("neg", "self") for path in CASES.glob(f"{kind}-*.pcap"))


def tunnels_of(name):
    packets = read_capture(CASES / f"{name}.pcap")
    return find_tunnels(assemble_flows(packets, idle_tcp_s=np.inf, idle_other_s=np.inf)).tunnels


@pytest.mark.parametrize("name", RIGHT)
def test_a_vpn_is_named_with_its_variant_and_its_client(name):
    said = [(t.protocol, t.variant, t.sure, t.client) for t in tunnels_of(name)]
    assert said == [(*what, f"{CLIENT}:{port}") for *what, port in RIGHT[name]]


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_traffic_is_no_vpn_for_sure(name):
    assert not [t for t in tunnels_of(name) if t.sure]


def test_epoch_data_keys_have_their_own_length_map_and_counter():
    packets = read_capture(CASES / "vpn-openvpn-epoch.pcap")
    tunnels = find_tunnels(assemble_flows(packets, idle_tcp_s=np.inf, idle_other_s=np.inf))
    (tunnel,) = tunnels.tunnels
    assert str(tunnel.length_maps[0]) == "P = L + 28"
    for up in (True, False):
        counter = tunnels.records.counter[tunnels.records.up == up]
        assert counter[0] == 1
        assert (np.diff(counter) == 1).all()


def openvpn_control(rng, wrap, hmac=0):
    """The first control packets of a session: resets, acknowledgements, TLS; wrapped as asked."""
    session = {True: rng.bytes(8), False: rng.bytes(8)}
    replay = {True: 0, False: 0}

    def packet(up, opcode, acknowledged, number, content=b""):
        body = bytes([len(acknowledged)]) + b"".join(struct.pack(">I", a) for a in acknowledged)
        body += session[not up] if acknowledged else b""
        body += (b"" if number is None else struct.pack(">I", number)) + content
        replay[up] += 1
        mark = struct.pack(">II", replay[up], 1_800_000_000)
        if wrap == "tls-auth":
            body = rng.bytes(hmac) + mark + body
        elif wrap == "tls-crypt":
            body = mark + rng.bytes(32 + len(body))
        return up, bytes([opcode << 3]) + session[up] + body

    return [
        packet(True, 7, [], 0),
        packet(False, 8, [0], 0),
        packet(True, 5, [0], None),
        packet(True, 4, [], 1, rng.bytes(290)),
        packet(False, 4, [1], 1, rng.bytes(1100)),
        packet(False, 4, [], 2, rng.bytes(1100)),
        packet(True, 5, [1, 2], None),
        packet(True, 4, [], 2, rng.bytes(600)),
        packet(False, 5, [2], None),
    ]


WRAPPED = [
    ("plain", 0),
    ("tls-crypt", 0),
    *(("tls-auth", hmac) for hmac in (16, 20, 28, 32, 48, 64)),
]


@pytest.mark.parametrize(("wrap", "hmac"), WRAPPED)
@pytest.mark.parametrize("seen", ["both sides", "client only", "server only", "four packets"])
def test_an_openvpn_handshake_is_known_from_control_packets_that_fit_together(wrap, hmac, seen):
    packets = openvpn_control(datagrams.rng_of(wrap), wrap, hmac)
    if seen == "four packets":
        packets = packets[:4]
    elif seen != "both sides":
        packets = [p for p in packets if p[0] == (seen == "client only")]
    tunnels = found(packets, 1195).tunnels
    (tunnel,) = tunnels
    assert (tunnel.protocol, tunnel.sure, tunnel.variant) == ("openvpn", True, "")
    assert tunnel.client == "10.0.0.2:40000"


@pytest.mark.parametrize("wrong", ["echo", "numbers", "lengths", "session shared", "key"])
def test_control_packets_that_do_not_fit_together_are_not_openvpn(wrong):
    rng = datagrams.rng_of(wrong)
    packets = openvpn_control(rng, "plain")
    spoiled = []
    for k, (up, data) in enumerate(packets):
        if wrong == "echo" and data[9]:
            at = 10 + 4 * data[9]
            data = data[:at] + rng.bytes(8) + data[at + 8 :]
        elif wrong == "numbers" and not data[9]:
            data = data[:10] + rng.bytes(4) + data[14:]
        elif wrong == "lengths":
            data += rng.bytes(3 + 11 * k)
        elif wrong == "session shared":
            data = data[:1] + packets[0][1][1:9] + data[9:]
        elif wrong == "key":
            data = bytes([data[0] | 3]) + data[1:]
        spoiled.append((up, data))
    assert not [t for t in found(spoiled, 1195).tunnels if t.sure]


def counted(rng, count, head, *, tag=True, sizes=(84, 96, 136, 652, 1412), each=True, sealed=True):
    """Datagrams of both sides: a first part, a big-endian counter, a body."""
    number, out = {True: 5000, False: 90_000}, []
    for k in range(count):
        up = bool(rng.random() < 0.5) if each else True
        number[up] += 1
        size = int(rng.choice(sizes))
        body = rng.bytes(size) if sealed else bytes([k % 3, 0, 7, 1]) * (size // 4)
        out.append((up, head[up] + struct.pack(">I", number[up]) + body))
    return out


@pytest.mark.parametrize(
    ("why", "named"),
    [
        ("", True),
        ("one tag", False),
        ("one size", False),
        ("one way", False),
        ("fields", False),
        ("odd", False),
    ],
)
def test_off_its_port_esp_has_to_show_everything(why, named):
    rng = datagrams.rng_of("esp" + why)
    head = {
        True: b"\xa1\xb2\xc3\xd4",
        False: b"\xa1\xb2\xc3\xd4" if why == "one tag" else b"\x11\x22\x33\x44",
    }
    sizes = (84,) if why == "one size" else (85, 97, 133) if why == "odd" else (84, 96, 136, 652, 1412)
    packets = counted(rng, 80, head, sizes=sizes, each=why != "one way", sealed=why != "fields")
    tunnels = found(packets, 50_000).tunnels
    assert any(t.protocol == "esp" for t in tunnels) == named
    assert not any(t.sure for t in tunnels)


def test_many_associations_a_direction_and_ike_and_keepalives_are_one_ipsec_conversation():
    rng = datagrams.rng_of("many")
    packets = []
    for _ in range(12):
        packets += counted(rng, 8, {True: rng.bytes(4), False: rng.bytes(4)})
        packets += [(True, b"\xff")] * 9
    (tunnel,) = found(packets, 4500).tunnels
    assert (tunnel.protocol, tunnel.sure) == ("esp", True)


def test_ike_of_version_1_is_named_and_its_opener_is_the_client():
    rng = datagrams.rng_of("ikev1")
    mine, peer = rng.bytes(8), rng.bytes(8)

    def main_mode(other, size):
        return mine + other + b"\x01\x10\x02\x00" + bytes(4) + struct.pack(">I", size) + rng.bytes(size - 28)

    packets = [(True, main_mode(bytes(8), 200)), (False, main_mode(peer, 180)), (True, main_mode(peer, 300))]
    (tunnel,) = found(packets, 500).tunnels
    assert (tunnel.protocol, tunnel.variant, tunnel.sure) == ("ike", "ikev1", False)
    assert tunnel.client == "10.0.0.2:40000"


def amnezia(rng, count):
    """Junk, a handshake behind junk, data under first words of its own."""
    word, receiver = b"\x5a\x17\x33\x9c", {True: rng.bytes(4), False: rng.bytes(4)}
    out = [(True, rng.bytes(int(rng.integers(50, 900)))) for _ in range(4)]
    out += [(True, rng.bytes(15 + 148)), (False, rng.bytes(31 + 92))]
    for up, data in datagrams.wireguard(rng, count)[2:]:
        out.append((up, word + receiver[up] + data[8:]))
    return out


def test_amnezia_is_wireguard_by_its_data():
    packets = amnezia(datagrams.rng_of("amnezia"), 120)
    tunnels = found(packets, 33_333)
    (tunnel,) = tunnels.tunnels
    assert (tunnel.protocol, tunnel.variant, tunnel.sure) == ("wireguard", "amnezia", True)
    carrying = [data for _, data in packets[6:] if len(data) > 32]
    assert len(tunnels.records) == len(carrying)
    assert (tunnels.records.counter >= 0).all()


@pytest.mark.parametrize("first", [0, 70_000], ids=["from its start", "mid-session"])
@pytest.mark.parametrize("mark", [0x00, 0xC0], ids=["types plain", "types marked"])
def test_reserved_bytes_may_be_a_clients_number(first, mark):
    number = {True: b"\xb9\x19\x81", False: bytes(3)}  # a server may leave them zero
    packets = [
        (up, bytes([data[0] | mark]) + number[up] + data[4:])
        for up, data in datagrams.wireguard(datagrams.rng_of("warp"), 150, first)
    ]
    tunnels = found(packets, 2408)
    (tunnel,) = tunnels.tunnels
    assert (tunnel.protocol, tunnel.variant, tunnel.sure) == ("wireguard", "reserved_bytes", True)
    assert len(tunnels.records) == 150


def test_reserved_bytes_cost_no_link():
    sample = samples.load("wireguard")
    ingress, egress = vf.read_capture(sample.ingress), vf.read_capture(sample.egress)
    head = ingress.head.copy()
    head[ingress.proto == 17, 1:4] = (0xB9, 0x19, 0x81)
    marked = replace(ingress, head=head)
    found = find_tunnels(assemble_flows(marked, idle_tcp_s=np.inf, idle_other_s=np.inf))
    assert {t.variant for t in found.tunnels} == {"reserved_bytes"}
    case = vf.correlate(marked, egress)
    plain = vf.correlate(ingress, egress)
    assert case.links.to_dict("list") == plain.links.to_dict("list")


# Fields of which made-up protocols consist: what they hold, and how many bytes.
FIELDS = st.tuples(
    st.sampled_from(["const", "shared", "counter", "counter, little", "time", "type", "random", "zero"]),
    st.sampled_from([1, 2, 4, 8]),
)


def made_up(fields, count, port, size_step, seed):
    """Datagrams of a protocol with these header fields, then random bytes."""
    rng = np.random.default_rng(seed)
    up = rng.random(count) < 0.5
    head = rng.integers(0, 256, (count, 96), np.uint8)
    at = 0
    for kind, width in fields:
        column = head[:, at : at + width]
        if kind == "zero":
            column[:] = 0
        elif kind == "type":
            column[:] = rng.choice(rng.integers(0, 256, 3), (count, 1))
        elif kind in ("const", "shared"):
            column[:] = rng.integers(0, 256, width)
            column[up & (kind == "const")] = rng.integers(0, 256, width)
        elif kind != "random":
            step = 160 if kind == "time" else 1
            number = np.where(up, np.cumsum(up), np.cumsum(~up)) * step
            big = number.astype(">u8").view(np.uint8).reshape(count, 8)
            column[:] = big[:, ::-1][:, :width] if kind.endswith("little") else big[:, 8 - width :]
        at += width
    size = rng.integers(3, 60, count) * size_step
    return Datagrams(size.astype(np.int32), np.ascontiguousarray(head[:, :32]), up, 17, (50_000, port))


@given(
    st.lists(FIELDS, max_size=8),
    st.integers(2, 60),
    st.sampled_from([500, 655, 1194, 4242, 4500, 40_000]),
    st.sampled_from([1, 4, 16]),
    st.integers(0, 2**16),
)
def test_recognisers_and_their_records_take_anything(fields, count, port, size_step, seed):
    sample = made_up(fields, count, port, size_step, seed)
    for protocol in PROTOCOLS.values():
        found = protocol.recognise(sample)
        if found is not None:
            assert 0 < found.confidence < 1
            records = protocol.records(sample, found.variant)
            assert len(records.carries) == len(records.counter) == count
            protocol.length_maps(sample, found.variant)


def test_made_up_protocols_are_hardly_ever_a_vpn():
    """Of 3,000 with constants, counters and ciphertext in random places, fewer than one in five hundred."""
    rng = np.random.default_rng(11)
    kinds = ["const", "shared", "counter", "counter, little", "time", "type", "random", "zero"]
    called = 0
    for seed in range(3000):
        fields = [
            (str(rng.choice(kinds)), int(rng.choice([1, 2, 4, 8]))) for _ in range(int(rng.integers(2, 9)))
        ]
        sample = made_up(fields, int(rng.choice([8, 30, 120])), 40_000, int(rng.choice([1, 4, 16])), seed)
        found = [p.recognise(sample) for p in PROTOCOLS.values()]
        called += any(f is not None and f.confidence >= SURE for f in found)
    assert called <= 6
