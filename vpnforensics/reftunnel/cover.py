"""Constant-rate traffic: to every connected peer one datagram at every tick, whether there is one or not.

Packets wait in a queue for their tick; when none waits, an empty one of the same size goes. An observer
outside sees a clock. The clock has the resolution of the event loop, 1 ms: above 1000 a second, datagrams
leave several at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from vpnforensics.reftunnel.drops import Drop
from vpnforensics.reftunnel.timers import NEVER

if TYPE_CHECKING:
    from vpnforensics.reftunnel.device import Device
    from vpnforensics.reftunnel.peers import Peer

QUEUED_PACKETS = 1024
"""Packets that may wait for their tick; the newest give way."""

_COVER = b""


class Cover:
    """Queues of packets and their clock.

    Parameters
    ----------
    device : Device
        Its peers get the traffic, while they are connected.
    rate_hz : float
        Datagrams a second to each.
    emit : callable
        Seals and sends packets of a peer now; an empty packet stands for cover.
    """

    def __init__(
        self, device: Device, rate_hz: float, emit: Callable[[Peer, list[bytes], float], None]
    ) -> None:
        self._device = device
        self._interval_s = 1.0 / rate_hz
        self._emit = emit
        self._queues: dict[Peer, deque[bytes]] = {}
        self._next_at: float | None = None
        self._emitting = False

    def hold(self, peer: Peer, rows: list[memoryview], lengths: list[int]) -> bool:
        """Queue packets for their ticks; False if they are on their way out already."""
        if self._emitting:
            return False
        queue = self._queues.setdefault(peer, deque())
        for row, length in zip(rows, lengths, strict=False):
            if len(queue) >= QUEUED_PACKETS:
                self._device.drops[Drop.QUEUE_FULL] += 1
            else:
                queue.append(bytes(row[:length]))
        return True

    def tick(self, now: float) -> None:
        """Send what is due."""
        if self._next_at is None:
            self._next_at = now
        due = int((now - self._next_at) / self._interval_s) + 1 if now >= self._next_at else 0
        if not due:
            return
        self._next_at += due * self._interval_s
        # After a stall the missed ticks are not made up for: a burst would show that there was a stall.
        due = min(due, max(1, int(0.01 / self._interval_s)))
        self._emitting = True
        try:
            for peer in self._device.peers.values():
                queue = self._queues.setdefault(peer, deque())
                if self._device.sending_session(peer, now) is None:
                    if queue:  # a first packet asks for the session
                        self._emit(peer, [queue.popleft()], now)
                    continue
                self._emit(peer, [queue.popleft() if queue else _COVER for _ in range(due)], now)
        finally:
            self._emitting = False

    def wake_at(self) -> float:
        """When `tick` is next needed."""
        return NEVER if self._next_at is None else self._next_at
