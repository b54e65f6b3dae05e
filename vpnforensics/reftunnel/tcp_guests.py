"""Connections that others made: strangers until they turn out to be peers, and who goes when all is full."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable

from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.tcp_link import Link
from vpnforensics.reftunnel.timers import NEVER

HALF_OPEN_S = 20.0
"""In this time a connection must turn out to be a peer's: two calls, if a cookie is demanded between them."""

MAX_CONNECTIONS = 1024
"""That others may hold open."""

_WANTED_DESCRIPTORS = 4096
_RESERVED_DESCRIPTORS = 64


class Guests:
    """Who is connected to us.

    Parameters
    ----------
    limit : int
        How many there may be.
    """

    def __init__(self, limit: int) -> None:
        self.limit = min(limit, MAX_CONNECTIONS)
        self.is_peer: Callable[[Endpoint], bool] = lambda endpoint: True
        """Whether the last authentic message of some peer came from there."""
        self._strangers: dict[Link, float] = {}  # with the time at which they must go, the oldest first
        self._known: dict[Link, None] = {}  # the one heard from longest ago first

    def add(self, link: Link, now: float) -> None:
        """Let in a stranger."""
        self._strangers[link] = now + HALF_OPEN_S

    def is_stranger(self, link: Link) -> bool:
        """Whether nothing authentic has come on this connection yet."""
        return link in self._strangers

    def heard(self, link: Link) -> bool:
        """Note messages on a connection; whether that made a stranger known."""
        if link in self._known:
            del self._known[link]
            self._known[link] = None
        elif link in self._strangers and self.is_peer(link.endpoint):
            del self._strangers[link]
            self._known[link] = None
            return True
        return False

    def remove(self, link: Link) -> None:
        """Forget a connection."""
        self._strangers.pop(link, None)
        self._known.pop(link, None)

    def is_full(self) -> bool:
        """Whether somebody must go before the next is let in."""
        return len(self._strangers) + len(self._known) >= self.limit

    def victim(self) -> Link | None:
        """Who goes first: the oldest stranger, or a peer that has gone elsewhere, or the longest silent."""
        if self._strangers:
            return next(iter(self._strangers))
        left = (link for link in self._known if not self.is_peer(link.endpoint))
        return next(left, next(iter(self._known), None))

    def overdue(self, now: float) -> list[Link]:
        """Strangers whose time is over."""
        return [link for link, until in self._strangers.items() if until <= now]

    def wake_at(self) -> float:
        """When the next stranger's time is over."""
        return next(iter(self._strangers.values()), NEVER)


def descriptors() -> int:
    """How many may be used for connections, after asking for enough; some are kept in reserve."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_WANTED_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (_WANTED_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft) - _RESERVED_DESCRIPTORS
