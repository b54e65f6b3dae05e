"""PPP in GRE (PPTP) and in UDP (L2TP), what its frames carry, and what only looks like them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from tests.tunnels.streams import CLIENT, Talk
from vpnforensics.features.counter_advance import advances
from vpnforensics.tunnels import l2tp, pptp
from vpnforensics.tunnels.find import find_tunnels
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import Datagrams

SERVER = ("10.0.0.1", 1723)
INNER = (40, 52, 60, 120, 576, 1380)
CALL = {True: 6248, False: 128}  # the receiver's
LCP_ECHO = b"\xff\x03\xc0\x21\x09\0\0\x08" + bytes(4)


def mppe(rng, inner, count, *, address=b"", protocol=b"\xfd", inner_protocol_bytes=2, bits=0x9000):
    """A sealed frame: count and flags, then ciphertext."""
    sealed = rng.bytes(inner_protocol_bytes + inner)
    return address + protocol + struct.pack(">H", bits | count & 0xFFF) + sealed


def gre(up, frame, sequence, ack=None, *, flags=0x2001, kind=0x880B, call=None):
    """An enhanced GRE header (RFC 2637, 4.1) and its payload."""
    flags |= 0x1000 if frame else 0
    flags |= 0x0080 if ack is not None else 0
    head = struct.pack(">HHHH", flags, kind, len(frame), CALL[up] if call is None else call)
    head += struct.pack(">I", sequence) if frame else b""
    head += struct.pack(">I", ack) if ack is not None else b""
    return head + frame


def call_of(rng, count, frame_of, first=0):
    """GRE packets of a call, and the inner length of each: acknowledgements on some, alone and with data."""
    number, out = {True: first + 1, False: first}, [(True, gre(True, LCP_ECHO, first), 0)]
    for k in range(count):
        up = bool(rng.random() < 0.5)
        inner = int(rng.choice(INNER))
        ack = number[not up] if rng.random() < 0.4 else None
        frame = frame_of(inner, number[up])
        out.append((up, gre(up, frame, number[up], ack), inner))
        number[up] += 1
        if k % 7 == 3:
            out.append((up, gre(up, b"", 0, number[not up]), 0))
        if k % 40 == 20:
            out.append((up, gre(up, LCP_ECHO, number[up]), 0))
            number[up] += 1
    return out


def talk_of(packets, talk=None, **ends):
    talk = talk or Talk()
    for up, data, *_ in packets:
        talk.gre(up, data, **ends)
    return talk


FORMS = {
    "short": ({}, "mppe", 2),
    "long": ({"address": b"\xff\x03", "protocol": b"\0\xfd"}, "mppe", 2),
    "half": ({"address": b"\xff\x03"}, "mppe", 2),
    "short inside": ({"inner_protocol_bytes": 1}, "mppe", 1),
}


@pytest.mark.parametrize("first", [0, 70_000], ids=["from its start", "mid-call"])
@pytest.mark.parametrize("form", FORMS)
def test_pptp_is_known_and_its_records_have_the_length_of_what_is_sealed(form, first):
    how, variant, overhead = FORMS[form]
    rng = np.random.default_rng(1)
    packets = call_of(rng, 200, lambda inner, n: mppe(rng, inner, n, **how), first)
    tunnels = find_tunnels(talk_of(packets).from_table())
    (tunnel,) = tunnels.tunnels
    assert (tunnel.protocol, tunnel.variant, tunnel.sure, tunnel.transport) == ("pptp", variant, True, "gre")
    assert tunnel.client == "10.0.0.2:0"
    assert LengthMap(overhead) in tunnel.length_maps
    inner = np.array([n for *_, n in packets if n])
    assert tunnels.records.size.tolist() == (inner + overhead).tolist()


def test_the_counter_is_the_sequence_number_and_holes_are_lost_packets():
    rng = np.random.default_rng(2)
    packets = call_of(rng, 300, lambda inner, n: mppe(rng, inner, n))
    kept = [p for k, p in enumerate(packets) if k % 50 != 30]
    found = advances(find_tunnels(talk_of(kept).from_table()))
    sent = {up: [p for p in packets if p[0] == up and p[1][0] & 0x10] for up in (True, False)}
    for up in (True, False):
        assert abs(int(found.of(0, up)[1][-1]) - len(sent[up])) <= 2


def test_clear_ppp_is_named_so_and_has_the_packets_own_length():
    rng = np.random.default_rng(3)
    packets = call_of(rng, 60, lambda inner, n: b"\xff\x03\0\x21" + rng.bytes(inner))
    tunnels = find_tunnels(talk_of(packets).from_table())
    (tunnel,) = tunnels.tunnels
    assert (tunnel.variant, tunnel.length_maps) == ("clear", (LengthMap(0),))
    assert tunnels.records.size.tolist() == [n for *_, n in packets if n]


def test_of_what_mppc_compressed_no_length_is_known():
    rng = np.random.default_rng(4)
    packets = call_of(rng, 60, lambda inner, n: mppe(rng, inner // 2, n, bits=0xB000))
    (tunnel,) = find_tunnels(talk_of(packets).from_table()).tunnels
    assert (tunnel.variant, tunnel.length_maps) == ("mppc", ())


def test_the_first_of_fragments_has_the_whole_packets_length_and_the_others_none():
    rng = np.random.default_rng(5)
    packets = call_of(rng, 40, lambda inner, n: mppe(rng, inner, n))
    talk = talk_of(packets)
    whole = gre(True, mppe(rng, 1480, 41), 500)
    talk.gre(True, whole[:1480], frag=1)
    talk.gre(True, whole[1480:], frag=2)
    records = find_tunnels(talk.from_table()).records
    assert records.size[-1] == 1480 + 2
    assert len(records) == len([p for p in packets if p[2]]) + 1


@pytest.mark.parametrize("server_first", [False, True])
@pytest.mark.parametrize("control", [False, True])
def test_who_calls_is_the_client_and_the_control_connection_is_the_other_half(server_first, control):
    rng = np.random.default_rng(6)
    packets = call_of(rng, 60, lambda inner, n: mppe(rng, inner, n))
    talk = Talk()
    if control:
        talk.syn(client=(CLIENT[0], 50000), server=SERVER)
    up = not server_first
    talk_of([(up, gre(up, LCP_ECHO, 0)), *packets[1:]], talk)
    conversations = talk.from_table()
    (tunnel,) = find_tunnels(conversations).tunnels
    if control or not server_first:  # without either nothing tells one host from the other
        assert (tunnel.client, tunnel.server) == ("10.0.0.2:0", "10.0.0.1:0")
    beside = [conversations.destination(number) for number in tunnel.beside]
    assert beside == (["10.0.0.1:1723"] if control else [])


def test_the_control_connection_turns_a_tunnel_whose_server_is_the_opener_of_others():
    """The server opens to many hosts, so that flows of its address point the other way."""
    rng = np.random.default_rng(7)
    packets = call_of(rng, 60, lambda inner, n: mppe(rng, inner, n))
    talk = Talk()
    for n in range(5):
        talk.syn(client=(SERVER[0], 41000 + n), server=(f"10.9.0.{n}", 443))
    talk.syn(client=(CLIENT[0], 50000), server=SERVER)
    talk_of([(False, gre(False, LCP_ECHO, 0)), *packets[1:]], talk)
    (tunnel,) = find_tunnels(talk.from_table()).tunnels
    assert (tunnel.client, tunnel.server) == ("10.0.0.2:0", "10.0.0.1:0")
    assert tunnel.packets_up == sum(up for up, *_ in packets[1:])


def plain_gre(rng, head):
    return [(k % 3 > 0, head(k) + rng.bytes(int(rng.choice(INNER)))) for k in range(120)]


LOOK_ALIKES = {
    "GRE of IPv4": lambda k: b"\0\0\x08\0E\0",
    "GRE with key and sequence": lambda k: b"\x30\0\x08\0\0\0\0\7" + struct.pack(">I", k) + b"E\0",
    "NVGRE": lambda k: b"\x20\0\x65\x58\0\x2a\0\0",
    "ERSPAN I": lambda k: b"\0\0\x88\xbe",
    "ERSPAN II": lambda k: b"\x10\0\x88\xbe" + struct.pack(">II", k, 0x10010064),
    "ERSPAN III": lambda k: b"\x10\0\x22\xeb" + struct.pack(">II", k, 0x20010064),
    "EoIP": lambda k: b"\x20\x01\x64\0\x05\x6e\x2a\0",
    "version 1 of another type": lambda k: b"\x30\x01\x08\0\0\x20\0\7" + struct.pack(">I", k),
    "version 0 of PPP": lambda k: b"\x30\0\x88\x0b\0\x20\0\7" + struct.pack(">I", k),
    "a length that is too short": lambda k: b"\x30\x01\x88\x0b\0\x04\0\7" + struct.pack(">I", k),
    "a sequence without payload": lambda k: b"\x30\x01\x88\x0b\0\0\0\7" + struct.pack(">I", k),
    "reserved flags": lambda k: b"\x31\x01\x88\x0b\x7f\xff\0\7" + struct.pack(">I", k),
    "nothing": lambda k: b"",
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_other_gre_is_no_pptp(name):
    rng = np.random.default_rng(8)
    talk = talk_of(plain_gre(rng, LOOK_ALIKES[name]))
    talk.syn(client=(CLIENT[0], 50000), server=SERVER)  # beside a control connection, too
    assert find_tunnels(talk.from_table()).tunnels == ()


def test_two_clients_that_call_one_server_are_two_tunnels():
    rng = np.random.default_rng(9)
    talk = Talk()
    for host in ("10.0.0.2", "10.0.0.3"):
        packets = call_of(rng, 50, lambda inner, n: mppe(rng, inner, n))
        talk_of(packets, talk, client=(host, 0))
    found = find_tunnels(talk.from_table())
    assert [t.client for t in found.tunnels] == ["10.0.0.2:0", "10.0.0.3:0"]
    assert np.bincount(found.records.tunnel).tolist() == [50, 50]


def data_message(up, frame, *, flags=0x0002, session=1):
    head = struct.pack(">H", flags)
    head += struct.pack(">H", 8 + len(frame)) if flags & 0x4000 else b""
    return head + struct.pack(">HH", 7 if up else 9, session) + frame


def control(number):
    up = number % 2 == 0
    avp = b"\x80\x08\0\0\0\0\0\1"
    return up, struct.pack(">HHHHHH", 0xC802, 20, 9 - 2 * up, 0, number // 2, number // 2) + avp


def l2tp_talk(rng, frame_of, *, flags=0x0002, port=1701, controls=4):
    talk, inner = Talk(), []
    messages = [control(n) for n in range(controls)]
    for k in range(100):
        size = int(rng.choice(INNER))
        inner.append(size)
        up = bool(rng.random() < 0.5)
        messages.append((up, data_message(up, frame_of(size, k), flags=flags)))
    for up, data in messages:
        talk.datagram(up, data, server=("10.0.0.1", port))
    return talk, inner


@pytest.mark.parametrize(("flags", "header"), [(0x0002, 6), (0x4002, 8)])
def test_l2tp_is_named_and_sure_where_mppe_seals_it(flags, header):
    rng = np.random.default_rng(10)
    for frame_of, variant, sure, more in (
        (lambda n, k: mppe(rng, n, k), "mppe", True, 5),
        (lambda n, k: b"\xff\x03\0\x21" + rng.bytes(n), "clear", False, 4),
    ):
        talk, inner = l2tp_talk(rng, frame_of, flags=flags)
        found = find_tunnels(talk.from_table())
        (tunnel,) = found.tunnels
        assert (tunnel.protocol, tunnel.variant, tunnel.sure) == ("l2tp", variant, sure)
        assert tunnel.length_maps[0] == LengthMap(header + more)
        assert found.records.size.tolist() == [n + header + more for n in inner]


def test_off_its_port_l2tp_is_known_by_its_control_messages_alone():
    rng = np.random.default_rng(11)
    for controls, named in ((4, True), (0, False)):
        talk, _ = l2tp_talk(rng, lambda n, k: mppe(rng, n, k), port=5000, controls=controls)
        assert [t.protocol == "l2tp" for t in find_tunnels(talk.from_table()).tunnels] == [named]


@pytest.mark.parametrize(
    "head",
    [
        b"\xc8\x03\0\x40\0\0\0\0",  # L2TPv3
        b"\x00\x02\0\7\0\1\x12\x34",  # PPP of no protocol that VPNs send
        b"\x10\x02\0\7\0\1\xff\x03\0\x21",  # reserved bits
    ],
)
def test_what_is_no_l2tp_is_none_on_its_port(head):
    rng = np.random.default_rng(12)
    talk = Talk()
    for k in range(80):
        talk.datagram(k % 2 == 0, head + rng.bytes(60), server=("10.0.0.1", 1701))
    assert not [t for t in find_tunnels(talk.from_table()).tunnels if t.protocol == "l2tp"]


def test_many_tunnel_ids_are_no_tunnel():
    rng = np.random.default_rng(13)
    talk = Talk()
    for k in range(80):
        frame = mppe(rng, 60, k)
        data = struct.pack(">HHH", 0x0002, k, 1) + frame
        talk.datagram(k % 2 == 0, data, server=("10.0.0.1", 1701))
    assert not [t for t in find_tunnels(talk.from_table()).tunnels if t.protocol == "l2tp"]


@pytest.mark.parametrize("module", [pptp, l2tp])
def test_heads_cut_to_nothing_carry_nothing(module):
    proto = 47 if module is pptp else 17
    size, up = np.full(9, 90, np.int32), np.arange(9) % 2 == 0
    cut = Datagrams(size, np.zeros((9, 32), np.uint8), up, proto, (0, 0))
    assert module.recognise(cut) is None
    assert not module.records(cut, "").carries.any()
