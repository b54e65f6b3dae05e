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

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.drops import Drop, RefusedError
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.events import Connected, Deliver, Disconnected, Moved, Output, Transmit
from vpnforensics.reftunnel.handshakes import Handshakes
from vpnforensics.reftunnel.keys import PrivateKey, PublicKey
from vpnforensics.reftunnel.peers import STAGED_PACKETS, Peer, PeerConfig, make_peer
from vpnforensics.reftunnel.routing import AllowedIPs, destination, source_and_length
from vpnforensics.reftunnel.session import REKEY_AFTER_MESSAGES, Session
from vpnforensics.reftunnel.timers import (
    MAX_ATTEMPTS,
    MAX_JITTER_S,
    NEVER,
    REJECT_AFTER_TIME_S,
    REKEY_AFTER_TIME_S,
    REKEY_TIMEOUT_S,
    RENEW_ON_RECEIVE_S,
    Due,
)
from vpnforensics.reftunnel.wire import (
    COOKIE_REPLY,
    INITIATION,
    KEEPALIVE_BYTES,
    PADDING_BYTES,
    RESPONSE,
    CookieReply,
    message_type,
    transport_header,
)


def pad_to_16(length: int) -> int:
    """Padded length of an inner packet, as the protocol prescribes."""
    return (length + PADDING_BYTES - 1) & ~(PADDING_BYTES - 1)


