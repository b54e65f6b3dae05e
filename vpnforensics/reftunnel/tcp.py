"""The messages on TCP, for networks that let no UDP pass, and for experiments that need outer TCP timestamps.

Each message goes behind its length in two bytes, big-endian, as OpenVPN does it; nothing else is added, and
nothing authenticates the stream itself: the messages do that. Whoever has an endpoint connects to it, and
again when the connection is lost; whoever has a listening port accepts. A connection that does not keep up
loses whole messages, as a full queue of a router would: TCP inside TCP otherwise waits twice for everything.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Callable

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.endpoint import Endpoint

_SO_MARK = 36
_LENGTH = struct.Struct(">H")
_RECEIVE_BYTES = 1 << 18
_MAX_QUEUED_BYTES = 1 << 20
_MAX_CONNECTIONS = 1024
"""That others may hold open; one more closes the oldest that never said anything, or the longest silent."""

MAX_MESSAGE_BYTES = 65_535

Take = Callable[[memoryview, int, Endpoint, float], None]


class Deframer:
    """Cuts a byte stream into messages."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[memoryview]:
        """Messages that are whole now; the rest waits for more."""
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        messages = []
        at, size = 0, len(data)
        while at + 2 <= size:
            end = at + 2 + (data[at] << 8 | data[at + 1])
            if end > size:
                break
            messages.append(view[at + 2 : end])
            at = end
        self._rest = data[at:]
        return messages


class _Link:
    """One connection."""

    __slots__ = ("connected", "deframer", "endpoint", "queue", "queued_bytes", "sock")

    def __init__(self, sock: socket.socket, endpoint: Endpoint, *, connected: bool) -> None:
        self.sock = sock
        self.endpoint = endpoint
        self.connected = connected
        self.deframer = Deframer()
        self.queue: list[bytes] = []
        self.queued_bytes = 0


class TcpLinks:
    """All connections of a tunnel.

    Parameters
    ----------
    port : int
        Where to listen; 0 lets the kernel choose.
    mark : int
        Firewall mark of outgoing connections; 0 for none.
    """

    def __init__(self, port: int = 0, *, mark: int = 0) -> None:
        self._mark = mark
        self._links: dict[Endpoint, _Link] = {}
        self._by_fd: dict[int, _Link] = {}
        # Connections that others made, the one heard from longest ago first; strangers have not sent a
        # whole message yet.
        self._guests: dict[_Link, None] = {}
        self._strangers: dict[_Link, None] = {}
        self._poll: select.epoll | None = None
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        try:
            self._listener = socket.create_server(("", port), family=family, backlog=128, dualstack_ipv6=dual)
        except OSError as error:
            raise TunnelError(f"cannot listen on TCP port {port}: {error.strerror}") from error
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]

    def attach(self, poll: select.epoll) -> None:
        """Let this epoll watch the connections."""
        self._poll = poll
        poll.register(self._listener.fileno(), select.EPOLLIN)

    def ready(self, fd: int, events: int, take: Take, now: float) -> None:
        """Act on what epoll says of one of our descriptors."""
        if fd == self._listener.fileno():
            self._accept()
            return
        link = self._by_fd.get(fd)
        if link is None:
            return
        if events & select.EPOLLOUT:
            link.connected = True
            self._drain(link)
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receive(link, take, now)

    def send(self, data: bytes | memoryview, segment: int, endpoint: Endpoint) -> bool:
        """Send messages of `segment` bytes laid end to end; whether the connection takes them."""
        link = self._links.get(endpoint) or self._connect(endpoint)
        if link is None or link.queued_bytes > _MAX_QUEUED_BYTES:
            return False
        parts: list[bytes | memoryview] = []
        for start in range(0, len(data), segment):
            message = data[start : start + segment]
            parts += [_LENGTH.pack(len(message)), message]
        framed = b"".join(parts)
        if link.queue or not link.connected:
            self._enqueue(link, framed)
            return True
        try:
            sent = link.sock.send(framed)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(link)
            return False
        if sent < len(framed):
            self._enqueue(link, framed[sent:])
        return True

    def close(self) -> None:
        """Close all connections and stop listening."""
        for link in list(self._links.values()):
            self._close(link)
        self._listener.close()

    # -- connections --------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            sock, address = self._listener.accept()
        except OSError:
            return
        if len(self._guests) + len(self._strangers) >= _MAX_CONNECTIONS:
            # Strangers that connect and say nothing must not lock out those who have something to say.
            self._close(next(iter(self._strangers or self._guests)))
        host = address[0].removeprefix("::ffff:")
        link = _Link(sock, Endpoint(host, address[1], "tcp"), connected=True)
        self._add(link)
        self._strangers[link] = None

    def _connect(self, endpoint: Endpoint) -> _Link | None:
        family = socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if self._mark:
                sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, self._mark)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect((endpoint.host, endpoint.port))
        except OSError:
            sock.close()
            return None
        link = _Link(sock, endpoint, connected=False)
        self._add(link)
        return link

    def _add(self, link: _Link) -> None:
        link.sock.setblocking(False)
        link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links[link.endpoint] = link
        self._by_fd[link.sock.fileno()] = link
        if self._poll is not None:
            events = select.EPOLLIN if link.connected else select.EPOLLIN | select.EPOLLOUT
            self._poll.register(link.sock.fileno(), events)

    def _close(self, link: _Link) -> None:
        # A peer that lost its connection may have come back from the same port, before we noticed.
        if self._links.get(link.endpoint) is link:
            del self._links[link.endpoint]
        self._by_fd.pop(link.sock.fileno(), None)
        self._guests.pop(link, None)
        self._strangers.pop(link, None)
        link.sock.close()  # epoll forgets a closed descriptor by itself

    def _enqueue(self, link: _Link, data: bytes) -> None:
        link.queue.append(data)
        link.queued_bytes += len(data)
        if self._poll is not None:
            self._poll.modify(link.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _drain(self, link: _Link) -> None:
        try:
            while link.queue:
                sent = link.sock.send(link.queue[0])
                link.queued_bytes -= sent
                if sent < len(link.queue[0]):
                    link.queue[0] = link.queue[0][sent:]
                    return
                link.queue.pop(0)
        except BlockingIOError:
            return
        except OSError:
            self._close(link)
            return
        if self._poll is not None:
            self._poll.modify(link.sock.fileno(), select.EPOLLIN)

    def _receive(self, link: _Link, take: Take, now: float) -> None:
        try:
            data = link.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(link)
            return
        messages = list(link.deframer.feed(data))
        if messages and (link in self._guests or link in self._strangers):
            self._strangers.pop(link, None)
            self._guests.pop(link, None)
            self._guests[link] = None
        for message in messages:
            take(message, len(message), link.endpoint, now)
