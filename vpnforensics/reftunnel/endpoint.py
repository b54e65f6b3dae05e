"""Where a peer is on the outer network. The core only compares, remembers and hashes endpoints."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from vpnforensics.errors import TunnelError

Transport = Literal["udp", "tcp"]


@dataclass(frozen=True)
class Endpoint:
    """An outer address.

    Parameters
    ----------
    host : str
        Numeric IPv4 or IPv6 address, no brackets.
    port : int
        UDP or TCP port.
    transport : {"udp", "tcp"}
        Over TCP, the endpoint names the connection by its remote end.
    """

    host: str
    port: int
    transport: Transport = "udp"

    @cached_property
    def packed(self) -> bytes:
        """Address and port as bytes: what a cookie is bound to."""
        # Not `ipaddress`: a flood of handshakes from ever new ports asks for this each time.
        family = socket.AF_INET6 if self.is_ipv6 else socket.AF_INET
        return socket.inet_pton(family, self.host.split("%")[0]) + struct.pack(">H", self.port)

    @property
    def is_ipv6(self) -> bool:
        """Whether the outer packets are IPv6."""
        return ":" in self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.is_ipv6 else self.host
        return f"{host}:{self.port}" + ("/tcp" if self.transport == "tcp" else "")


def parse_endpoint(text: str, transport: Transport = "udp") -> Endpoint:
    """Endpoint from ``192.0.2.1:51820`` or ``[2001:db8::1]:51820``.

    Raises
    ------
    TunnelError
        Not an address and port; names are not looked up here (the rim resolves them first).
    """
    host, separator, port = text.strip().rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(bare)
        number = int(port)
    except ValueError:
        raise TunnelError(f"{text!r} is not an address and port") from None
    if not separator or not 0 < number < 65536:
        raise TunnelError(f"{text!r} has no valid port")
    return Endpoint(unmapped(bare), number, transport)


def unmapped(host: str) -> str:
    """An IPv4 address that is written as an IPv6 one (``::ffff:192.0.2.1``) as itself; others as they are.

    Raises
    ------
    ValueError
        Not an address.
    """
    mapped = getattr(ipaddress.ip_address(host), "ipv4_mapped", None)
    return host if mapped is None else str(mapped)
