"""The handshake against itself, against another Noise implementation, and against damage."""

import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from vpnforensics.reftunnel import handshake
from vpnforensics.reftunnel.crypto import pack_nonce
from vpnforensics.reftunnel.drops import Drop, RefusedError
from vpnforensics.reftunnel.keys import PresharedKey, PrivateKey, PublicKey
from vpnforensics.reftunnel.wire import Initiation, Response

INITIATOR, RESPONDER = PrivateKey(b"i" * 32), PrivateKey(b"r" * 32)
EPHEMERAL_I, EPHEMERAL_R = PrivateKey(b"x" * 32), PrivateKey(b"y" * 32)
PRESHARED = PresharedKey(b"p" * 32)
STAMP = handshake.tai64n(1_700_000_000_123_456_789)


def whole_handshake(preshared_i=PRESHARED, preshared_r=PRESHARED):
    message, sent = handshake.create_initiation(INITIATOR, RESPONDER.public, 11, STAMP, EPHEMERAL_I)
    received = handshake.consume_initiation(RESPONDER, message, lambda key: key == INITIATOR.public)
    answer, responder_keys = handshake.create_response(received, preshared_r, 22, EPHEMERAL_R)
    remote, initiator_keys = handshake.consume_response(sent, answer, INITIATOR, preshared_i)
    return message, received, answer, remote, initiator_keys, responder_keys


def test_both_sides_derive_the_same_keys():
    _, received, _, remote, initiator, responder = whole_handshake()
    assert (received.static, received.sender, received.timestamp) == (INITIATOR.public, 11, STAMP)
    assert remote == 22
    assert (initiator.send, initiator.receive) == (responder.receive, responder.send)
    assert initiator.send != initiator.receive


def noise(role_is_initiator, preshared):
    """The same pattern in the `noiseprotocol` package, which knows nothing of WireGuard."""
    connection = NoiseConnection.from_name(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    connection.set_prologue(handshake.IDENTIFIER)
    connection.set_psks(preshared.reveal())
    if role_is_initiator:
        connection.set_as_initiator()
        connection.set_keypair_from_private_bytes(Keypair.STATIC, INITIATOR.reveal())
        connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, RESPONDER.public.raw)
    else:
        connection.set_as_responder()
        connection.set_keypair_from_private_bytes(Keypair.STATIC, RESPONDER.reveal())
    connection.start_handshake()
    return connection


@pytest.mark.parametrize("preshared", [PRESHARED, PresharedKey(bytes(32))])
def test_our_initiator_talks_to_another_implementation(preshared):
    oracle = noise(False, preshared)
    message, sent = handshake.create_initiation(INITIATOR, RESPONDER.public, 11, STAMP, EPHEMERAL_I)
    assert bytes(oracle.read_message(message[8:])) == STAMP
    answer = struct.pack("<III", 2, 22, 11) + bytes(oracle.write_message(b""))
    remote, keys = handshake.consume_response(sent, answer, INITIATOR, preshared)
    assert remote == 22
    sealed = ChaCha20Poly1305(keys.send).encrypt(pack_nonce(0), b"up", None)
    assert bytes(oracle.decrypt(sealed)) == b"up"
    answer = bytes(oracle.encrypt(b"down"))
    assert ChaCha20Poly1305(keys.receive).decrypt(pack_nonce(0), answer, None) == b"down"


@pytest.mark.parametrize("preshared", [PRESHARED, PresharedKey(bytes(32))])
def test_our_responder_talks_to_another_implementation(preshared):
    oracle = noise(True, preshared)
    message = struct.pack("<II", 1, 11) + bytes(oracle.write_message(STAMP))
    received = handshake.consume_initiation(RESPONDER, message, lambda _: True)
    assert received.timestamp == STAMP
    answer, keys = handshake.create_response(received, preshared, 22, EPHEMERAL_R)
    assert bytes(oracle.read_message(answer[12:])) == b""
    sealed = bytes(oracle.encrypt(b"up"))
    assert ChaCha20Poly1305(keys.receive).decrypt(pack_nonce(0), sealed, None) == b"up"


