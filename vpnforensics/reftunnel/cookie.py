"""MACs on handshake messages, and cookies against floods.

Every handshake message ends in two 16-byte MACs (https://www.wireguard.com/papers/wireguard.pdf, sections 5.3
and 5.4.4). *mac1* is keyed by the receiver's public key: it proves only that the sender knows whom it calls,
yet rejects random rubbish for the price of one hash. A responder *under load* answers a message with a cookie
sealed to that mac1, and from then on demands *mac2*, keyed by the cookie: proof that the
sender receives at the address it sends from. So a flood from forged addresses costs hashes and not exchanges,
and one from true addresses meets a per-address limit.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from enum import Enum

from vpnforensics.reftunnel.crypto import (
    HASH_BYTES,
    NONCE_24_BYTES,
    TAG_BYTES,
    NotAuthenticError,
    hash_,
    mac,
    xaead_open,
    xaead_seal,
)
from vpnforensics.reftunnel.drops import Drop, RefusedError
from vpnforensics.reftunnel.keys import PublicKey
from vpnforensics.reftunnel.wire import MACS_BYTES, CookieReply

COOKIE_LIFETIME_S = 120.0
"""A cookie, and the secret it is made with, hold two minutes."""

_LABEL_MAC1 = b"mac1----"
_LABEL_COOKIE = b"cookie--"
_NO_MAC2 = bytes(TAG_BYTES)

LOAD_HANDSHAKES_PER_S = 40.0
"""More handshake messages than this in a second means load (implementation constant)."""

LOAD_LINGER_S = 1.0
"""How long the state of load outlasts its cause (wireguard-go's value)."""

SOURCE_HANDSHAKES_PER_S = 20.0
SOURCE_COOKIES_PER_S = 500.0
"""Of the cookies that a device can give, one source gets a part, so that a flood from one costs little."""
SOURCE_BURST = 5.0
_SOURCES_REMEMBERED = 4096


class Proof(Enum):
    """What the MACs of a message prove."""

    NOTHING = 0
    KNOWS_KEY = 1
    RECEIVES_AT_SOURCE = 2


class MacStamper:
    """The sending side: adds both MACs for one peer and remembers that peer's cookie."""

    def __init__(self, receiver: PublicKey) -> None:
        self._mac1_key = hash_(_LABEL_MAC1, receiver.raw)
        self._cookie_key = hash_(_LABEL_COOKIE, receiver.raw)
        self._last_mac1: bytes | None = None
        self._cookie: bytes | None = None
        self._cookie_at = 0.0

    def __repr__(self) -> str:
        return "MacStamper()"

    def stamp(self, message: bytes, now: float) -> bytes:
        """Message with mac1, and with mac2 if a cookie is at hand."""
        mac1 = mac(self._mac1_key, message)
        self._last_mac1 = mac1
        if self._cookie is None or now - self._cookie_at >= COOKIE_LIFETIME_S:
            return message + mac1 + _NO_MAC2
        return message + mac1 + mac(self._cookie, message + mac1)

    def take_cookie(self, reply: CookieReply, now: float) -> None:
        """Keep the cookie of a reply to our last message.

        Raises
        ------
        RefusedError
            No message is waiting for a cookie, or the reply does not belong to it.
        """
        if self._last_mac1 is None:
            raise RefusedError(Drop.BAD_COOKIE)
        try:
            cookie = xaead_open(self._cookie_key, reply.nonce, reply.sealed_cookie, self._last_mac1)
        except NotAuthenticError:
            raise RefusedError(Drop.BAD_COOKIE) from None
        self._cookie = cookie
        self._cookie_at = now
        self._last_mac1 = None  # one reply to one message


class MacChecker:
    """The receiving side: checks MACs and hands out cookies.

    Parameters
    ----------
    own : PublicKey
        Our public key.
    random_bytes : callable
        Source of secrets and nonces.
    """

    def __init__(self, own: PublicKey, random_bytes: Callable[[int], bytes]) -> None:
        self._mac1_key = hash_(_LABEL_MAC1, own.raw)
        self._cookie_key = hash_(_LABEL_COOKIE, own.raw)
        self._random_bytes = random_bytes
        self._secret = b""
        self._secret_until = float("-inf")

    def __repr__(self) -> str:
        return "MacChecker()"

    def _cookie(self, source: bytes, now: float) -> bytes:
        if now >= self._secret_until:
            self._secret = self._random_bytes(HASH_BYTES)
            self._secret_until = now + COOKIE_LIFETIME_S
        return mac(self._secret, source)

    def check(self, message: bytes, source: bytes, now: float) -> Proof:
        """Strength of the proof that the MACs of a handshake message give."""
        body, mac1, mac2 = message[:-MACS_BYTES], message[-32:-16], message[-16:]
        if not hmac.compare_digest(mac(self._mac1_key, body), mac1):
            return Proof.NOTHING
        if mac2 == _NO_MAC2 or now >= self._secret_until:
            return Proof.KNOWS_KEY
        if hmac.compare_digest(mac(self._cookie(source, now), message[:-16]), mac2):
            return Proof.RECEIVES_AT_SOURCE
        return Proof.KNOWS_KEY

    def reply(self, message: bytes, source: bytes, now: float) -> CookieReply:
        """Cookie for the sender of a message whose mac1 was good."""
        nonce = self._random_bytes(NONCE_24_BYTES)
        sealed = xaead_seal(self._cookie_key, nonce, self._cookie(source, now), message[-32:-16])
        return CookieReply(int.from_bytes(message[4:8], "little"), nonce, sealed)


class LoadMeter:
    """Whether handshakes come faster than they should.

    A leaking counter: each message adds one, and `LOAD_HANDSHAKES_PER_S` leak away in a second.
    """

    __slots__ = ("_at", "_level", "_until")

    def __init__(self) -> None:
        self._level = 0.0
        self._at = 0.0
        self._until = float("-inf")

    def add(self, now: float) -> bool:
        """Count a message; return whether the device is under load."""
        self._level = max(0.0, self._level - (now - self._at) * LOAD_HANDSHAKES_PER_S) + 1.0
        self._at = now
        if self._level > LOAD_HANDSHAKES_PER_S:
            self._level = LOAD_HANDSHAKES_PER_S
            self._until = now + LOAD_LINGER_S
        return now < self._until


class SourceLimiter:
    """Token bucket per source address.

    Parameters
    ----------
    rate_hz : float
        Tokens that come back in a second, up to `SOURCE_BURST`.
    """

    __slots__ = ("_buckets", "_rate_hz")

    def __init__(self, rate_hz: float = SOURCE_HANDSHAKES_PER_S) -> None:
        self._rate_hz = rate_hz
        self._buckets: dict[bytes, tuple[float, float]] = {}

    def allow(self, address: bytes, now: float) -> bool:
        """Whether this address (4 or 16 bytes) may have one more handshake now."""
        # Whoever has one IPv6 address has the 2^64 of its network: they count as one, as in the kernel.
        address = address[:8]
        tokens, at = self._buckets.pop(address, (SOURCE_BURST, now))
        tokens = min(SOURCE_BURST, tokens + (now - at) * self._rate_hz)
        allowed = tokens >= 1.0
        # Re-inserted last: the dict is in order of use, and the longest unused falls out first.
        self._buckets[address] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > _SOURCES_REMEMBERED:
            del self._buckets[next(iter(self._buckets))]
        return allowed
