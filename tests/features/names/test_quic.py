import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.names.made import (
    HELLO_FRAME,
    RFC_9001_A2,
    RFC_9369_A2,
    client_hello,
    crypto,
    initial,
    sealed,
)
from vpnforensics.features.names import quic
from vpnforensics.features.names.tls import Found

PADDED = HELLO_FRAME + bytes(917)
HELLO = client_hello(b"split.example", size=1900)


def name_of(*datagrams: bytes) -> Found | None:
    handshake = quic.Handshake()
    for datagram in datagrams:
        handshake.add(datagram)
    return handshake.found()


@pytest.mark.parametrize("vector", [RFC_9001_A2, RFC_9369_A2], ids=["RFC 9001", "RFC 9369"])
def test_the_documents_example(vector):
    packet = sealed(vector["header"], PADDED, vector["keys"])
    assert packet.hex().startswith(vector["begins"])
    assert packet.hex().endswith(vector["ends"]), "the seal of all of the document's packet"
    assert quic.is_initial(packet)
    assert name_of(packet) == Found("example.com")
    assert name_of(packet, packet) == Found("example.com")
    assert name_of(packet[:-1]) is None
    assert name_of(packet[:700] + b"\0" + packet[701:]) is None


def test_a_hello_over_several_frames_and_packets_in_any_order():
    parts = [crypto(at, HELLO[at : at + 7]) for at in range(0, 490, 7)]
    parts += [crypto(at, HELLO[at : at + 490]) for at in range(490, len(HELLO), 490)]
    rng = random.Random(1)
    for _ in range(5):
        rng.shuffle(parts)
        frames = [b"\x01" + b"".join(parts[i::3]) + bytes(8) for i in range(3)]
        packets = [initial(f, number=n) for n, f in enumerate(frames)]
        assert name_of(*packets) == Found("split.example")
        assert name_of(packets[2] + packets[0] + packets[1]) == Found("split.example"), "in one datagram"
    assert name_of(initial(crypto(40, HELLO[40:400]))) == Found(cut=True)


def test_acknowledgements_tokens_and_other_frames():
    ack = b"\x02\x05\x00\x01\x00\x01\x00"
    counted = b"\x03\x05\x00\x00\x00\x01\x02\x03"
    hello = crypto(0, HELLO[:900])
    assert name_of(initial(ack + counted + hello, token=b"t" * 40)) == Found("split.example")
    assert name_of(initial(b"\x1c" + hello)) == Found(cut=True), "frames behind an unknown one have no place"


def test_a_later_packet_under_the_servers_connection_id_opens_with_the_first_keys():
    first = initial(crypto(0, HELLO[:10]))
    header = bytes.fromhex("c300000001") + b"\x04late" + b"\0\0" + (0x4000 | 4 + 804 + 16).to_bytes(2, "big")
    later = sealed(header + b"\0\0\0\x05", crypto(10, HELLO[10:809]), RFC_9001_A2["keys"])
    assert name_of(later) is None
    assert name_of(first, later) == Found("split.example")


def test_a_hello_that_never_ends_is_not_kept():
    handshake = quic.Handshake()
    for n in range(40):
        handshake.add(initial(crypto(n * 1000, bytes(1000)), number=n))
    assert handshake._held_bytes <= quic.MOST_HELLO_BYTES
    assert handshake.found() == Found(cut=True)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_read_or_refused(octets):
    for start in (b"", bytes.fromhex("c0000000010000"), RFC_9001_A2["header"]):
        assert name_of(start + octets) is None
    handshake = quic.Handshake()
    handshake.add(initial(octets + bytes(20)))
    found = handshake.found()
    assert found is None or found.name is None