class Device:
    """One interface: our key, our peers, and everything said with them.

    Parameters
    ----------
    private_key : PrivateKey
        Who we are.
    peers : iterable of PeerConfig
        Whom we know.
    wall_zero_ns : int
        Wall-clock time, nanoseconds since the epoch, that belongs to ``now == 0``.
    padded : callable
        Length of an inner packet -> length to pad it to; countermeasures replace it.
    random_bytes : callable
        Source of chance; a test gives a seeded one.

    Raises
    ------
    TunnelError
        Two peers have one key, or a peer has ours.
    """

    def __init__(
        self,
        private_key: PrivateKey,
        peers: Iterable[PeerConfig],
        *,
        wall_zero_ns: int,
        padded: Callable[[int], int] = pad_to_16,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.private_key = private_key
        self.peers: dict[PublicKey, Peer] = {}
        self.allowed = AllowedIPs()
        self.sessions: dict[int, Session] = {}
        self.drops: Counter[Drop] = Counter()
        self.padded = padded
        self._random_bytes = random_bytes
        self._handshakes = Handshakes(
            private_key,
            self.peers,
            is_taken=self.sessions.__contains__,
            wall_zero_ns=wall_zero_ns,
            random_bytes=random_bytes,
        )
        self._outputs: list[Output] = []
        for config in peers:
            self._add_peer(config)

    def _add_peer(self, config: PeerConfig) -> None:
        key = config.public_key
        if key in self.peers or key == self.private_key.public:
            raise TunnelError(f"peer {key} stands twice, or is this interface itself")
        peer = self.peers[key] = make_peer(config, len(self.peers))
        for network in config.allowed_ips:
            self.allowed.add(network, peer)

    # -- what the rim calls -------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Call peers that are to be kept alive, without waiting for traffic."""
        for peer in self.peers.values():
            if peer.timers.persistent_s and peer.endpoint is not None:
                self._keepalive(peer, now)

    def take(self) -> list[Output]:
        """What is to be sent, delivered or told, in order; the list is the caller's."""
        outputs, self._outputs = self._outputs, []
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
        session = self.sending_session(peer, now)
        if session is None:
            self.stage(peer, packet, now)
        else:
            self._transmit_data(session, packet, now)

    def tick(self, now: float) -> None:
        """Act on every timer that has run out."""
        for peer in self.peers.values():
            for due in peer.timers.due(now):
                self._on_timer(peer, due, now)

    def wake_at(self) -> float:
        """When `tick` is next needed; `NEVER` if no timer runs."""
        return min((peer.timers.earliest for peer in self.peers.values()), default=NEVER)

    # -- for a rim that moves packets in bulk -------------------------------------------------------

    def sending_session(self, peer: Peer, now: float) -> Session | None:
        """Session to seal with; None while there is none, or nowhere to send to."""
        return peer.usable_session(now) if peer.endpoint is not None else None

    def stage(self, peer: Peer, packet: bytes, now: float) -> None:
        """Keep a packet until a session exists, and ask for one."""
        if len(peer.staged) == STAGED_PACKETS:
            self.drops[Drop.QUEUE_FULL] += 1
        peer.staged.append(packet)
        self._initiate(peer, now)

    def renew(self, session: Session, now: float) -> None:
        """Ask for a successor of a session that may send no more."""
        self._initiate(session.peer, now)

    def sent(self, session: Session, packets: int, outer_bytes: int, now: float) -> None:
        """Account for data messages that the rim has sealed and sent."""
        peer = session.peer
        peer.traffic.sent_bytes += outer_bytes
        peer.traffic.sent_packets += packets
        peer.timers.data_sent(now, self._jitter)
        peer.timers.authentic_sent(now)
        self._renew_if_worn(session, now)

    def accepted(
        self, session: Session, endpoint: Endpoint, packets: int, outer_bytes: int, now: float
    ) -> None:
        """Account for authentic transport messages: `packets` with data among them, 0 for keepalives only."""
        peer = session.peer
        peer.traffic.received_bytes += outer_bytes
        peer.traffic.received_packets += packets
        self._heard(peer, endpoint, now)
        if packets:
            peer.timers.data_received(now)
        if peer.sessions.confirm(session):
            self._connected(peer, now, is_rekey=peer.sessions.previous is not None)
            self._flush(peer, now)
        age = now - session.created_at
        if session.is_initiator and age >= RENEW_ON_RECEIVE_S and not session.renewal_asked:
            session.renewal_asked = True
            self._initiate(peer, now)

    # -- handshake ----------------------------------------------------------------------------------

    def _admit(self, message: bytes, endpoint: Endpoint, now: float) -> None:
        cookie = self._handshakes.admit(message, endpoint, now)
        if cookie is not None:
            self._outputs.append(Transmit(None, cookie, endpoint))
            raise RefusedError(Drop.UNDER_LOAD)

    def _on_initiation(self, message: bytes, endpoint: Endpoint, now: float) -> None:
        session, response = self._handshakes.answer(message, now)
        session.peer.traffic.received_bytes += len(message)
        self._heard(session.peer, endpoint, now)
        self._add_session(session, now)
        self._transmit(session.peer, response, now)

    def _on_response(self, message: bytes, endpoint: Endpoint, now: float) -> None:
        session = self._handshakes.finish(message, now)
        peer = session.peer
        peer.traffic.received_bytes += len(message)
        self._add_session(session, now)
        self._heard(peer, endpoint, now)
        self._connected(peer, now, is_rekey=peer.sessions.previous is not None)
        # The responder may not send until it has heard from us: say something even if there is nothing.
        if not self._flush(peer, now):
            self._keepalive(peer, now)

    def _on_cookie(self, reply: CookieReply, now: float) -> None:
        session = self.sessions.get(reply.receiver)
        peer = self._handshakes.waiting.get(reply.receiver)
        if peer is None and session is not None:
            peer = session.peer
        if peer is None:
            raise RefusedError(Drop.UNKNOWN_INDEX)
        peer.stamper.take_cookie(reply, now)

    def _initiate(self, peer: Peer, now: float, *, is_retry: bool = False) -> None:
        if not is_retry and now - peer.initiation_sent_at < REKEY_TIMEOUT_S:
            return
        if peer.endpoint is None:
            self.drops[Drop.NO_ENDPOINT] += 1
            return
        if not is_retry:
            peer.timers.attempts = 0
        message = self._handshakes.initiate(peer, now)
        peer.timers.initiation_sent(now, self._jitter())
        self._transmit(peer, message, now)

    # -- data ---------------------------------------------------------------------------------------

    def _on_transport(self, message: bytes, endpoint: Endpoint, now: float) -> None:
        index, counter = transport_header.unpack_from(message)[1:]
        session = self.sessions.get(index)
        if session is None:
            raise RefusedError(Drop.UNKNOWN_INDEX)
        if now - session.created_at >= REJECT_AFTER_TIME_S:
            raise RefusedError(Drop.EXPIRED)
        padded = session.open(message)
        self.accepted(session, endpoint, 1 if padded else 0, len(message), now)
        if padded:
            packet = padded[: self.inner_length(session.peer, padded)]
            self._outputs.append(Deliver(session.peer, packet, counter, len(message)))

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

    def _flush(self, peer: Peer, now: float) -> bool:
        """Send what waited for a session; whether there was anything."""
        session = self.sending_session(peer, now)
        if session is None or not peer.staged:
            return False
        while peer.staged:
            self._transmit_data(session, peer.staged.popleft(), now)
        return True

    def _transmit_data(self, session: Session, packet: bytes, now: float) -> None:
        endpoint = session.peer.endpoint
        try:
            message = session.seal(packet.ljust(self.padded(len(packet)), b"\0"))
        except RefusedError as refusal:
            self.drops[refusal.reason] += 1
            self._initiate(session.peer, now)
            return
        if endpoint is not None:
            self._outputs.append(Transmit(session.peer, message, endpoint, packet))
            self.sent(session, 1, len(message), now)

    def _keepalive(self, peer: Peer, now: float) -> None:
        session = self.sending_session(peer, now)
        if session is None:
            self._initiate(peer, now)
            return
        try:
            message = session.seal(b"")
        except RefusedError as refusal:
            self.drops[refusal.reason] += 1
            return
        assert len(message) == KEEPALIVE_BYTES
        self._transmit(peer, message, now)
        self._renew_if_worn(session, now)

    def _renew_if_worn(self, session: Session, now: float) -> None:
        if session.sent >= REKEY_AFTER_MESSAGES or (
            session.is_initiator and now - session.created_at >= REKEY_AFTER_TIME_S
        ):
            self._initiate(session.peer, now)

    # -- timers and bookkeeping ---------------------------------------------------------------------

    def _on_timer(self, peer: Peer, due: Due, now: float) -> None:
        if due is Due.RETRANSMIT:
            self._retry(peer, now)
        elif due is Due.KEEPALIVE or due is Due.PERSISTENT:
            if due is Due.PERSISTENT:
                peer.timers.traversal(now)
            self._keepalive(peer, now)
        elif due is Due.REKEY:
            self._initiate(peer, now)
        else:
            self._forget(peer)

    def _retry(self, peer: Peer, now: float) -> None:
        peer.timers.attempts += 1
        if peer.timers.attempts > MAX_ATTEMPTS:
            self._handshakes.abandon(peer)
            peer.staged.clear()
            peer.timers.gave_up(now)
        else:
            self._initiate(peer, now, is_retry=True)

    def _forget(self, peer: Peer) -> None:
        self._handshakes.abandon(peer)
        for session in peer.sessions.all():
            self.sessions.pop(session.local_index, None)
        peer.sessions.clear()
        self._outputs.append(Disconnected(peer))

    def _connected(self, peer: Peer, now: float, *, is_rekey: bool) -> None:
        peer.last_handshake_at = now
        peer.timers.handshake_done()
        self._outputs.append(Connected(peer, is_rekey))

    def _heard(self, peer: Peer, endpoint: Endpoint, now: float) -> None:
        peer.timers.authentic_received(now)
        if endpoint != peer.endpoint:
            old, peer.endpoint = peer.endpoint, endpoint
            self._outputs.append(Moved(peer, old, endpoint))

    def _transmit(self, peer: Peer, message: bytes, now: float) -> None:
        if peer.endpoint is not None:
            peer.traffic.sent_bytes += len(message)
            peer.timers.authentic_sent(now)
            self._outputs.append(Transmit(peer, message, peer.endpoint))

    def _add_session(self, session: Session, now: float) -> None:
        before = session.peer.sessions.all()
        session.peer.sessions.add(session)
        kept = session.peer.sessions.all()
        for old in before:
            if old not in kept:
                self.sessions.pop(old.local_index, None)
        self.sessions[session.local_index] = session
        session.peer.timers.session_derived(now)

    def _jitter(self) -> float:
        return self._random_bytes(1)[0] / 255 * MAX_JITTER_S
