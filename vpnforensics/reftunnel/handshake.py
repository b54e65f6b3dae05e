"""Noise_IKpsk2: two messages, after which both sides hold the same two transport keys.

Theory of operation (https://www.wireguard.com/papers/wireguard.pdf sections 5.4.1 to 5.4.5,
https://noiseprotocol.org/noise.html section 9.4). Both sides keep a *chaining key* C, into which every
secret is mixed, and a *hash* H over everything said so far, which is authenticated with every sealed field::

    -> e, es, s, ss, {timestamp}      initiation: only the responder can read who is calling
    <- e, ee, se, psk, {}             response: after it, keys depend on both ephemerals

The initiator's timestamp must rise from one initiation to the next, so that a recorded initiation cannot be
replayed to disturb a session. The keys are forward secret: they need an ephemeral key of each side.

Functions here are pure: the ephemeral key and the time are arguments. They raise `RefusedError` with the
reason; nothing in the error depends on key material. Known weakness: CPython big integers and
comparisons promise no constant time; the exchange and the AEAD themselves are OpenSSL's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from vpnforensics.reftunnel.crypto import NotAuthenticError, aead_open, aead_seal, hash_, kdf
from vpnforensics.reftunnel.drops import Drop, RefusedError
from vpnforensics.reftunnel.keys import PresharedKey, PrivateKey, PublicKey
from vpnforensics.reftunnel.wire import Initiation, Response

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"

_INITIAL_CHAIN = hash_(CONSTRUCTION)
_INITIAL_HASH = hash_(_INITIAL_CHAIN, IDENTIFIER)

_TAI64_EPOCH = 0x400000000000000A
_TAI64N = struct.Struct(">QI")
_WHITENING_NS = 0xFFFFFF
TICK_NS = _WHITENING_NS + 1
"""Wall-clock times this far apart have different labels."""


def tai64n(wall_ns: int) -> bytes:
    """TAI64N label of a wall-clock time (https://cr.yp.to/libtai/tai64.html).

    The low 24 bits of the nanoseconds are cleared, as the kernel does: a fine clock in an
    initiation would tell an observer with the responder's key more than the protocol needs.

    Parameters
    ----------
    wall_ns : int
        Nanoseconds since the Unix epoch.

    Returns
    -------
    bytes
        12 bytes that compare as the times do.
    """
    seconds, nanoseconds = divmod(wall_ns, 1_000_000_000)
    return _TAI64N.pack(_TAI64_EPOCH + seconds, nanoseconds & ~_WHITENING_NS)


@dataclass(frozen=True, slots=True)
class TransportKeys:
    """The outcome of a handshake, seen from one side."""

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SentInitiation:
    """What an initiator remembers until the response comes."""

    sender: int
    ephemeral: PrivateKey
    chain: bytes = field(repr=False)
    hash: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReceivedInitiation:
    """What a responder knows after a valid initiation."""

    sender: int
    static: PublicKey
    ephemeral: PublicKey
    timestamp: bytes
    chain: bytes = field(repr=False)
    hash: bytes = field(repr=False)


def _exchange(private: PrivateKey, public: PublicKey) -> bytes:
    try:
        return private.exchange(public)
    except ValueError:
        # A small-order public key: the "secret" would be known to everybody.
        raise RefusedError(Drop.NOT_AUTHENTIC) from None


def _open(key: bytes, sealed: bytes, hash_so_far: bytes) -> bytes:
    try:
        return aead_open(key, sealed, hash_so_far)
    except NotAuthenticError:
        raise RefusedError(Drop.NOT_AUTHENTIC) from None


def create_initiation(
    static: PrivateKey, responder: PublicKey, sender: int, timestamp: bytes, ephemeral: PrivateKey
) -> tuple[bytes, SentInitiation]:
    """First message, as the initiator writes it.

    Parameters
    ----------
    static : PrivateKey
        The initiator's long-term key.
    responder : PublicKey
        Whom to call.
    sender : int
        Index by which the responder will address this session, 32 bits.
    timestamp : bytes
        TAI64N label, greater than that of every earlier initiation.
    ephemeral : PrivateKey
        A key made for this message only.

    Returns
    -------
    bytes
        116 bytes, to which the MACs are to be added.
    SentInitiation
        State for `consume_response`.
    """
    hash_now = hash_(_INITIAL_HASH, responder.raw)
    (chain,) = kdf(_INITIAL_CHAIN, ephemeral.public.raw, 1)
    hash_now = hash_(hash_now, ephemeral.public.raw)
    chain, key = kdf(chain, _exchange(ephemeral, responder), 2)
    sealed_static = aead_seal(key, static.public.raw, hash_now)
    hash_now = hash_(hash_now, sealed_static)
    chain, key = kdf(chain, _exchange(static, responder), 2)
    sealed_timestamp = aead_seal(key, timestamp, hash_now)
    hash_now = hash_(hash_now, sealed_timestamp)
    message = Initiation(sender, ephemeral.public.raw, sealed_static, sealed_timestamp).pack()
    return message, SentInitiation(sender, ephemeral, chain, hash_now)


def consume_initiation(
    static: PrivateKey, message: bytes, is_known: Callable[[PublicKey], bool]
) -> ReceivedInitiation:
    """First message, as the responder reads it.

    Parameters
    ----------
    static : PrivateKey
        The responder's long-term key.
    message : bytes
        An initiation, with or without its MACs.
    is_known : callable
        Whether a public key belongs to a peer; asked before the second exchange, so that a stranger
        costs one exchange and not two.

    Raises
    ------
    RefusedError
        ``NOT_AUTHENTIC``, ``UNKNOWN_PEER`` or ``MALFORMED``.
    """
    fields = Initiation.unpack(message)
    ephemeral = PublicKey(fields.ephemeral)
    hash_now = hash_(_INITIAL_HASH, static.public.raw)
    (chain,) = kdf(_INITIAL_CHAIN, ephemeral.raw, 1)
    hash_now = hash_(hash_now, ephemeral.raw)
    chain, key = kdf(chain, _exchange(static, ephemeral), 2)
    initiator = PublicKey(_open(key, fields.sealed_static, hash_now))
    if not is_known(initiator):
        raise RefusedError(Drop.UNKNOWN_PEER)
    hash_now = hash_(hash_now, fields.sealed_static)
    chain, key = kdf(chain, _exchange(static, initiator), 2)
    timestamp = _open(key, fields.sealed_timestamp, hash_now)
    hash_now = hash_(hash_now, fields.sealed_timestamp)
    return ReceivedInitiation(fields.sender, initiator, ephemeral, timestamp, chain, hash_now)


def create_response(
    received: ReceivedInitiation, preshared: PresharedKey, sender: int, ephemeral: PrivateKey
) -> tuple[bytes, TransportKeys]:
    """Second message, as the responder writes it, and the responder's keys."""
    (chain,) = kdf(received.chain, ephemeral.public.raw, 1)
    hash_now = hash_(received.hash, ephemeral.public.raw)
    (chain,) = kdf(chain, _exchange(ephemeral, received.ephemeral), 1)
    (chain,) = kdf(chain, _exchange(ephemeral, received.static), 1)
    chain, temporary, key = kdf(chain, preshared.reveal(), 3)
    hash_now = hash_(hash_now, temporary)
    sealed_nothing = aead_seal(key, b"", hash_now)
    message = Response(sender, received.sender, ephemeral.public.raw, sealed_nothing).pack()
    initiator_sends, responder_sends = kdf(chain, b"", 2)
    return message, TransportKeys(send=responder_sends, receive=initiator_sends)


def consume_response(
    sent: SentInitiation, message: bytes, static: PrivateKey, preshared: PresharedKey
) -> tuple[int, TransportKeys]:
    """Second message, as the initiator reads it.

    Returns
    -------
    int
        Index by which the responder wants to be addressed.
    TransportKeys
        The initiator's keys.

    Raises
    ------
    RefusedError
        ``NOT_AUTHENTIC`` or ``MALFORMED``; the handshake then goes on waiting.
    """
    fields = Response.unpack(message)
    ephemeral = PublicKey(fields.ephemeral)
    (chain,) = kdf(sent.chain, ephemeral.raw, 1)
    hash_now = hash_(sent.hash, ephemeral.raw)
    (chain,) = kdf(chain, _exchange(sent.ephemeral, ephemeral), 1)
    (chain,) = kdf(chain, _exchange(static, ephemeral), 1)
    chain, temporary, key = kdf(chain, preshared.reveal(), 3)
    hash_now = hash_(hash_now, temporary)
    _open(key, fields.sealed_nothing, hash_now)
    initiator_sends, responder_sends = kdf(chain, b"", 2)
    return fields.sender, TransportKeys(send=initiator_sends, receive=responder_sends)
