"""Rows of messages that wait in the queue of a TCP connection: written once it is known what became of them.

A connection takes bytes, the kernel holds them, and they may be lost with it. So a row waits until the other
end has acknowledged its message, or until the connection is closed and it has not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vpnforensics.reftunnel.carrier import Queue
from vpnforensics.reftunnel.journal_block import UNACKED, UNSENT, Run
from vpnforensics.reftunnel.tcp_link import FRAME_BYTES

Write = Callable[[Mapping[int, int]], None]
"""Writes the rows of some messages, given the numbers and kinds of those that did not arrive."""


@dataclass(frozen=True, slots=True)
class _Held:
    run: Run
    sizes: Sequence[int]
    write: Write

    def settle(self, sent_bytes: int, acked_bytes: int) -> None:
        kinds, end = dict.fromkeys(self.run.refused, UNSENT), self.run.end_bytes
        for number in reversed(range(len(self.sizes))):
            if number not in self.run.refused:
                if end <= acked_bytes:
                    break
                kinds[number] = UNACKED if end <= sent_bytes else UNSENT
                end -= self.sizes[number] + FRAME_BYTES
        self.write(kinds)


class HeldRows:
    """Rows by the connection that their messages wait in; none waits longer than the connection lives."""

    def __init__(self) -> None:
        self._by_queue: dict[Queue, deque[_Held]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_queue)

    def add(self, run: Run, sizes: Sequence[int], write: Write) -> None:
        """Keep rows until the fate of their messages is known.

        Parameters
        ----------
        run : Run
            The call that gave the messages to a connection.
        sizes : sequence of int
            Bytes of each message.
        write : callable
            Gets the numbers and kinds of those that did not arrive.
        """
        assert run.queue is not None
        self._by_queue.setdefault(run.queue, deque()).append(_Held(run, sizes, write))

    def settle(self) -> None:
        """Write the rows of all messages whose fate is known now."""
        for queue, waiting in list(self._by_queue.items()):
            sent, acked = queue.sent_bytes(), queue.acked_bytes()
            while waiting and (queue.is_closed or waiting[0].run.end_bytes <= acked):
                waiting.popleft().settle(sent, acked)
            if not waiting:
                del self._by_queue[queue]
