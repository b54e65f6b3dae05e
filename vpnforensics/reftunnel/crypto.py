"""The primitives of the protocol, each a thin name over a library.

Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s needs: BLAKE2s as hash and as keyed MAC (RFC 7693), HKDF over
HMAC-BLAKE2s (RFC 5869, Noise section 4.3), ChaCha20-Poly1305 (RFC 8439) with a 64-bit little-endian
counter, and XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) for cookies. Names as in section 5.4 of
https://www.wireguard.com/papers/wireguard.pdf.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

HASH_BYTES = 32
TAG_BYTES = 16
NONCE_24_BYTES = 24

pack_nonce = struct.Struct("<4xQ").pack
"""96-bit AEAD nonce of a 64-bit counter: four zero bytes, then the counter, little-endian."""

_COUNTER_0 = pack_nonce(0)


class NotAuthenticError(Exception):
    """An AEAD tag does not verify."""


def hash_(*parts: bytes) -> bytes:
    """BLAKE2s-256 over the concatenated parts."""
    return hashlib.blake2s(b"".join(parts)).digest()


def mac(key: bytes, data: bytes | memoryview) -> bytes:
    """Keyed BLAKE2s with a 16-byte output."""
    return hashlib.blake2s(data, key=key, digest_size=16).digest()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.blake2s).digest()


def kdf(key: bytes, material: bytes, count: int) -> list[bytes]:
    """HKDF with HMAC-BLAKE2s, as Noise uses it.

    Parameters
    ----------
    key : bytes
        The chaining key (HKDF salt).
    material : bytes
        Input key material.
    count : int
        How many 32-byte outputs, 1 to 3.

    Returns
    -------
    list of bytes
        `count` keys.
    """
    secret = _hmac(key, material)
    outputs: list[bytes] = []
    previous = b""
    for number in range(1, count + 1):
        previous = _hmac(secret, previous + bytes((number,)))
        outputs.append(previous)
    return outputs


def aead_seal(key: bytes, plain: bytes, associated: bytes) -> bytes:
    """ChaCha20-Poly1305 with counter 0: each handshake key seals one thing only."""
    return ChaCha20Poly1305(key).encrypt(_COUNTER_0, plain, associated)


def aead_open(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """Inverse of `aead_seal`.

    Raises
    ------
    NotAuthenticError
        The tag does not verify.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(_COUNTER_0, sealed, associated)
    except InvalidTag:
        raise NotAuthenticError from None


def xaead_seal(key: bytes, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
    """XChaCha20-Poly1305 with a 24-byte nonce."""
    return crypto_aead_xchacha20poly1305_ietf_encrypt(plain, associated, nonce, key)


def xaead_open(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    """Inverse of `xaead_seal`.

    Raises
    ------
    NotAuthenticError
        The tag does not verify.
    """
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, associated, nonce, key)
    except CryptoError:
        raise NotAuthenticError from None
