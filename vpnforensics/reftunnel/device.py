"""The protocol, tied together: bytes and `now` in, bytes and events out.

A `Device` owns no socket and no clock. The rim hands it datagrams, inner packets and the time, and then takes
what it has to say with `take`. Two ways carry data. The plain one, `receive` and `send`, is whole: a test
or a simulation needs nothing else. The other is for a rim that moves packets in bulk: it seals and
opens in its own buffers with the session from `sending_session` or `sessions`, and reports with `sent`
and `accepted`; both ways meet in the same rules.

Whatever is refused is counted in `drops` and leaves no other trace.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.drops import Drop, RefusedError
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.events import Deliver, Output, Refused, Transmit
from vpnforensics.reftunnel.handshakes import Handshakes
from vpnforensics.reftunnel.keys import PrivateKey, PublicKey
from vpnforensics.reftunnel.peers import Peer, PeerConfig, make_peer
from vpnforensics.reftunnel.routing import AllowedIPs, IPNetwork, destination, source_and_length
from vpnforensics.reftunnel.session import Session
from vpnforensics.reftunnel.talks import Talks
from vpnforensics.reftunnel.timers import NEVER, REJECT_AFTER_TIME_S
from vpnforensics.reftunnel.wire import (
    COOKIE_REPLY,
    INITIATION,
    RESPONSE,
    CookieReply,
    message_type,
    pad_to_16,
    transport_header,
)


class Device:
    """One interface: our key, our peers, and everything said with them.

    Parameters
    ----------
    private_key : PrivateKey
        Who we are.
    peers : iterable of PeerConfig
        Whom we know.
    wall_ns : callable
        `now` -> wall-clock time, nanoseconds since the epoch; asked at every initiation.
    padded : callable
        Length of an inner packet -> length to pad it to; countermeasures replace it.
    random_bytes : callable
        Source of chance; a test gives a seeded one.

    Raises
    ------
    TunnelError
        Two peers have one key, or a peer has ours, or one that protects nothing.
    """

    def __init__(
        self,
        private_key: PrivateKey,
        peers: Iterable[PeerConfig],
        *,
        wall_ns: Callable[[float], int],
        padded: Callable[[int], int] = pad_to_16,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.private_key = private_key
        self.peers: dict[PublicKey, Peer] = {}
        self.allowed = AllowedIPs()
        self.sessions: dict[int, Session] = {}
        self.drops: Counter[Drop] = Counter()
        self.padded = padded
        self._peers_made = 0
        self._handshakes = Handshakes(
            private_key,
            self.peers,
            is_taken=self.sessions.__contains__,
            wall_ns=wall_ns,
            random_bytes=random_bytes,
        )
        self._talks = Talks(
            self._handshakes, self.sessions, self.drops, padded=padded, random_bytes=random_bytes
        )
        for config in peers:
            self._add_peer(config)

    def _add_peer(self, config: PeerConfig) -> Peer:
        key = config.public_key
        if key in self.peers or key == self.private_key.public:
            raise TunnelError(f"peer {key} stands twice, or is this interface itself")
        key.refuse_if_weak()  # a handshake with it would fail, each time
        peer = self.peers[key] = make_peer(config, self._peers_made, self.private_key.public)
        self._peers_made += 1
        self._give(peer)
        return peer

    def _give(self, peer: Peer) -> None:
        """Let a peer have its networks, and nobody else these."""
        own = peer.config.allowed_ips
        for other in self.peers.values():
            if other is not peer and not set(own).isdisjoint(other.config.allowed_ips):
                left = tuple(network for network in other.config.allowed_ips if network not in own)
                other.config = replace(other.config, allowed_ips=left)
        for network in own:
            self.allowed.add(network, peer)

    # -- what the rim calls -------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Call peers that are to be kept alive, without waiting for traffic."""
        for peer in self.peers.values():
            if peer.timers.persistent_s and peer.endpoint is not None:
                self._talks.keepalive(peer, now)

    def add_peer(self, config: PeerConfig, now: float) -> None:
        """Take in one more peer.

        Raises
        ------
        TunnelError
            It is there already, or it is ourselves.
        """
        peer = self._add_peer(config)
        if peer.timers.persistent_s and peer.endpoint is not None:
            self._talks.keepalive(peer, now)

    def alter_peer(self, peer: Peer, config: PeerConfig, now: float) -> None:
        """Have a peer as `config` says; its sessions go on."""
        if config.endpoint != peer.config.endpoint:
            peer.endpoint = config.endpoint
        peer.config = config
        self.allowed.remove(peer)
        self._give(peer)
        peer.timers.set_persistent(float(config.persistent_keepalive_s), now)
        if config.persistent_keepalive_s and peer.endpoint is not None:
            self._talks.keepalive(peer, now)

    def remove_peer(self, peer: Peer) -> None:
        """Forget a peer and all keys shared with it."""
        self._talks.forget(peer)
        self.allowed.remove(peer)
        del self.peers[peer.config.public_key]

    def allowed_ips(self) -> set[IPNetwork]:
        """Networks of all peers."""
        return {network for peer in self.peers.values() for network in peer.config.allowed_ips}

    def take(self) -> list[Output]:
        """What is to be sent, delivered or told, in order; the list is the caller's."""
        outputs, self._talks.outbox = self._talks.outbox, []
        return outputs

    def receive(self, datagram: bytes, endpoint: Endpoint, now: float) -> None:
        """Take in a datagram of any type; whatever is wrong with it is counted."""
        try:
            kind = message_type(datagram)
            if kind in (INITIATION, RESPONSE):
                self._admit(datagram, endpoint, now)
                if kind == INITIATION:
                    self._on_initiation(datagram, endpoint, now)
                else:
                    self._on_response(datagram, endpoint, now)
            elif kind == COOKIE_REPLY:
                self._on_cookie(CookieReply.unpack(datagram), now)
            else:
                self._on_transport(datagram, endpoint, now)
        except RefusedError as refusal:
            self.drops[refusal.reason] += 1

    def send(self, packet: bytes, now: float) -> None:
        """Take in an inner packet from the operating system."""
        address = destination(packet)
        if address is None:
            self.drops[Drop.NOT_IP] += 1
            return
        peer = self.allowed.owner(address)
        if peer is None:
            self.drops[Drop.NO_ROUTE] += 1
            return
        self._talks.say(peer, packet, now)

    def tick(self, now: float) -> None:
        """Act on every timer that has run out."""
        for peer in self.peers.values():
            for due in peer.timers.due(now):
                self._talks.act(peer, due, now)

    def wake_at(self) -> float:
        """When `tick` is next needed; `NEVER` if no timer runs."""
        return min((peer.timers.earliest for peer in self.peers.values()), default=NEVER)

    # -- for a rim that moves packets in bulk -------------------------------------------------------

    def sending_session(self, peer: Peer, now: float) -> Session | None:
        """Session to seal with; None while there is none, or nowhere to send to."""
        return self._talks.sending_session(peer, now)

    def stage(self, peer: Peer, packet: bytes, now: float) -> None:
        """Keep a packet until a session exists, and ask for one."""
        self._talks.stage(peer, packet, now)

    def renew(self, session: Session, now: float) -> None:
        """Ask for a successor of a session that may send no more."""
        self._talks.call(session.peer, now)

    def is_endpoint(self, endpoint: Endpoint) -> bool:
        """Whether the last authentic message of some peer came from there."""
        return any(peer.endpoint == endpoint for peer in self.peers.values())

    @property
    def session_changes(self) -> int:
        """How often `sessions` has changed: whoever keeps what follows from it compares this."""
        return self._talks.changes

    def post(self, output: Transmit) -> None:
        """Say this too: a datagram that the rim has sealed and could not send yet."""
        self._talks.outbox.append(output)

    def sent(self, session: Session, packets: int, outer_bytes: int, now: float) -> None:
        """Account for data messages that the rim has sealed and sent."""
        self._talks.sent(session, packets, outer_bytes, now)

    def accepted(
        self, session: Session, endpoint: Endpoint, packets: int, outer_bytes: int, now: float
    ) -> None:
        """Account for authentic transport messages: `packets` with data among them, 0 for keepalives only."""
        self._talks.accepted(session, endpoint, packets, outer_bytes, now)

    def inner_length(self, peer: Peer, padded: bytes | memoryview) -> int:
        """True length of an authentic inner packet, after checking that its source is the peer's own.

        Raises
        ------
        RefusedError
            ``NOT_IP`` (cover traffic is such) or ``WRONG_SOURCE``.
        """
        found = source_and_length(padded)
        if found is None:
            raise RefusedError(Drop.NOT_IP)
        address, length = found
        if self.allowed.owner(address) is not peer:
            raise RefusedError(Drop.WRONG_SOURCE)
        return length

    # -- what comes ---------------------------------------------------------------------------------

    def _admit(self, message: bytes, endpoint: Endpoint, now: float) -> None:
        cookie = self._handshakes.admit(message, endpoint, now)
        if cookie is not None:
            self._talks.outbox.append(Transmit(None, cookie, endpoint))
            raise RefusedError(Drop.UNDER_LOAD)

    def _on_initiation(self, message: bytes, endpoint: Endpoint, now: float) -> None:
        session, response = self._handshakes.answer(message, now)
        session.peer.traffic.received_bytes += len(message)
        self._talks.heard(session.peer, endpoint, now)
        self._talks.begin(session, now)
        self._talks.transmit(session.peer, response, now)

    def _on_response(self, message: bytes, endpoint: Endpoint, now: float) -> None:
        session = self._handshakes.finish(message, now)
        peer = session.peer
        peer.traffic.received_bytes += len(message)
        self._talks.begin(session, now)
        self._talks.heard(peer, endpoint, now)
        self._talks.connected(peer, now)
        # The responder may not send until it has heard from us: say something even if there is nothing.
        if not self._talks.flush(peer, now):
            self._talks.keepalive(peer, now)

    def _on_cookie(self, reply: CookieReply, now: float) -> None:
        session = self.sessions.get(reply.receiver)
        peer = self._handshakes.waiting.get(reply.receiver)
        if peer is None and session is not None:
            peer = session.peer
        if peer is None:
            raise RefusedError(Drop.UNKNOWN_INDEX)
        peer.stamper.take_cookie(reply, now)

    def _on_transport(self, message: bytes, endpoint: Endpoint, now: float) -> None:
        index, counter = transport_header.unpack_from(message)[1:]
        session = self.sessions.get(index)
        if session is None:
            raise RefusedError(Drop.UNKNOWN_INDEX)
        if now - session.created_at >= REJECT_AFTER_TIME_S:
            raise RefusedError(Drop.EXPIRED)
        padded = session.open(message)
        self._talks.accepted(session, endpoint, 1 if padded else 0, len(message), now)
        if padded:
            try:
                packet = padded[: self.inner_length(session.peer, padded)]
            except RefusedError:
                self._talks.outbox.append(Refused(session.peer, padded, counter))
                raise
            self._talks.outbox.append(Deliver(session.peer, packet, counter, len(message)))
