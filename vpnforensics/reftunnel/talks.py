"""What is said to every peer, and when: data, keepalives, calls for new sessions, and silence.

`device` judges what comes in; this is what goes out, and what the timers make of it
(https://www.wireguard.com/papers/wireguard.pdf, section 6). It is the only place that changes a peer's
timers and endpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from vpnforensics.reftunnel.drops import Drop, RefusedError
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.events import Connected, Disconnected, Moved, Output, Transmit
from vpnforensics.reftunnel.handshakes import Handshakes
from vpnforensics.reftunnel.peers import STAGED_PACKETS, Peer
from vpnforensics.reftunnel.session import REKEY_AFTER_MESSAGES, Session
from vpnforensics.reftunnel.timers import (
    MAX_ATTEMPTS,
    MAX_JITTER_S,
    REKEY_AFTER_TIME_S,
    REKEY_TIMEOUT_S,
    RENEW_ON_RECEIVE_S,
    Due,
)
from vpnforensics.reftunnel.wire import KEEPALIVE_BYTES


class Talks:
    """The talk with each peer, from our side.

    Parameters
    ----------
    handshakes : Handshakes
        Writes the messages that ask for a session.
    sessions : dict of int to Session
        All live sessions by our index; kept up to date here.
    drops : Counter of Drop
        What could not be said is counted here.
    padded : callable
        Length of an inner packet -> length to pad it to.
    random_bytes : callable
        Source of chance, for the jitter of timers.
    """

    def __init__(
        self,
        handshakes: Handshakes,
        sessions: dict[int, Session],
        drops: Counter[Drop],
        *,
        padded: Callable[[int], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.outbox: list[Output] = []
        self.changes = 0
        """How often `sessions` has changed."""
        self._handshakes = handshakes
        self._sessions = sessions
        self._drops = drops
        self._padded = padded
        self._random_bytes = random_bytes

    # -- data ---------------------------------------------------------------------------------------

    def sending_session(self, peer: Peer, now: float) -> Session | None:
        """Session to seal with; None while there is none, or nowhere to send to."""
        return peer.usable_session(now) if peer.endpoint is not None else None

    def say(self, peer: Peer, packet: bytes, now: float) -> None:
        """Send an inner packet now, or once there is a session."""
        session = self.sending_session(peer, now)
        if session is None:
            self.stage(peer, packet, now)
        else:
            self._data(session, packet, now)

    def stage(self, peer: Peer, packet: bytes, now: float) -> None:
        """Keep a packet until a session exists, and ask for one; a peer that cannot be called loses it."""
        if peer.endpoint is None:
            self._drops[Drop.NO_ENDPOINT] += 1
            return
        if len(peer.staged) == STAGED_PACKETS:
            self._drops[Drop.QUEUE_FULL] += 1
        peer.staged.append(packet)
        self.call(peer, now)

    def sent(self, session: Session, packets: int, outer_bytes: int, now: float) -> None:
        """Account for data messages that were sealed and sent."""
        peer = session.peer
        peer.traffic.sent_bytes += outer_bytes
        peer.traffic.sent_packets += packets
        peer.timers.data_sent(now, self._jitter_s)
        peer.timers.authentic_sent(now)
        self._renew_if_worn(session, now)

    def flush(self, peer: Peer, now: float) -> bool:
        """Send what waited for a session; whether there was anything."""
        session = self.sending_session(peer, now)
        if session is None or not peer.staged:
            return False
        while peer.staged:
            self._data(session, peer.staged.popleft(), now)
        return True

    def keepalive(self, peer: Peer, now: float) -> None:
        """Say that we are there."""
        session = self.sending_session(peer, now)
        if session is None:
            self.call(peer, now)
            return
        try:
            message = session.seal(b"")
        except RefusedError as refusal:
            self._drops[refusal.reason] += 1
            return
        assert len(message) == KEEPALIVE_BYTES
        self.transmit(peer, message, now)
        self._renew_if_worn(session, now)

    def transmit(self, peer: Peer, message: bytes, now: float) -> None:
        """Send a message that carries no inner packet."""
        if peer.endpoint is not None:
            peer.traffic.sent_bytes += len(message)
            peer.timers.authentic_sent(now)
            self.outbox.append(Transmit(peer, message, peer.endpoint))

    def _data(self, session: Session, packet: bytes, now: float) -> None:
        endpoint = session.peer.endpoint
        try:
            message = session.seal(packet.ljust(self._padded(len(packet)), b"\0"))
        except RefusedError as refusal:
            self._drops[refusal.reason] += 1
            self.call(session.peer, now)
            return
        if endpoint is not None:
            self.outbox.append(Transmit(session.peer, message, endpoint, packet))
            self.sent(session, 1, len(message), now)

    # -- sessions -----------------------------------------------------------------------------------

    def call(self, peer: Peer, now: float, *, is_retry: bool = False) -> None:
        """Ask for a new session, unless that was done a moment ago."""
        if not is_retry and now - peer.initiation_sent_at < REKEY_TIMEOUT_S:
            return
        if peer.endpoint is None:
            self._drops[Drop.NO_ENDPOINT] += 1
            return
        if not is_retry:
            peer.timers.attempts = 0
        message = self._handshakes.initiate(peer, now)
        peer.timers.initiation_sent(now, self._jitter_s())
        self.transmit(peer, message, now)

    def begin(self, session: Session, now: float) -> None:
        """Take in the session of a handshake just finished."""
        peer = session.peer
        before = peer.sessions.all()
        theirs = peer.sessions.next
        # Both called at once, and each answered: both must choose the same of the two sessions. Ours carries
        # data until the other end uses its own, so that a lost answer costs nothing.
        crossed = theirs is not None and theirs.created_at >= peer.initiation_sent_at
        peer.sessions.add(session, keep_next=crossed and peer.yields)
        kept = peer.sessions.all()
        for old in before:
            if old not in kept:
                self._sessions.pop(old.local_index, None)
        self._sessions[session.local_index] = session
        self.changes += 1
        peer.timers.session_derived(now)

    def connected(self, peer: Peer, now: float) -> None:
        """Note that both sides have the session that is current now."""
        peer.last_handshake_at = now
        peer.timers.handshake_done()
        self.outbox.append(Connected(peer, is_rekey=peer.sessions.previous is not None))

    def heard(self, peer: Peer, endpoint: Endpoint, now: float) -> None:
        """Note an authentic message: its sender is where it came from."""
        peer.timers.authentic_received(now)
        if endpoint != peer.endpoint:
            old, peer.endpoint = peer.endpoint, endpoint
            self.outbox.append(Moved(peer, old, endpoint))

    def accepted(
        self, session: Session, endpoint: Endpoint, packets: int, outer_bytes: int, now: float
    ) -> None:
        """Account for authentic transport messages: `packets` with data among them, 0 for keepalives only."""
        peer = session.peer
        peer.traffic.received_bytes += outer_bytes
        peer.traffic.received_packets += packets
        self.heard(peer, endpoint, now)
        if packets:
            peer.timers.data_received(now)
        if peer.sessions.confirm(session):
            self.connected(peer, now)
            self.flush(peer, now)
        age_s = now - session.created_at
        if session.is_initiator and age_s >= RENEW_ON_RECEIVE_S and not session.renewal_asked:
            session.renewal_asked = True
            self.call(peer, now)

    def _renew_if_worn(self, session: Session, now: float) -> None:
        if session.sent >= REKEY_AFTER_MESSAGES or (
            session.is_initiator and now - session.created_at >= REKEY_AFTER_TIME_S
        ):
            self.call(session.peer, now)

    # -- timers -------------------------------------------------------------------------------------

    def act(self, peer: Peer, due: Due, now: float) -> None:
        """Do what a timer that has run out asks for."""
        if due is Due.RETRANSMIT:
            self._retry(peer, now)
        elif due is Due.KEEPALIVE or due is Due.PERSISTENT:
            if due is Due.PERSISTENT:
                peer.timers.traversal(now)
            self.keepalive(peer, now)
        elif due is Due.REKEY:
            self.call(peer, now)
        else:
            self.forget(peer)

    def _retry(self, peer: Peer, now: float) -> None:
        if peer.timers.attempts > MAX_ATTEMPTS:
            self._handshakes.abandon(peer)
            if peer.staged:
                self._drops[Drop.NO_ANSWER] += len(peer.staged)
                peer.staged.clear()
            peer.timers.gave_up(now)
        else:
            peer.timers.attempts += 1
            self.call(peer, now, is_retry=True)

    def forget(self, peer: Peer) -> None:
        """Erase all keys shared with a peer."""
        self._handshakes.abandon(peer)
        for session in peer.sessions.all():
            self._sessions.pop(session.local_index, None)
        peer.sessions.clear()
        self.changes += 1
        self.outbox.append(Disconnected(peer))

    def _jitter_s(self) -> float:
        return self._random_bytes(1)[0] / 255 * MAX_JITTER_S
