"""Cryptokey routing: which peer owns an inner address.

One table serves both directions (https://www.wireguard.com/papers/wireguard.pdf, section 2): a packet
goes to the peer whose allowed network holds its destination, longest prefix first, and one that came
from a peer is accepted only if its source would be routed back to that peer.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vpnforensics.reftunnel.peers import Peer

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_CACHED_ADDRESSES = 65_536

IPV4_HEADER_BYTES = 20
IPV6_HEADER_BYTES = 40


class AllowedIPs:
    """Longest-prefix table over both address families."""

    def __init__(self) -> None:
        # Address width in bytes -> prefix length, longest first -> network number -> peer.
        self._tables: dict[int, dict[int, dict[int, Peer]]] = {4: {}, 16: {}}
        self._cache: dict[bytes, Peer | None] = {}

    def add(self, network: IPNetwork, peer: Peer) -> None:
        """Give a network to a peer; it is taken from whoever had exactly it, as `wg` does."""
        width = network.max_prefixlen // 8
        table = self._tables[width]
        shift = network.max_prefixlen - network.prefixlen
        table.setdefault(network.prefixlen, {})[int(network.network_address) >> shift] = peer
        self._tables[width] = dict(sorted(table.items(), reverse=True))
        self._cache.clear()

    def remove(self, peer: Peer) -> None:
        """Take all networks from a peer."""
        for width, table in self._tables.items():
            kept = {
                length: {number: owner for number, owner in networks.items() if owner is not peer}
                for length, networks in table.items()
            }
            self._tables[width] = {length: networks for length, networks in kept.items() if networks}
        self._cache.clear()

    def owner(self, address: bytes) -> Peer | None:
        """Peer of an address of 4 or 16 bytes."""
        try:
            return self._cache[address]
        except KeyError:
            pass
        found = self._search(address)
        if len(self._cache) >= _CACHED_ADDRESSES:
            self._cache.clear()  # a scan of the address space must not grow the memory
        self._cache[address] = found
        return found

    def _search(self, address: bytes) -> Peer | None:
        number = int.from_bytes(address, "big")
        bits = 8 * len(address)
        for length, networks in self._tables[len(address)].items():
            peer = networks.get(number >> (bits - length))
            if peer is not None:
                return peer
        return None


def destination(packet: bytes | memoryview) -> bytes | None:
    """Destination address of an IP packet, or None if it is not IPv4 or IPv6."""
    size = len(packet)
    if size >= IPV4_HEADER_BYTES and packet[0] >> 4 == 4:
        return bytes(packet[16:20])
    if size >= IPV6_HEADER_BYTES and packet[0] >> 4 == 6:
        return bytes(packet[24:40])
    return None


def source_and_length(padded: bytes | memoryview) -> tuple[bytes, int] | None:
    """Source address and true length of an inner packet that may be followed by padding.

    Returns
    -------
    tuple of bytes and int, or None
        None if it is not IP, or claims to be longer than it is.
    """
    size = len(padded)
    if size >= IPV4_HEADER_BYTES and padded[0] >> 4 == 4:
        length = padded[2] << 8 | padded[3]
        if IPV4_HEADER_BYTES <= length <= size:
            return bytes(padded[12:16]), length
    elif size >= IPV6_HEADER_BYTES and padded[0] >> 4 == 6:
        length = IPV6_HEADER_BYTES + (padded[4] << 8 | padded[5])
        if length <= size:
            return bytes(padded[8:24]), length
    return None
