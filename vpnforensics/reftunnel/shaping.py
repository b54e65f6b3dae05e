"""Countermeasures on the outer packets: what they look like from outside, and what that costs.

========== ================================================ =============================================
switch     hides                                            costs
========== ================================================ =============================================
``pad``    inner lengths: to a block, a bucket, or all      bytes: on average half a block a packet; to
           (MTU)                                            the MTU, a bare ACK becomes 15 times as long
``cover``  when and how much is sent: one datagram of one   the whole rate, always; packets above the
           size at every tick, real or empty                rate wait, and are dropped when 1024 do
``batch``  times between packets within the bound           up to the bound in delay each way
========== ================================================ =============================================

Each applies to what *this* end sends; both directions need both ends. The receiver needs nothing: padding is
cut off by the IP length, and a cover packet is not IP and is dropped by every WireGuard.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.wire import pad_to_16

PadKind = Literal["block", "mtu", "buckets"]


@dataclass(frozen=True, slots=True)
class Padding:
    """How long outer packets are made.

    Parameters
    ----------
    kind : {"block", "mtu", "buckets"}
        Multiple of the only size; always the MTU; the next of the sizes.
    sizes : tuple of int
        Bytes of inner packet.
    """

    kind: PadKind = "block"
    sizes: tuple[int, ...] = (16,)

    def rule(self, mtu: int) -> Callable[[int], int]:
        """Function from inner length to padded length, never above the MTU and never below the length."""
        if self.kind == "mtu":
            return lambda length: max(length, mtu)
        if self.kind == "buckets":
            sizes = sorted({*(min(pad_to_16(size), mtu) for size in self.sizes), mtu})

            def to_bucket(length: int) -> int:
                at = bisect.bisect_left(sizes, length)
                return sizes[at] if at < len(sizes) else length

            return to_bucket
        block = self.sizes[0]
        if block == 16:
            # Every packet passes here: the protocol's own padding has no multiplication and no closure cell.
            return lambda length: max(length, min(mtu, (length + 15) & ~15))
        return lambda length: max(length, min(mtu, -(-length // block) * block))


WIREGUARD_PADDING = Padding()


def parse_padding(text: str) -> Padding:
    """Padding from ``mtu``, ``block:128`` or ``buckets:128,512,1024``.

    Raises
    ------
    TunnelError
        None of these; blocks are multiples of 16, as the protocol pads to 16 anyway.
    """
    kind, _, rest = text.strip().lower().partition(":")
    if kind == "mtu" and not rest:
        return Padding("mtu", ())
    try:
        sizes = tuple(int(part) for part in rest.split(","))
    except ValueError:
        sizes = ()
    if kind == "block" and len(sizes) == 1 and sizes[0] > 0 and sizes[0] % 16 == 0:
        return Padding("block", sizes)
    if kind == "buckets" and sizes and min(sizes) > 0:
        return Padding("buckets", sizes)
    raise TunnelError(f"Pad = {text!r}: expected mtu, block:N (a multiple of 16) or buckets:N,N,...")


@dataclass(frozen=True, slots=True)
class Shaping:
    """All switches of the outer packets; the default is plain WireGuard.

    Parameters
    ----------
    padding : Padding
        Lengths.
    cover_hz : float
        Datagrams a second to every connected peer, always; 0 is off. Implies padding to the MTU.
    batch_s : float
        Packets wait up to this long and then leave together; 0 is off.
    """

    padding: Padding = WIREGUARD_PADDING
    cover_hz: float = 0.0
    batch_s: float = 0.0

    def rule(self, mtu: int) -> Callable[[int], int]:
        """Padded length of an inner packet."""
        return (Padding("mtu", ()) if self.cover_hz else self.padding).rule(mtu)


DEFAULT_SHAPING = Shaping()
"""Plain WireGuard."""
