"""One TCP connection: the messages of its stream, and how much of what it was given has left."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from collections.abc import Callable

from vpnforensics.reftunnel.endpoint import Endpoint

FRAME_BYTES = 2
"""The length before each message."""

MAX_MESSAGE_BYTES = 10_000
"""Above the largest MTU that a configuration may name; a stranger must not make us keep more."""

_SO_MARK = 36
_SIOCOUTQ, _SIOCOUTQNSD = 0x5411, 0x894B
"""Bytes that are not acknowledged; bytes that were never sent."""
_SIZE = struct.Struct("=i")
_DISCARD = struct.pack("=ii", 1, 0)
"""``struct linger``: closing resets the connection."""

Action = Callable[[bool], None]


class Deframer:
    """Cuts a byte stream into messages.

    `is_nonsense` is true once a length came that no message has: the stream is not ours, or broken.
    """

    __slots__ = ("_rest", "is_nonsense")

    def __init__(self) -> None:
        self._rest = b""
        self.is_nonsense = False

    def feed(self, data: bytes) -> list[memoryview]:
        """Messages that are whole now; the rest waits for more."""
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        messages: list[memoryview] = []
        at, size = 0, len(data)
        while at + 2 <= size:
            length = data[at] << 8 | data[at + 1]
            if not length or length > MAX_MESSAGE_BYTES:
                self.is_nonsense = True
                self._rest = b""
                return messages
            end = at + 2 + length
            if end > size:
                break
            messages.append(view[at + 2 : end])
            at = end
        self._rest = data[at:]
        return messages


class Link:
    """One connection."""

    __slots__ = (
        "_acked_bytes",
        "_sent_bytes",
        "actions",
        "connected",
        "deframer",
        "endpoint",
        "is_closed",
        "rest",
        "sock",
        "taken_bytes",
    )

    def __init__(self, sock: socket.socket, endpoint: Endpoint, *, connected: bool) -> None:
        self.sock = sock
        self.endpoint = endpoint
        self.connected = connected
        self.deframer = Deframer()
        self.rest = b""  # of a message of which the kernel took the beginning
        self.actions: list[Action] = []  # to be called when it is connected, or lost
        self.taken_bytes = 0  # whole messages, framed, the rest of the last among them
        self.is_closed = False
        self._sent_bytes = self._acked_bytes = 0

    def sent_bytes(self) -> int:
        """How many of the bytes taken were sent, or were lost on the way to the network card."""
        self._count()
        return self._sent_bytes

    def acked_bytes(self) -> int:
        """How many of the bytes taken the other end has acknowledged."""
        self._count()
        return self._acked_bytes

    def act(self, *, connected: bool) -> None:
        """Tell those who wait for the connection that it is there, or lost."""
        actions, self.actions = self.actions, []
        for action in actions:
            action(connected)

    def close(self) -> None:
        """Close the connection; what was not sent by now never is."""
        if self.sent_bytes() < self.taken_bytes:
            # It is a lie otherwise: the kernel would go on sending a closed connection's queue.
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
        self.is_closed = True
        self.sock.close()

    def _count(self) -> None:
        if not self.is_closed:
            given = self.taken_bytes - len(self.rest)
            self._sent_bytes = given - self._queued_bytes(_SIOCOUTQNSD)
            self._acked_bytes = given - self._queued_bytes(_SIOCOUTQ)

    def _queued_bytes(self, which: int) -> int:
        try:
            (size,) = _SIZE.unpack(fcntl.ioctl(self.sock, which, bytes(_SIZE.size)))
        except (OSError, ValueError):  # closed by somebody else
            return 0
        return int(size)


def connecting(endpoint: Endpoint, mark: int) -> Link | None:
    """A connection that is being made, with a firewall mark if that is not 0; None if none can be."""
    family = socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect((endpoint.host, endpoint.port))
    except OSError:
        sock.close()
        return None
    return Link(sock, endpoint, connected=False)
