"""Datagrams to and from the outer network, many in one system call.

With UDP segmentation offload (``UDP_SEGMENT``, udp(7), Linux 4.18) one ``sendmsg`` takes a buffer of equal
datagrams laid end to end; with ``UDP_GRO`` one ``recvmsg`` returns such a buffer. On the wire they are
ordinary datagrams. In CPython, where a system call costs about as much as sealing a packet, this is the
largest single gain.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.endpoint import Endpoint

_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32
_SO_MARK = 36

_BUFFER_BYTES = 8 << 20
_CONTROL_BYTES = socket.CMSG_SPACE(4)
_ENDPOINTS_REMEMBERED = 4096

MAX_SEGMENTS = 64
"""Most datagrams in one call (``UDP_MAX_SEGMENTS`` of every kernel that has the option)."""

MAX_SEND_BYTES = 65_000
"""Most bytes in one call: an IP packet's worth, less headers."""

_segment_size = struct.Struct("=H").pack
_gro_size = struct.Struct("=i").unpack_from


@dataclass(frozen=True, slots=True)
class Received:
    """What one receive call gave: `size` bytes, in datagrams of `segment` bytes, the last maybe shorter."""

    size: int
    segment: int
    endpoint: Endpoint


def _open(family: socket.AddressFamily, port: int, mark: int, offload: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        for option, fallback in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, fallback, _BUFFER_BYTES)
        if offload:
            sock.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))  # noqa: S104 (a VPN listens)
    except OSError:
        sock.close()
        raise
    return sock


class UdpSockets:
    """One IPv4 socket and, where the kernel has IPv6, one IPv6 socket on the same port.

    Parameters
    ----------
    port : int
        0 lets the kernel choose.
    mark : int
        Firewall mark of outgoing packets, by which a full tunnel keeps them off itself; 0 for none.
    offload : bool
        Whether to use segmentation and receive offload.
    """

    def __init__(self, port: int = 0, *, mark: int = 0, offload: bool = True) -> None:
        try:
            self._v4 = _open(socket.AF_INET, port, mark, offload)
        except OSError as error:
            raise TunnelError(f"cannot listen on UDP port {port}: {error.strerror}") from error
        self.port: int = self._v4.getsockname()[1]
        self._v6: socket.socket | None
        try:
            self._v6 = _open(socket.AF_INET6, self.port, mark, offload)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                self._v4.close()
                raise TunnelError(f"cannot listen on UDP port {self.port}: {error.strerror}") from error
            self._v6 = None  # a kernel without IPv6
        self.offload = offload
        self._endpoints: dict[object, Endpoint] = {}

    def sockets(self) -> list[socket.socket]:
        """Those that are open."""
        return [self._v4] if self._v6 is None else [self._v4, self._v6]

    def receive(self, sock: socket.socket, buffer: bytearray) -> Received | None:
        """Next datagrams, or None if there are none now."""
        try:
            size, control, _, address = sock.recvmsg_into([buffer], _CONTROL_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return None  # an ICMP error of an earlier send: the timers deal with dead peers
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            endpoint = self._remember(address)
        segment: int = _gro_size(control[0][2])[0] if control else size
        return Received(size, segment, endpoint)

    def _remember(self, address: tuple[str, int]) -> Endpoint:
        if len(self._endpoints) >= _ENDPOINTS_REMEMBERED:
            self._endpoints.clear()  # a flood from forged addresses must not grow the memory
        endpoint = self._endpoints[address] = Endpoint(address[0], address[1])
        return endpoint

    def send(self, data: bytes | memoryview, segment: int, endpoint: Endpoint) -> bool:
        """Send datagrams of `segment` bytes laid end to end; whether the kernel took them."""
        sock = self._v6 if endpoint.is_ipv6 else self._v4
        if sock is None:
            return False
        address = (endpoint.host, endpoint.port)
        try:
            if len(data) <= segment:
                sock.sendto(data, address)
            elif self.offload:
                sock.sendmsg([data], [(_SOL_UDP, _UDP_SEGMENT, _segment_size(segment))], 0, address)
            else:
                for start in range(0, len(data), segment):
                    sock.sendto(data[start : start + segment], address)
        except OSError:
            return False  # no route, or a queue is full: as good as lost on the way
        return True

    def close(self) -> None:
        """Close both."""
        for sock in self.sockets():
            sock.close()
