"""Countermeasures on inner packets, where they leave the tunnel for the Internet.

A VPN that only forwards lets a client's TCP timestamps, IP IDs and hop distance through, and those tie the
client's flows to each other and to its other traffic. This rewrites them, per flow, as a pf ``scrub`` would:

=============== =============================================== ========================================
switch          does                                            costs
=============== =============================================== ========================================
``timestamps``  TSval = offset + rate x TSval, both random per  about 3 µs a packet; RTT estimates of
                flow; undone in TSecr on the way back           the remote end err by up to 0.1 %
``ip_id``       0 on packets that may not be fragmented, or     super-segments cannot be used: a write
                random on all that are not fragments            a packet (random); little (zero)
``ttl``         the same value on all packets                   traceroute through the tunnel breaks
=============== =============================================== ========================================

The rate lies above 1, so the map from old to new timestamps can be inverted exactly. IP options and IPv6
extension headers are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

IpIdPolicy = Literal["off", "zero", "random"]

_FLOWS_REMEMBERED = 65_536
_MASK = 0xFFFFFFFF
_RATE_DENOMINATOR = 1 << 20
_MAX_RATE_PPM = 1000
_MARGIN_TICKS = 1 << 20
"""A timestamp this far behind the first one seen still maps without wrapping."""


@dataclass(frozen=True, slots=True)
class Scrub:
    """Which fields are rewritten.

    Parameters
    ----------
    timestamps : bool
        TCP timestamps (RFC 7323).
    ip_id : {"off", "zero", "random"}
        IPv4 identification.
    ttl : int
        New TTL or hop limit; 0 leaves it.
    """

    timestamps: bool = False
    ip_id: IpIdPolicy = "off"
    ttl: int = 0

    @property
    def is_on(self) -> bool:
        """Whether anything is to be done."""
        return self.timestamps or self.ip_id != "off" or self.ttl != 0


NO_SCRUB = Scrub()


@dataclass(frozen=True, slots=True)
class TimestampMap:
    """An exactly invertible change of offset and rate of a 32-bit clock.

    Parameters
    ----------
    base : int
        Old value that maps to `offset`.
    offset : int
        New value of `base`.
    numerator : int
        Rate times 2**20; at least 2**20, so that different ticks stay different.
    """

    base: int
    offset: int
    numerator: int

    def forward(self, ticks: int) -> int:
        """New value of an old one."""
        elapsed = (ticks - self.base) & _MASK
        return (self.offset + elapsed * self.numerator // _RATE_DENOMINATOR) & _MASK

    def backward(self, ticks: int) -> int:
        """Old value of a new one; exact for every value that `forward` gave."""
        elapsed = (ticks - self.offset) & _MASK
        return (self.base - (-elapsed * _RATE_DENOMINATOR // self.numerator)) & _MASK


def _replace16(packet: memoryview, at: int, value: int, checksum: int) -> None:
    """Write 16 bits and correct a checksum for it (RFC 1624, equation 3)."""
    old = packet[at] << 8 | packet[at + 1]
    total = packet[checksum] << 8 | packet[checksum + 1]
    total = (~total & 0xFFFF) + (~old & 0xFFFF) + value
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    packet[at : at + 2] = value.to_bytes(2, "big")
    packet[checksum : checksum + 2] = (~total & 0xFFFF).to_bytes(2, "big")


def _replace32(packet: memoryview, at: int, value: int, checksum: int, tcp: int) -> None:
    """Write 32 bits of a TCP header. At an odd offset the bytes change places in the sum (RFC 1071)."""
    if (at - tcp) & 1:
        # Take in the neighbours, so that whole 16-bit words are replaced.
        whole = bytes(packet[at - 1 : at]) + value.to_bytes(4, "big") + bytes(packet[at + 4 : at + 5])
        words = [whole[0:2], whole[2:4], whole[4:6]]
        at -= 1
    else:
        whole = value.to_bytes(4, "big")
        words = [whole[0:2], whole[2:4]]
    for number, word in enumerate(words):
        _replace16(packet, at + 2 * number, int.from_bytes(word, "big"), checksum)


def _timestamp_option(packet: memoryview, tcp: int) -> int:
    """Offset of TSval, or 0 if there is no timestamp option (RFC 7323, section 3.2)."""
    end = min(tcp + 4 * (packet[tcp + 12] >> 4), len(packet))
    at = tcp + 20
    while at + 1 < end:
        kind = packet[at]
        if kind == 0:
            return 0
        if kind == 1:
            at += 1
            continue
        length = packet[at + 1]
        if kind == 8 and length == 10 and at + 10 <= end:
            return at + 2
        if length < 2:
            return 0
        at += length
    return 0


class Scrubber:
    """Rewrites packets that leave the tunnel, and undoes it in the answers.

    Parameters
    ----------
    scrub : Scrub
        What to rewrite.
    random_bytes : callable
        Source of chance.
    """

    def __init__(self, scrub: Scrub, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._scrub = scrub
        self._random_bytes = random_bytes
        self._flows: dict[bytes, TimestampMap] = {}

    def leaving(self, packet: memoryview) -> None:
        """Rewrite a packet from the tunnel to the Internet, in place."""
        if packet[0] >> 4 == 4:
            self._leave_ipv4(packet)
        elif self._scrub.ttl:
            packet[7] = self._scrub.ttl
        if self._scrub.timestamps:
            self._map_timestamp(packet, is_answer=False)

    def returning(self, packet: memoryview) -> None:
        """Undo the change of timestamps in an answer, in place."""
        if self._scrub.timestamps:
            self._map_timestamp(packet, is_answer=True)

    def _leave_ipv4(self, packet: memoryview) -> None:
        if self._scrub.ttl:
            _replace16(packet, 8, self._scrub.ttl << 8 | packet[9], 10)
        flags = packet[6] << 8 | packet[7]
        is_fragment = flags & 0x3FFF != 0
        if is_fragment or self._scrub.ip_id == "off":
            return
        if self._scrub.ip_id == "random":
            _replace16(packet, 4, int.from_bytes(self._random_bytes(2), "big"), 10)
        elif flags & 0x4000:  # RFC 6864: an atomic datagram needs no ID
            _replace16(packet, 4, 0, 10)

    def _map_timestamp(self, packet: memoryview, *, is_answer: bool) -> None:
        size = len(packet)
        if packet[0] == 0x45 and packet[9] == 6 and not (packet[6] << 8 | packet[7]) & 0x3FFF:
            tcp, addresses = 20, packet[12:20]
        elif packet[0] >> 4 == 6 and size >= 60 and packet[6] == 6:
            tcp, addresses = 40, packet[8:40]
        else:
            return
        at = _timestamp_option(packet, tcp) if size >= tcp + 20 else 0
        if not at:
            return
        half = len(addresses) // 2
        ports = packet[tcp : tcp + 4]
        if is_answer:
            key = bytes(addresses[half:]) + bytes(addresses[:half]) + bytes(ports[2:]) + bytes(ports[:2])
            self._undo_echo(packet, at + 4, tcp, self._flows.get(key))
            return
        ticks = int.from_bytes(packet[at : at + 4], "big")
        flow = self._flow(bytes(addresses) + bytes(ports), ticks)
        _replace32(packet, at, flow.forward(ticks), tcp + 16, tcp)

    def _undo_echo(self, packet: memoryview, at: int, tcp: int, flow: TimestampMap | None) -> None:
        echo = int.from_bytes(packet[at : at + 4], "big")
        has_ack = packet[tcp + 13] & 0x10
        if flow is not None and has_ack:  # without ACK, TSecr means nothing (RFC 7323, section 3.2)
            _replace32(packet, at, flow.backward(echo), tcp + 16, tcp)

    def _flow(self, key: bytes, ticks: int) -> TimestampMap:
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= _FLOWS_REMEMBERED:
                del self._flows[next(iter(self._flows))]
            chance = self._random_bytes(8)
            ppm = int.from_bytes(chance[4:], "big") % _MAX_RATE_PPM
            flow = self._flows[key] = TimestampMap(
                base=(ticks - _MARGIN_TICKS) & _MASK,
                offset=int.from_bytes(chance[:4], "big"),
                numerator=_RATE_DENOMINATOR + ppm * _RATE_DENOMINATOR // 1_000_000,
            )
        return flow
