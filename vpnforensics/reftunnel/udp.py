"""Datagrams to and from the outer network, many in one system call.

With UDP segmentation offload (``UDP_SEGMENT``, udp(7), Linux 4.18) one ``sendmsg`` takes a buffer of equal
datagrams laid end to end; with ``UDP_GRO`` one ``recvmsg`` returns such a buffer. On the wire they are
ordinary datagrams. In CPython, where a system call costs about as much as sealing a packet, this is the
largest single gain.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.carrier import ALL_TAKEN, Refused, all_refused
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.sorting import CALLS, COOKIES, DATA, sort

_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32
_SO_MARK = 36
_SO_TIMESTAMPNS = 64  # the one with 64-bit seconds everywhere (Linux 5.1)
_SO_MEMINFO = 55
_MEMINFO_DROPS = 8
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_OMIT = 5

_PROBE_AGAIN_S = 5.0
"""How long batches to an endpoint are sent datagram by datagram, after one that the kernel refused."""

_BUFFER_BYTES = 8 << 20
_CALLS_BUFFER_BYTES = 512 << 10
"""Some hundred handshake messages: more would only be answered too late."""
_CONTROL_BYTES = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(16)
_ENDPOINTS_REMEMBERED = 4096
_ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 (a VPN listens)

_NO_BATCH = {errno.EINVAL, errno.EMSGSIZE, errno.EIO}

MAX_SEGMENTS = 64
"""Most datagrams in one call (``UDP_MAX_SEGMENTS`` of every kernel that has the option)."""

MAX_SEND_BYTES = 65_000
"""Most bytes in one call: an IP packet's worth, less headers."""

_segment_size = struct.Struct("=H").pack
_gro_size = struct.Struct("=i").unpack_from
_timespec = struct.Struct("@qq").unpack_from


@dataclass(frozen=True, slots=True)
class Received:
    """What one receive call gave: `size` bytes, in datagrams of `segment` bytes, the last maybe shorter.

    `at_ns` is when the kernel received the first of them, nanoseconds since the epoch; 0 if not asked for.
    """

    size: int
    segment: int
    endpoint: Endpoint
    at_ns: int = 0


def _open(
    family: socket.AddressFamily,
    port: int,
    mark: int,
    offload: bool,
    receive_bytes: int = _BUFFER_BYTES,
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        else:
            # No "don't fragment", and what ICMP says of the path's MTU is not believed: anybody can forge it.
            # Too long datagrams are cut on the way, as those of the kernel's WireGuard.
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_OMIT)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        for option, fallback, size in (
            (_SO_RCVBUFFORCE, socket.SO_RCVBUF, receive_bytes),
            (_SO_SNDBUFFORCE, socket.SO_SNDBUF, _BUFFER_BYTES),
        ):
            try:
                sock.setsockopt(socket.SOL_SOCKET, option, size)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, fallback, size)
        if offload:
            sock.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((_ANY[family], port))
    except OSError:
        sock.close()
        raise
    return sock


