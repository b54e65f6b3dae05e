"""Handshakes with all peers: whom we wait for, whom we answer, and what a flood may cost.

``handshake`` is the mathematics of one; this is the bookkeeping around it: indices, time stamps that
must rise, cookies and limits. It changes nothing of a peer but what belongs to its handshakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vpnforensics.reftunnel.cookie import SOURCE_COOKIES_PER_S, LoadMeter, MacChecker, Proof, SourceLimiter
from vpnforensics.reftunnel.drops import Drop, RefusedError
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.handshake import (
    TICK_NS,
    consume_initiation,
    consume_response,
    create_initiation,
    create_response,
    tai64n,
)
from vpnforensics.reftunnel.keys import PrivateKey, PublicKey
from vpnforensics.reftunnel.peers import Peer
from vpnforensics.reftunnel.session import Session
from vpnforensics.reftunnel.wire import Response

INITIATIONS_PER_S = 50.0
"""A peer that initiates more often than this is ignored (wireguard-go's value)."""


class Handshakes:
    """Makes sessions.

    Parameters
    ----------
    private_key : PrivateKey
        Who we are.
    peers : mapping of PublicKey to Peer
        Whom we know.
    is_taken : callable
        Whether an index names a session already.
    wall_ns : callable
        `now` -> wall-clock time, nanoseconds since the epoch. It may be set while we run.
    random_bytes : callable
        Source of chance.
    """

    def __init__(
        self,
        private_key: PrivateKey,
        peers: Mapping[PublicKey, Peer],
        *,
        is_taken: Callable[[int], bool],
        wall_ns: Callable[[float], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.waiting: dict[int, Peer] = {}
        self._private_key = private_key
        self._peers = peers
        self._is_taken = is_taken
        self._wall_ns = wall_ns
        self._stamp_ns = 0
        self._random_bytes = random_bytes
        self._checker = MacChecker(private_key.public, random_bytes)
        self._load = LoadMeter()
        self._limiter = SourceLimiter()
        self._cookie_limiter = SourceLimiter(SOURCE_COOKIES_PER_S)

    def admit(self, message: bytes, endpoint: Endpoint, now: float) -> bytes | None:
        """Check the MACs of a handshake message before anything costly is done with it.

        Returns
        -------
        bytes or None
            A cookie reply to be sent instead, when under load.

        Raises
        ------
        RefusedError
            ``BAD_MAC1`` or ``RATE_LIMITED``.
        """
        proof = self._checker.check(message, endpoint.packed, now)
        if proof is Proof.NOTHING:
            raise RefusedError(Drop.BAD_MAC1)
        if not self._load.add(now):
            return None
        if proof is Proof.KNOWS_KEY:
            if not self._cookie_limiter.allow(endpoint.packed[:-2], now):
                raise RefusedError(Drop.UNDER_LOAD)
            return self._checker.reply(message, endpoint.packed, now).pack()
        if not self._limiter.allow(endpoint.packed[:-2], now):
            raise RefusedError(Drop.RATE_LIMITED)
        return None

    def initiate(self, peer: Peer, now: float) -> bytes:
        """First message to a peer; an earlier one that has no answer yet is given up."""
        self.abandon(peer)
        index = self._new_index()
        # Asked each time: a machine may start with a clock that is years behind. It must rise none the less.
        self._stamp_ns = max(self._wall_ns(now), self._stamp_ns + TICK_NS)
        timestamp = tai64n(self._stamp_ns)
        body, peer.initiation = create_initiation(
            self._private_key, peer.config.public_key, index, timestamp, self._ephemeral()
        )
        self.waiting[index] = peer
        peer.initiation_sent_at = now
        return peer.stamper.stamp(body, now)

    def abandon(self, peer: Peer) -> None:
        """Wait no longer for an answer of a peer."""
        if peer.initiation is not None:
            self.waiting.pop(peer.initiation.sender, None)
            peer.initiation = None

    def answer(self, message: bytes, now: float) -> tuple[Session, bytes]:
        """Session and response for an initiation.

        Raises
        ------
        RefusedError
            ``NOT_AUTHENTIC``, ``UNKNOWN_PEER``, ``OLD_TIMESTAMP`` (a replay) or ``RATE_LIMITED``.
        """
        received = consume_initiation(self._private_key, message, self._peers.__contains__)
        peer = self._peers[received.static]
        if received.timestamp <= peer.newest_timestamp:
            raise RefusedError(Drop.OLD_TIMESTAMP)
        if now - peer.initiation_received_at < 1 / INITIATIONS_PER_S:
            raise RefusedError(Drop.RATE_LIMITED)
        peer.newest_timestamp = received.timestamp
        peer.initiation_received_at = now
        index = self._new_index()
        body, keys = create_response(received, peer.config.preshared_key, index, self._ephemeral())
        session = Session(
            peer,
            keys,
            local_index=index,
            remote_index=received.sender,
            is_initiator=False,
            created_at=now,
        )
        return session, peer.stamper.stamp(body, now)

    def finish(self, message: bytes, now: float) -> Session:
        """Session for a response to our initiation.

        Raises
        ------
        RefusedError
            ``UNKNOWN_INDEX`` or ``NOT_AUTHENTIC``; a true response may still come.
        """
        index = Response.unpack(message).receiver
        peer = self.waiting.get(index)
        if peer is None or peer.initiation is None:
            raise RefusedError(Drop.UNKNOWN_INDEX)
        remote, keys = consume_response(
            peer.initiation, message, self._private_key, peer.config.preshared_key
        )
        self.abandon(peer)
        return Session(peer, keys, local_index=index, remote_index=remote, is_initiator=True, created_at=now)

    def _new_index(self) -> int:
        while True:
            index = int.from_bytes(self._random_bytes(4), "little")
            if index not in self.waiting and not self._is_taken(index):
                return index

    def _ephemeral(self) -> PrivateKey:
        return PrivateKey(self._random_bytes(32))
