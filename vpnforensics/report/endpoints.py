"""Which endpoints and names a user means: an address, a network, a port, both, or a name."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Pattern:
    """What was asked for; a part that is None or empty may be anything."""

    network: Network | None = None
    port: int | None = None
    name: str = ""

    def has_endpoint(self, endpoint: str) -> bool:
        """Whether an ``addr:port`` of the result is meant."""
        if self.name:
            return False
        address, port = parted(endpoint)
        if self.port is not None and port != self.port:
            return False
        return self.network is None or _within(address, self.network)

    def has_name(self, names: Iterable[str]) -> bool:
        """Whether one of these names is meant: it itself, one below it, or one that its ``*`` stand for."""
        if not self.name:
            return False
        return any(
            name == self.name or name.endswith(f".{self.name}") or fnmatchcase(name, self.name)
            for name in names
        )


def pattern(text: str) -> Pattern:
    """What a user means by a text.

    Raises
    ------
    ValueError
        It is empty, or a port that is none.

    >>> pattern("192.0.2.0/24").has_endpoint("192.0.2.60:443"), pattern(":80").has_endpoint("192.0.2.60:443")
    (True, False)
    >>> pattern("[2001:db8::1]:443")
    Pattern(network=IPv6Network('2001:db8::1/128'), port=443, name='')
    >>> pattern("Example.org").has_name(["www.example.org"])
    True
    """
    text = text.strip()
    if not text:
        raise ValueError("an empty text names no endpoint")
    network = _network(text)
    if network is not None:
        return Pattern(network)
    address, colon, port = text.rpartition(":")
    if port.isascii() and port.isdecimal() and (not address or colon):
        if int(port) > 65_535:
            raise ValueError(f"{port} is no port")
        network = _network(address) if address else None
        if network is not None or not address:
            return Pattern(network, int(port))
    return Pattern(name=text.lower().rstrip("."))


def parted(endpoint: str) -> tuple[str, int]:
    """Address, without brackets, and port of an ``addr:port`` of the result; -1 where it has no port."""
    address, _, port = endpoint.rpartition(":")
    return address.strip("[]"), int(port) if port.isdecimal() else -1


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def _within(address: str, network: Network) -> bool:
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:
        return False