def test_different_preshared_keys_do_not_agree():
    with pytest.raises(RefusedError) as refusal:
        whole_handshake(PRESHARED, PresharedKey(b"q" * 32))
    assert refusal.value.reason is Drop.NOT_AUTHENTIC


def test_a_stranger_is_unknown():
    message, _ = handshake.create_initiation(INITIATOR, RESPONDER.public, 11, STAMP, EPHEMERAL_I)
    with pytest.raises(RefusedError) as refusal:
        handshake.consume_initiation(RESPONDER, message, lambda _: False)
    assert refusal.value.reason is Drop.UNKNOWN_PEER


@given(st.integers(64, 116 * 8 - 1))
def test_a_flipped_bit_in_an_initiation_is_refused(bit):
    message, _ = handshake.create_initiation(INITIATOR, RESPONDER.public, 11, STAMP, EPHEMERAL_I)
    damaged = bytearray(message)
    damaged[bit // 8] ^= 1 << bit % 8
    # X25519 ignores the top bit of a public key; Noise hashes the bytes, so it is caught all the same.
    with pytest.raises(RefusedError):
        handshake.consume_initiation(RESPONDER, bytes(damaged), lambda _: True)


@given(st.integers(96, 60 * 8 - 1))
def test_a_flipped_bit_in_a_response_is_refused(bit):
    message, sent = handshake.create_initiation(INITIATOR, RESPONDER.public, 11, STAMP, EPHEMERAL_I)
    received = handshake.consume_initiation(RESPONDER, message, lambda _: True)
    answer, _ = handshake.create_response(received, PRESHARED, 22, EPHEMERAL_R)
    damaged = bytearray(answer)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RefusedError):
        handshake.consume_response(sent, bytes(damaged), INITIATOR, PRESHARED)


@given(st.binary(max_size=160))
def test_rubbish_raises_nothing_but_a_refusal(rubbish):
    _, sent = handshake.create_initiation(INITIATOR, RESPONDER.public, 11, STAMP, EPHEMERAL_I)
    with pytest.raises(RefusedError):
        handshake.consume_initiation(RESPONDER, rubbish, lambda _: True)
    with pytest.raises(RefusedError):
        handshake.consume_response(sent, rubbish, INITIATOR, PRESHARED)


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)])
def test_small_order_points_are_refused(point):
    message = Initiation(11, point, bytes(48), bytes(28)).pack()
    with pytest.raises(RefusedError) as refusal:
        handshake.consume_initiation(RESPONDER, message, lambda _: True)
    assert refusal.value.reason is Drop.NOT_AUTHENTIC
    _, sent = handshake.create_initiation(INITIATOR, RESPONDER.public, 11, STAMP, EPHEMERAL_I)
    with pytest.raises(RefusedError):
        handshake.consume_response(sent, Response(22, 11, point, bytes(16)).pack(), INITIATOR, PRESHARED)


def test_tai64n_is_ordered_and_whitened():
    assert handshake.tai64n(0) == bytes.fromhex("400000000000000a00000000")
    stamps = [handshake.tai64n(second * 10**9 + 999_999_999) for second in range(100)]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) == 100
    assert handshake.tai64n(1_000_000_000)[8:] == handshake.tai64n(1_000_000_001)[8:]


def test_states_do_not_show_secrets():
    _, _, _, _, keys, _ = whole_handshake()
    _, sent = handshake.create_initiation(INITIATOR, RESPONDER.public, 11, STAMP, EPHEMERAL_I)
    shown = repr(keys) + repr(sent)
    assert repr(keys.send) not in shown
    assert repr(sent.chain) not in shown
    assert "PrivateKey(hidden)" in shown
    assert PublicKey(b"a" * 32) != INITIATOR.public
