"""What carries messages to a peer, and what it says of each: taken by the kernel, or not and why."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from vpnforensics.reftunnel.endpoint import Endpoint

Refused = Mapping[int, int]
"""Of the datagrams of one call those that the kernel did not take: number in the call -> ``errno``."""

ALL_TAKEN: Refused = MappingProxyType({})


def all_refused(size: int, segment: int, error: int) -> Refused:
    """None of the datagrams of `segment` bytes in `size` bytes was taken."""
    return dict.fromkeys(range(max(1, -(-size // segment))), error)


class Queue(Protocol):
    """What a connection was given and the other end has not acknowledged: it may be lost with it."""

    is_closed: bool
    taken_bytes: int
    """Given to it so far."""

    def sent_bytes(self) -> int:
        """Of those, how many were sent once at least, or were lost on the way to the network card."""

    def acked_bytes(self) -> int:
        """Of those, how many the other end has acknowledged."""


class Carrier(Protocol):
    """`UdpSockets` or `TcpLinks`."""

    port: int

    def send(self, data: bytes | memoryview, segment: int, endpoint: Endpoint) -> Refused:
        """Send datagrams of `segment` bytes laid end to end, the last may be shorter.

        Returns
        -------
        Refused
            Empty, if the kernel took all. ``EINPROGRESS`` stands for a connection that is being made: the
            same call may go well in a moment.
        """

    def queue(self, endpoint: Endpoint) -> Queue | None:
        """What waits on the way to an endpoint; None if nothing does, as with datagrams."""

    def drain(self, seconds: float) -> None:
        """Wait, at most so long, until what waits on the way to peers has arrived."""

    def close(self) -> None:
        """Close all sockets."""
