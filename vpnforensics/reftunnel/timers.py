"""The five timers of a peer, as deadlines.

WireGuard is silent unless there is something to say; these say when (section 6 of
https://www.wireguard.com/papers/wireguard.pdf):

``retransmit``   an initiation was sent and no response came
``keepalive``    data came and nothing was sent since: tell the peer that it arrived
``rekey``        data was sent and nothing came since: the session may be dead, try a new handshake
``forget``       no new session for three lifetimes: erase the keys
``persistent``   something every n seconds, to keep a NAT mapping alive, if configured

Nothing here reads a clock: every method takes `now`, in seconds, and `due` tells which have run out.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

REKEY_AFTER_TIME_S = 120.0
REJECT_AFTER_TIME_S = 180.0
REKEY_ATTEMPT_TIME_S = 90.0
REKEY_TIMEOUT_S = 5.0
KEEPALIVE_TIMEOUT_S = 10.0

MAX_ATTEMPTS = int(REKEY_ATTEMPT_TIME_S / REKEY_TIMEOUT_S)
"""Retransmission number 0 to this, after the first initiation: 20 in all, as wireguard-go sends them."""

MAX_JITTER_S = 0.334
"""Added to retransmissions, so that two peers that start together do not collide for ever."""

RENEW_ON_RECEIVE_S = REJECT_AFTER_TIME_S - KEEPALIVE_TIMEOUT_S - REKEY_TIMEOUT_S
"""An initiator that only receives renews its session at this age, before it is too late."""

NEVER = float("inf")


class Due(Enum):
    """A timer that has run out."""

    RETRANSMIT = "retransmit"
    KEEPALIVE = "keepalive"
    REKEY = "rekey"
    FORGET = "forget"
    PERSISTENT = "persistent"


class PeerTimers:
    """Deadlines of one peer, in seconds; `NEVER` where a timer does not run.

    Parameters
    ----------
    persistent_s : float
        Persistent keepalive interval; 0 switches it off.
    """

    __slots__ = ("attempts", "deadline", "earliest", "persistent_s")

    def __init__(self, persistent_s: float = 0.0) -> None:
        self.persistent_s = persistent_s
        self.attempts = 0
        self.deadline = dict.fromkeys(Due, NEVER)
        self.earliest = NEVER

    def _set(self, timer: Due, at: float) -> None:
        self.deadline[timer] = at
        self.earliest = min(self.deadline.values())

    def due(self, now: float) -> list[Due]:
        """Timers that have run out; each is stopped by being returned."""
        if now < self.earliest:
            return []
        out = [timer for timer, at in self.deadline.items() if at <= now]
        for timer in out:
            self._set(timer, NEVER)
        return out

    def data_sent(self, now: float, jitter_s: Callable[[], float]) -> None:
        """An inner packet was sent."""
        if self.deadline[Due.REKEY] == NEVER:
            self._set(Due.REKEY, now + KEEPALIVE_TIMEOUT_S + REKEY_TIMEOUT_S + jitter_s())

    def data_received(self, now: float) -> None:
        """An inner packet came."""
        if self.deadline[Due.KEEPALIVE] == NEVER:
            self._set(Due.KEEPALIVE, now + KEEPALIVE_TIMEOUT_S)

    def authentic_sent(self, now: float) -> None:
        """Any message was sent that the peer can authenticate."""
        if self.deadline[Due.KEEPALIVE] != NEVER:
            self._set(Due.KEEPALIVE, NEVER)
        self.traversal(now)

    def authentic_received(self, now: float) -> None:
        """Any authentic message came."""
        if self.deadline[Due.REKEY] != NEVER:
            self._set(Due.REKEY, NEVER)
        self.traversal(now)

    def traversal(self, now: float) -> None:
        """Something authentic went either way: the NAT mapping is fresh."""
        if self.persistent_s:
            self._set(Due.PERSISTENT, now + self.persistent_s)

    def set_persistent(self, seconds: float, now: float) -> None:
        """Say something every so many seconds from now on; 0 ends it."""
        self.persistent_s = seconds
        self._set(Due.PERSISTENT, now + seconds if seconds else NEVER)

    def initiation_sent(self, now: float, jitter_s: float) -> None:
        """An initiation was sent."""
        self._set(Due.RETRANSMIT, now + REKEY_TIMEOUT_S + jitter_s)

    def handshake_done(self) -> None:
        """A handshake ended well."""
        self._set(Due.RETRANSMIT, NEVER)
        self.attempts = 0

    def session_derived(self, now: float) -> None:
        """New keys exist."""
        self._set(Due.FORGET, now + 3 * REJECT_AFTER_TIME_S)

    def gave_up(self, now: float) -> None:
        """No answer for `REKEY_ATTEMPT_TIME_S`: stop trying, acknowledge nothing, erase old keys."""
        self.attempts = 0
        self._set(Due.KEEPALIVE, NEVER)
        if self.deadline[Due.FORGET] == NEVER:
            self._set(Due.FORGET, now + 3 * REJECT_AFTER_TIME_S)
