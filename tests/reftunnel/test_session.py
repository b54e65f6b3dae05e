import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.reftunnel.crypto import pack_nonce
from vpnforensics.reftunnel.drops import Drop, RefusedError
from vpnforensics.reftunnel.handshake import TransportKeys
from vpnforensics.reftunnel.keys import PrivateKey
from vpnforensics.reftunnel.peers import PeerConfig, make_peer
from vpnforensics.reftunnel.session import REJECT_AFTER_MESSAGES, Session

PEER = make_peer(PeerConfig(PrivateKey(b"p" * 32).public), 0, PrivateKey(b"o" * 32).public)


def two_ends():
    a, b = b"a" * 32, b"b" * 32
    common = {"local_index": 1, "remote_index": 2, "is_initiator": True, "created_at": 0.0}
    return Session(PEER, TransportKeys(a, b), **common), Session(PEER, TransportKeys(b, a), **common)


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_what_is_sealed_opens_once(packets):
    sender, receiver = two_ends()
    messages = [sender.seal(packet) for packet in packets]
    assert [receiver.open(message) for message in messages] == packets
    for message in messages:
        with pytest.raises(RefusedError) as refusal:
            receiver.open(message)
        assert refusal.value.reason is Drop.REPLAY


def test_the_wire_form_is_type_receiver_counter():
    sender, _ = two_ends()
    sender.seal(b"")
    message = sender.seal(b"x" * 16)
    assert message[:16] == bytes.fromhex("04000000 02000000 0100000000000000")
    assert len(message) == 16 + 16 + 16


@given(st.integers(8 * 8, 48 * 8 - 1))
def test_a_flipped_bit_is_refused_and_moves_nothing(bit):
    sender, receiver = two_ends()
    message = sender.seal(b"x" * 16)
    damaged = bytearray(message)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RefusedError) as refusal:
        receiver.open(bytes(damaged))
    assert refusal.value.reason in (Drop.NOT_AUTHENTIC, Drop.COUNTER_EXHAUSTED)
    assert receiver.open(message) == b"x" * 16


@given(st.integers(0, 47))
def test_a_truncated_message_is_refused(size):
    sender, receiver = two_ends()
    with pytest.raises(RefusedError):
        receiver.open(sender.seal(b"x" * 16)[:size])


def test_the_counter_cannot_wrap():
    sender, receiver = two_ends()
    sender.sent = REJECT_AFTER_MESSAGES - 1
    receiver.open(sender.seal(b"last"))
    with pytest.raises(RefusedError) as refusal:
        sender.seal(b"one too many")
    assert refusal.value.reason is Drop.COUNTER_EXHAUSTED
    with pytest.raises(RefusedError):
        sender.reserve(1)
    sender.sent = REJECT_AFTER_MESSAGES - 5
    assert sender.reserve(5) == REJECT_AFTER_MESSAGES - 5
    forged = bytes.fromhex("0400000002000000") + REJECT_AFTER_MESSAGES.to_bytes(8, "little") + bytes(16)
    with pytest.raises(RefusedError) as refusal:
        receiver.open(forged)
    assert refusal.value.reason is Drop.COUNTER_EXHAUSTED


def test_bulk_sealing_is_the_same_cipher():
    sender, receiver = two_ends()
    out = bytearray(32)
    sender.seal_into(pack_nonce(sender.reserve(1)), b"y" * 16, None, out)
    assert receiver.open(bytes.fromhex("04000000 02000000 0000000000000000") + out) == b"y" * 16


def test_repr_has_no_key():
    sender, _ = two_ends()
    assert repr(sender) == "Session(00000001->00000002, sent=0)"
