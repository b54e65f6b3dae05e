"""Calls get a bounded share of the time: handshakes, true or forged, rubbish, and connections of strangers.

What comes there is taken in slices of a millisecond, after all else that waits, and each slice is followed
by a pause three times as long. A flood then costs a quarter of a core and delays data by a millisecond at
most; what the quarter does not cover, the kernel drops from a queue that is short. A true caller calls again.
"""

from __future__ import annotations

import select
from collections.abc import Callable

from vpnforensics.reftunnel.timers import NEVER

SLICE_S = 0.001
SHARE = 0.25
"""Of one core."""

Take = Callable[[float], bool]
"""Reads once and acts, given the time; returns whether there may be more."""

_EVENTS = select.EPOLLIN | select.EPOLLONESHOT


class Calls:
    """Descriptors on which calls come, each in its turn, and when they may be read again.

    Parameters
    ----------
    clock : callable
        Seconds; they end a slice.
    spent : callable
        Seconds of processor time; they make the pause. A busy machine must not lengthen it.
    """

    def __init__(self, clock: Callable[[], float], spent: Callable[[], float]) -> None:
        self._clock = clock
        self._spent = spent
        self._takes: dict[int, Take] = {}
        self._waiting: dict[int, None] = {}  # in the order of their turns
        self._emptied: set[int] = set()  # to be watched again after the pause
        self._again_at = 0.0

    def attach(self, poll: select.epoll) -> None:
        """Let this epoll watch what is added from now on; each is reported once, then after a pause."""
        self._poll = poll

    def add(self, fd: int, take: Take) -> None:
        """Watch a descriptor."""
        self._takes[fd] = take
        self._poll.register(fd, _EVENTS)

    def remove(self, fd: int) -> None:
        """Forget a descriptor; the epoll has it still, until it is closed."""
        self._takes.pop(fd, None)
        self._waiting.pop(fd, None)
        self._emptied.discard(fd)

    def __contains__(self, fd: int) -> bool:
        return fd in self._takes

    def ready(self, fd: int) -> None:
        """Note that something waits; `work` takes it when nothing else does."""
        self._waiting[fd] = None

    def work(self) -> None:
        """Take what waits, for one slice at most, unless it is a pause."""
        if not self._waiting and not self._emptied:
            return
        start = now = self._clock()
        if now < self._again_at:
            return
        for fd in self._emptied:
            self._poll.modify(fd, _EVENTS)
        self._emptied.clear()
        before = self._spent()
        while self._waiting and now - start < SLICE_S:
            # One after the other, once each: a flood on one must not starve the others.
            fd = next(iter(self._waiting))
            del self._waiting[fd]
            more = self._takes[fd](now)
            if fd in self._takes:  # it may have been closed, or be no stranger's any more
                if more:
                    self._waiting[fd] = None
                else:
                    self._emptied.add(fd)
            now = self._clock()
        self._again_at = self._clock() + (self._spent() - before) * (1 / SHARE - 1)

    def wake_at(self) -> float:
        """When `work` is next needed."""
        return self._again_at if self._waiting or self._emptied else NEVER
