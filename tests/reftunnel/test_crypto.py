import hashlib
import hmac

import pytest

from vpnforensics.reftunnel import crypto


def test_hash_is_blake2s_256_of_rfc_7693():
    # RFC 7693, appendix B: BLAKE2s-256("abc")
    expected = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert crypto.hash_(b"a", b"bc").hex() == expected


def test_hkdf_is_the_textbook_construction():
    key, material = b"k" * 32, b"m" * 32
    secret = hmac.new(key, material, hashlib.blake2s).digest()
    first = hmac.new(secret, b"\1", hashlib.blake2s).digest()
    second = hmac.new(secret, first + b"\2", hashlib.blake2s).digest()
    third = hmac.new(secret, second + b"\3", hashlib.blake2s).digest()
    assert crypto.kdf(key, material, 3) == [first, second, third]
    assert crypto.kdf(key, material, 1) == [first]


def test_nonce_is_four_zeros_and_a_little_endian_counter():
    assert crypto.pack_nonce(0x0102030405060708) == b"\0\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01"


def test_xchacha20_poly1305_of_the_draft():
    # https://datatracker.ietf.org/doc/html/draft-irtf-cfrg-xchacha-03#appendix-A.3.1
    key = bytes(range(0x80, 0xA0))
    nonce = bytes(range(0x40, 0x58))
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    plain = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealed = crypto.xaead_seal(key, nonce, plain, associated)
    assert sealed[:16].hex() == "bd6d179d3e83d43b9576579493c0e939"
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"
    assert crypto.xaead_open(key, nonce, sealed, associated) == plain


@pytest.mark.parametrize("position", [0, 5, 20])
def test_a_flipped_bit_is_not_authentic(position):
    sealed = bytearray(crypto.aead_seal(b"k" * 32, b"plain", b"ad"))
    sealed[position] ^= 1
    with pytest.raises(crypto.NotAuthenticError):
        crypto.aead_open(b"k" * 32, bytes(sealed), b"ad")
    sealed = bytearray(crypto.xaead_seal(b"k" * 32, b"n" * 24, b"plain", b"ad"))
    sealed[position] ^= 1
    with pytest.raises(crypto.NotAuthenticError):
        crypto.xaead_open(b"k" * 32, b"n" * 24, bytes(sealed), b"ad")
