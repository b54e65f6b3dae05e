"""Endpoints by name: the one place of the tunnel that asks a resolver."""

from __future__ import annotations

import socket
from typing import Any

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.endpoint import Endpoint, Transport, parse_endpoint, unmapped


def resolve(text: str, transport: Transport) -> Endpoint:
    """Endpoint from an address or a name, and a port.

    Raises
    ------
    TunnelError
        It is neither, or has no port.
    """
    try:
        return parse_endpoint(text, transport)
    except TunnelError:
        host, _, port = text.rpartition(":")
    try:
        # The resolver takes a port modulo 65536; an address with a wrong port is no name to look up either.
        if not 0 < int(port) < 65536:
            raise ValueError
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
    except (OSError, ValueError, UnicodeError):
        raise TunnelError(f"Endpoint {text!r} is not an address, and no name that resolves") from None
    # A name may have addresses of a family that this machine does not reach.
    address = next((each[4] for each in found if _is_routed(each)), found[0][4])
    return Endpoint(unmapped(str(address[0])), int(address[1]), transport)


def _is_routed(found: tuple[Any, ...]) -> bool:
    """Whether the kernel knows a way to what `getaddrinfo` found."""
    try:
        with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
            probe.connect(found[4])  # sends nothing
    except OSError:
        return False
    return True