def _open_group(
    family: socket.AddressFamily, port: int, mark: int, offload: bool
) -> tuple[socket.socket, list[socket.socket]]:
    """Socket for data, and those for calls, on one port that was free; one if the kernel cannot sort."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((_ANY[family], port))
        port = probe.getsockname()[1]
    sizes = {CALLS: _CALLS_BUFFER_BYTES, DATA: _BUFFER_BYTES, COOKIES: _CALLS_BUFFER_BYTES}
    group = [_open(family, port, mark, offload, sizes[number]) for number in range(len(sizes))]
    data, calls = group[DATA], [group[COOKIES], group[CALLS]]
    try:
        sort(data, ())
    except OSError:
        for sock in calls:
            sock.close()
        return data, []
    return data, calls


class UdpSockets:
    """Sockets for IPv4 and, where the kernel has it, IPv6, all on one port: several for each, if it can sort.

    Parameters
    ----------
    port : int
        0 lets the kernel choose.
    mark : int
        Firewall mark of outgoing packets, by which a full tunnel keeps them off itself; 0 for none.
    offload : bool
        Whether to use segmentation and receive offload.
    stamps : bool
        Whether to ask the kernel when it received each datagram; of the first ones it may say when they were
        read.
    """

    def __init__(self, port: int = 0, *, mark: int = 0, offload: bool = True, stamps: bool = False) -> None:
        try:
            self._v4, self._calls = _open_group(socket.AF_INET, port, mark, offload)
        except OSError as error:
            raise TunnelError(f"cannot listen on UDP port {port}: {error.strerror}") from error
        self.port: int = self._v4.getsockname()[1]
        self._v6: socket.socket | None
        try:
            self._v6, calls = _open_group(socket.AF_INET6, self.port, mark, offload)
            self._calls += calls
        except OSError as error:
            self._v6 = None
            if error.errno == errno.EADDRINUSE:
                self.close()
                raise TunnelError(f"cannot listen on UDP port {self.port}: {error.strerror}") from error
            # else a kernel without IPv6
        if stamps:
            for sock in self.sockets():
                sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.offload = offload
        self._endpoints: dict[object, Endpoint] = {}
        self._narrow: dict[Endpoint, tuple[int, float]] = {}

    def sockets(self) -> list[socket.socket]:
        """Those that are open."""
        return [*self.data_sockets(), *self.call_sockets()]

    def data_sockets(self) -> list[socket.socket]:
        """Those for data of live sessions, or for all if the kernel cannot sort."""
        return [self._v4] if self._v6 is None else [self._v4, self._v6]

    def call_sockets(self) -> list[socket.socket]:
        """Those for everything else."""
        return list(self._calls)

    def expect(self, indices: Iterable[int]) -> None:
        """Take what is sent to these receiver indices for data."""
        wanted = list(indices)
        for sock in self.data_sockets() if self._calls else ():
            with contextlib.suppress(OSError):  # out of memory: the earlier program stays
                sort(sock, wanted)

    def overflowed(self) -> int:
        """Datagrams that the kernel dropped because a queue was full."""
        return sum(
            struct.unpack_from("=9I", sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))[_MEMINFO_DROPS]
            for sock in self.sockets()
        )

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
        segment, at_ns = size, 0
        for _, kind, value in control:
            if kind == _UDP_GRO:
                (segment,) = _gro_size(value)
            elif kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _timespec(value)
                at_ns = seconds * 1_000_000_000 + nanoseconds
        return Received(size, segment, endpoint, at_ns)

    def _remember(self, address: tuple[str, int]) -> Endpoint:
        if len(self._endpoints) >= _ENDPOINTS_REMEMBERED:
            self._endpoints.clear()  # a flood from forged addresses must not grow the memory
        endpoint = self._endpoints[address] = Endpoint(address[0], address[1])
        return endpoint

    def send(self, data: bytes | memoryview, segment: int, endpoint: Endpoint) -> Refused:
        """Send datagrams of `segment` bytes laid end to end; which of them the kernel did not take."""
        sock = self._v6 if endpoint.is_ipv6 else self._v4
        if sock is None:
            return all_refused(len(data), segment, errno.EAFNOSUPPORT)
        address = (endpoint.host, endpoint.port)
        if len(data) > segment and self.offload and not self._is_narrow(segment, endpoint):
            try:
                sock.sendmsg([data], [(_SOL_UDP, _UDP_SEGMENT, _segment_size(segment))], 0, address)
            except OSError as error:
                # The kernel takes a batch whole or not at all, and never one of which the datagrams need
                # to be cut to fit the link (EINVAL, EMSGSIZE), or that the network card cannot do (EIO).
                if error.errno in _NO_BATCH and len(self._narrow) < _ENDPOINTS_REMEMBERED:
                    self._narrow[endpoint] = segment, time.monotonic() + _PROBE_AGAIN_S
            else:
                return ALL_TAKEN
        refused = {}
        for number, start in enumerate(range(0, len(data) or 1, segment or 1)):
            try:
                sock.sendto(data[start : start + segment], address)
            except OSError as error:
                refused[number] = error.errno or errno.EIO  # no route, a firewall, a full queue
        return refused or ALL_TAKEN

    def _is_narrow(self, segment: int, endpoint: Endpoint) -> bool:
        """Whether batches of this segment failed a moment ago; smaller ones are let try."""
        found = self._narrow.get(endpoint)
        if found is None or segment < found[0]:
            return False
        if time.monotonic() < found[1]:
            return True
        del self._narrow[endpoint]
        return False

    def narrow(self) -> dict[Endpoint, int]:
        """Endpoints whose way takes no batches now, and the bytes of the datagrams that were refused."""
        now = time.monotonic()
        return {endpoint: size for endpoint, (size, until) in self._narrow.items() if now < until}

    def queue(self, endpoint: Endpoint) -> None:
        """Nothing: what the kernel took has left."""

    def drain(self, seconds: float) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Close both."""
        for sock in self.sockets():
            sock.close()
