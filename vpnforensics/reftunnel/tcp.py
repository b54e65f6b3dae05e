"""The messages on TCP, for networks that let no UDP pass, and for experiments that need outer TCP timestamps.

Each message goes behind its length in two bytes, big-endian, as OpenVPN does it; nothing else is added, and
nothing authenticates the stream itself: the messages do that. Whoever has an endpoint connects to it, and
again when the connection is lost; whoever has a listening port accepts. A connection that does not keep up
loses whole messages, as a full queue of a router would: TCP inside TCP otherwise waits twice for everything.
The only queue is the kernel's: here waits no more than the rest of a message of which it took a part, so that
what `send` calls taken has been taken.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Callable

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.calls import Calls
from vpnforensics.reftunnel.carrier import ALL_TAKEN, Queue, Refused, all_refused
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.tcp_guests import Guests, descriptors
from vpnforensics.reftunnel.tcp_link import FRAME_BYTES, Action, Link, connecting
from vpnforensics.reftunnel.timers import NEVER

_TCP_NOTSENT_LOWAT = 25
_LENGTH = struct.Struct(">H")
_RECEIVE_BYTES = 1 << 18
_UNSENT_BYTES = 1 << 18
"""That the kernel takes beyond what is on its way (``TCP_NOTSENT_LOWAT``): more only makes packets late."""
_MAX_ACTIONS = 128
_STRANGER_BYTES = 2048
"""That a stranger is read at a time: some handshake messages."""
_ACCEPTS = 64
_ACCEPT_AGAIN_S = 1.0
_DRAIN_STEP_S = 0.002

Take = Callable[[memoryview, int, Endpoint, float], None]


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
        self._links: dict[Endpoint, Link] = {}
        self._by_fd: dict[int, Link] = {}
        self._guests = Guests(descriptors())
        self._poll: select.epoll | None = None
        self._calls: Calls | None = None
        self._accept_again_at = NEVER
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        try:
            self._listener = socket.create_server(("", port), family=family, backlog=128, dualstack_ipv6=dual)
        except OSError as error:
            raise TunnelError(f"cannot listen on TCP port {port}: {error.strerror}") from error
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]

    def attach(
        self,
        poll: select.epoll,
        take: Take,
        *,
        calls: Calls | None = None,
        is_peer: Callable[[Endpoint], bool] = lambda endpoint: True,
    ) -> None:
        """Let this epoll watch the connections.

        Parameters
        ----------
        poll : epoll
            Reports to `ready`.
        take : callable
            Gets each message, with its length, origin and the time.
        calls : Calls, optional
            Reads the connections of strangers.
        is_peer : callable
            Whether the last authentic message of some peer came from an endpoint.
        """
        self._poll = poll
        self._take = take
        self._calls = calls
        self._guests.is_peer = is_peer
        poll.register(self._listener.fileno(), select.EPOLLIN)

    def ready(self, fd: int, events: int, now: float) -> None:
        """Act on what epoll says of one of our descriptors."""
        if fd == self._listener.fileno():
            self._accept(now)
            return
        link = self._by_fd.get(fd)
        if link is None:
            return
        if events & select.EPOLLOUT and not events & select.EPOLLERR:
            self._writable(link)
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receive(link, now)

    def tick(self, now: float) -> None:
        """Close the connections of strangers whose time is over, and accept again after a pause."""
        for link in self._guests.overdue(now):
            self._close(link)
        if now >= self._accept_again_at and self._poll is not None:
            self._accept_again_at = NEVER
            self._poll.modify(self._listener.fileno(), select.EPOLLIN)

    def wake_at(self) -> float:
        """When `tick` is next needed."""
        return min(self._guests.wake_at(), self._accept_again_at)

    def send(self, data: bytes | memoryview, segment: int, endpoint: Endpoint) -> Refused:
        """Send messages of `segment` bytes laid end to end; which of them the kernel did not take."""
        link = self._links.get(endpoint) or self._connect(endpoint)
        if link is None:
            return all_refused(len(data), segment, errno.ENOTCONN)
        if not link.connected:
            return all_refused(len(data), segment, errno.EINPROGRESS)
        parts: list[bytes | memoryview] = [link.rest]
        for start in range(0, len(data), segment):
            message = data[start : start + segment]
            parts += [_LENGTH.pack(len(message)), message]
        framed = b"".join(parts)
        try:
            sent = link.sock.send(framed)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._close(link)
            return all_refused(len(data), segment, error.errno or errno.EIO)
        earlier = len(link.rest)
        if sent == len(framed):
            link.taken_bytes += sent - earlier
            if link.rest:
                self._set_rest(link, b"")
            return ALL_TAKEN
        # A message of which a part was taken must be taken whole, or the stream makes no sense any more.
        if self._guests.is_stranger(link):
            self._close(link)  # it does not read what it asked for
            return all_refused(len(data), segment, errno.EAGAIN)
        step = segment + FRAME_BYTES
        begun = max(0, -(-(sent - earlier) // step))
        end = min(len(framed), earlier + begun * step)
        link.taken_bytes += end - earlier
        self._set_rest(link, framed[sent:end])
        return dict.fromkeys(range(begun, -(-len(data) // segment)), errno.EAGAIN) or ALL_TAKEN

    def when_connected(self, endpoint: Endpoint, action: Action) -> None:
        """Call `action` once: with True when the connection is made, with False if it is not."""
        link = self._links.get(endpoint)
        if link is None or link.connected or len(link.actions) >= _MAX_ACTIONS:
            action(link is not None and link.connected)
        else:
            link.actions.append(action)

    def queue(self, endpoint: Endpoint) -> Queue | None:
        """The connection to an endpoint, if some of what it was given is not acknowledged."""
        link = self._links.get(endpoint)
        return None if link is None or link.acked_bytes() == link.taken_bytes else link

    def drain(self, seconds: float) -> None:
        """Wait until peers have acknowledged what they were given, but not for strangers, and no longer."""
        until = time.monotonic() + seconds
        while [link for link in list(self._links.values()) if self._is_pending(link)]:
            if time.monotonic() >= until:
                return
            time.sleep(_DRAIN_STEP_S)

    def _is_pending(self, link: Link) -> bool:
        if not link.connected or self._guests.is_stranger(link):
            return False
        if link.rest:
            self._writable(link)
        return not link.is_closed and link.acked_bytes() < link.taken_bytes

    def close(self) -> None:
        """Close all connections and stop listening."""
        for link in list(self._links.values()):
            self._close(link)
        self._listener.close()

    # -- connections --------------------------------------------------------------------------------

    def _accept(self, now: float) -> None:
        for _ in range(_ACCEPTS):
            # Strangers that connect and say nothing must not lock out those who have something to say.
            if self._guests.is_full():
                self._evict()
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # It would be reported for ever: no descriptor is left for it, here or on the machine.
                    self._evict()
                    self._pause(now)
                    return
                continue  # that one was gone before it was accepted
            host = address[0].removeprefix("::ffff:")
            link = Link(sock, Endpoint(host, address[1], "tcp"), connected=True)
            self._guests.add(link, now)
            self._add(link)

    def _evict(self) -> None:
        victim = self._guests.victim()
        if victim is not None:
            self._close(victim)

    def _pause(self, now: float) -> None:
        """Leave those waiting who want to connect, for a while."""
        self._accept_again_at = now + _ACCEPT_AGAIN_S
        if self._poll is not None:
            self._poll.modify(self._listener.fileno(), 0)

    def _connect(self, endpoint: Endpoint) -> Link | None:
        link = connecting(endpoint, self._mark)
        if link is not None:
            self._add(link)
        return link

    def _add(self, link: Link) -> None:
        link.sock.setblocking(False)
        link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._links[link.endpoint] = link
        self._by_fd[link.sock.fileno()] = link
        if self._calls is not None and self._guests.is_stranger(link):
            self._calls.add(link.sock.fileno(), lambda now: self._receive(link, now))
        elif self._poll is not None:
            events = select.EPOLLIN if link.connected else select.EPOLLIN | select.EPOLLOUT
            self._poll.register(link.sock.fileno(), events)

    def _close(self, link: Link) -> None:
        # A peer that lost its connection may have come back from the same port, before we noticed.
        if self._links.get(link.endpoint) is link:
            del self._links[link.endpoint]
        self._by_fd.pop(link.sock.fileno(), None)
        if self._calls is not None:
            self._calls.remove(link.sock.fileno())
        self._guests.remove(link)
        link.close()  # epoll forgets a closed descriptor by itself
        link.act(connected=False)

    def _set_rest(self, link: Link, rest: bytes) -> None:
        if bool(rest) != bool(link.rest):
            self._watch(link, for_room=bool(rest))
        link.rest = rest

    def _watch(self, link: Link, *, for_room: bool) -> None:
        if self._poll is not None:
            events = select.EPOLLIN | select.EPOLLOUT if for_room else select.EPOLLIN
            self._poll.modify(link.sock.fileno(), events)

    def _writable(self, link: Link) -> None:
        if not link.connected:
            link.connected = True
            self._watch(link, for_room=False)
            link.act(connected=True)
            return
        try:
            sent = link.sock.send(link.rest) if link.rest else 0
        except BlockingIOError:
            return
        except OSError:
            self._close(link)
            return
        self._set_rest(link, link.rest[sent:])

    def _receive(self, link: Link, now: float) -> bool:
        """Read once; whether there may be more."""
        size = _STRANGER_BYTES if self._guests.is_stranger(link) else _RECEIVE_BYTES
        try:
            data = link.sock.recv(size)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._close(link)
            return False
        for message in link.deframer.feed(data):
            self._take(message, len(message), link.endpoint, now)
        if link.deframer.is_nonsense:
            self._close(link)
            return False
        if self._guests.heard(link) and self._calls is not None and self._poll is not None:
            self._calls.remove(link.sock.fileno())
            self._poll.modify(link.sock.fileno(), select.EPOLLIN)
        return True
