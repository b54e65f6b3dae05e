"""Longer records: the padded inner length through the tunnel's own length map.

Only records of data grow. Handshakes and keep-alives stay as they are, as in every VPN that pads. No packet
grows beyond the tunnel's MTU, and none beyond it shrinks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Ints
from vpnforensics.audit.copies.belonging import Belonging
from vpnforensics.packets.table import PacketTable
from vpnforensics.tunnels.length_map import UNCAPPED, LengthMap

Pad = Callable[[Ints, Ints], Ints]
"""Inner lengths and the MTU of each to lengths that may be above the MTU or below the packet; both are
mended."""


def to_block(block_bytes: int) -> Pad:
    """To the next multiple."""
    return partial(_to_block, block_bytes)


def to_bucket(sizes_bytes: tuple[int, ...]) -> Pad:
    """To the next of a few sizes, the last of which is the MTU."""
    return partial(_to_bucket, np.array(sorted(sizes_bytes), np.int64))


def to_mtu(inner: Ints, mtu: Ints) -> Ints:
    """All to the MTU."""
    return mtu


@dataclass(frozen=True, slots=True)
class PaddedMap(LengthMap):
    """A length map with a padding before it, as whoever knows the padding would write it down."""

    pad: Pad = to_mtu
    mtu_bytes: int = UNCAPPED

    @classmethod
    def of(cls, rule: LengthMap, pad: Pad, mtu_bytes: int) -> PaddedMap:
        """The map of a tunnel whose packets are padded before its own rule."""
        return cls(rule.overhead, rule.block, rule.extra, rule.cap, "stated", pad, mtu_bytes)

    def outer(self, inner_bytes: npt.NDArray[np.integer[Any]]) -> Ints:
        """Outer payload bytes of inner IP packets of these total lengths."""
        inner = inner_bytes.astype(np.int64)
        # The class of before: `super()` needs a cell that a class with slots loses.
        return LengthMap.outer(self, padded_length(inner, self.pad, np.full(len(inner), self.mtu_bytes)))


def padded_length(inner: Ints, pad: Pad, mtu: Ints) -> Ints:
    """Inner lengths after padding: none above the MTU, unless it was before, and none shorter."""
    return np.maximum(inner, np.minimum(pad(inner, mtu), mtu))


def padded(known: Belonging, ingress: PacketTable, pad: Pad) -> PacketTable:
    """The ingress table with padded records.

    Parameters
    ----------
    known : Belonging
    ingress : PacketTable
        Rows as in ``known.ingress``.
    pad : callable

    Returns
    -------
    PacketTable
        IP and payload lengths of records have grown by the same number of bytes; all else is as it was.
    """
    records, case = known.records, known.case
    inner, mtu = known.inner_bytes, known.mtu_bytes[records.tunnel]
    wanted = padded_length(inner, pad, mtu)
    more = np.zeros(len(records), np.int64)
    number = np.where(known.mapped, case.map_of_tunnel, -1)[records.tunnel]
    for i, length_map in enumerate(case.maps):
        mine = np.flatnonzero(number == i)
        more[mine] = length_map.outer(wanted[mine]) - records.size[mine]
    grown = np.zeros(len(ingress), np.int32)
    grown[records.row] = np.maximum(more, 0)
    return replace(
        ingress,
        ip_len_bytes=ingress.ip_len_bytes + grown,
        payload_bytes=ingress.payload_bytes + grown,
    )


def _to_block(block: int, inner: Ints, mtu: Ints) -> Ints:
    return -(-inner // block) * block


def _to_bucket(sizes: Ints, inner: Ints, mtu: Ints) -> Ints:
    at = np.searchsorted(sizes, inner)
    return np.where(at < len(sizes), np.r_[sizes, 0][at], mtu)
