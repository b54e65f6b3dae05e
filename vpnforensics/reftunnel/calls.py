"""The queue of calls gets a bounded share of the time: handshakes, true or forged, and rubbish.

What comes there is taken in slices of a millisecond, after all else that waits, and each slice is followed
by a pause three times as long. A flood then costs a quarter of a core and delays data by a millisecond at
most; what the quarter does not cover, the kernel drops from a queue that is short. A true caller calls again.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from vpnforensics.reftunnel.timers import NEVER

SLICE_S = 0.001
SHARE = 0.25
"""Of one core."""


class Calls:
    """Sockets of calls, and when they may be read again.

    Parameters
    ----------
    sockets : list of socket
        The queues.
    take : callable
        Reads and acts once; whether there was anything.
    clock : callable
        Seconds; they end a slice.
    spent : callable
        Seconds of processor time; they make the pause. A busy machine must not lengthen it.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        take: Callable[[socket.socket, float], bool],
        clock: Callable[[], float],
        spent: Callable[[], float],
    ) -> None:
        self._by_fd = {sock.fileno(): sock for sock in sockets}
        self._take = take
        self._clock = clock
        self._spent = spent
        self._order = list(self._by_fd)
        self._waiting: set[int] = set()
        self._again_at = NEVER

    def attach(self, poll: select.epoll) -> None:
        """Let this epoll watch the queues; each is reported once, and then again after its pause."""
        self._poll = poll
        for fd in self._by_fd:
            poll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)

    def __contains__(self, fd: int) -> bool:
        return fd in self._by_fd

    def ready(self, fd: int) -> None:
        """Note that something waits; `work` takes it when nothing else does."""
        self._waiting.add(fd)

    def work(self) -> None:
        """Take what waits, for one slice at most, and pause."""
        if not self._waiting:
            if self._clock() >= self._again_at:
                self._again_at = NEVER
                for fd in self._by_fd:
                    self._poll.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)
            return
        start, before = self._clock(), self._spent()
        now = start
        # Each queue is first in its turn: a flood of one must not starve the others.
        self._order.append(self._order.pop(0))
        for fd in self._order:
            while fd in self._waiting and now - start < SLICE_S and self._take(self._by_fd[fd], now):
                now = self._clock()
        self._waiting.clear()
        self._again_at = self._clock() + (self._spent() - before) * (1 / SHARE - 1)

    def wake_at(self) -> float:
        """When `work` is next needed."""
        return self._again_at
