"""A peer: who it is, what it may send, and the state of the talk with it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from vpnforensics.reftunnel.cookie import MacStamper
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.handshake import SentInitiation
from vpnforensics.reftunnel.keys import NO_PRESHARED_KEY, PresharedKey, PublicKey
from vpnforensics.reftunnel.routing import IPNetwork
from vpnforensics.reftunnel.session import Session
from vpnforensics.reftunnel.timers import REJECT_AFTER_TIME_S, PeerTimers

STAGED_PACKETS = 128
"""Packets that wait for a handshake; the oldest give way, as in a router's queue."""


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """What the configuration says of a peer.

    Parameters
    ----------
    public_key : PublicKey
        Its name.
    preshared_key : PresharedKey
        Additional symmetric secret.
    allowed_ips : tuple of networks
        Inner addresses that are its own.
    endpoint : Endpoint or None
        Where to call it first; None for one that calls us.
    persistent_keepalive_s : int
        0 switches it off.
    """

    public_key: PublicKey
    preshared_key: PresharedKey = NO_PRESHARED_KEY
    allowed_ips: tuple[IPNetwork, ...] = ()
    endpoint: Endpoint | None = None
    persistent_keepalive_s: int = 0


@dataclass(slots=True)
class Traffic:
    """Bytes and packets of a peer: outer message bytes, as ``wg show`` counts them."""

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_packets: int = 0
    received_packets: int = 0


class Sessions:
    """Up to three sessions at once, so that a rekey loses no packet.

    ``current`` sends. ``previous`` still receives what was on its way. ``next`` is a responder's new session:
    it may send only once the initiator has shown, by using it, that the response arrived.
    """

    __slots__ = ("current", "next", "previous")

    def __init__(self) -> None:
        self.current: Session | None = None
        self.previous: Session | None = None
        self.next: Session | None = None

    def all(self) -> list[Session]:
        """Those that exist."""
        return [session for session in (self.current, self.previous, self.next) if session is not None]

    def add(self, session: Session, *, keep_next: bool = False) -> None:
        """Take in the session of a handshake just finished; with `keep_next` it gives way to ``next``."""
        if not session.is_initiator:
            self.next = session
            self.previous = None
            return
        if self.next is not None and not keep_next:
            self.previous, self.next = self.next, None
        else:
            self.previous = self.current
        self.current = session

    def confirm(self, session: Session) -> bool:
        """Note that a session was used by the peer; whether that made it current."""
        if session is not self.next:
            return False
        self.previous, self.current, self.next = self.current, session, None
        return True

    def clear(self) -> None:
        """Forget all keys."""
        self.current = self.previous = self.next = None


@dataclass(slots=True, eq=False)
class Peer:
    """State of the talk with one peer.

    `yields` is true at one end of the two: where both call at once, the session that the other end asked for
    is the one that stays.
    """

    config: PeerConfig
    number: int
    endpoint: Endpoint | None
    stamper: MacStamper
    timers: PeerTimers
    yields: bool
    sessions: Sessions = field(default_factory=Sessions)
    staged: deque[bytes] = field(default_factory=lambda: deque(maxlen=STAGED_PACKETS))
    traffic: Traffic = field(default_factory=Traffic)
    initiation: SentInitiation | None = None
    initiation_sent_at: float = float("-inf")
    initiation_received_at: float = float("-inf")
    newest_timestamp: bytes = bytes(12)
    last_handshake_at: float | None = None

    def usable_session(self, now: float) -> Session | None:
        """Session that may carry data now."""
        session = self.sessions.current
        if session is None or now - session.created_at >= REJECT_AFTER_TIME_S:
            return None
        return session


def make_peer(config: PeerConfig, number: int, own: PublicKey) -> Peer:
    """Fresh state for a configured peer of the interface with the key `own`."""
    return Peer(
        config=config,
        number=number,
        endpoint=config.endpoint,
        stamper=MacStamper(config.public_key),
        timers=PeerTimers(float(config.persistent_keepalive_s)),
        yields=own.raw < config.public_key.raw,
    )
