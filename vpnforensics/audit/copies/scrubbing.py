"""Header fields blanked or rewritten where packets leave for the Internet, as a server's firewall would.

Only what travels up is rewritten; of answers only the timestamp echo, as the far side would have sent it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from vpnforensics.audit.copies.belonging import Belonging
from vpnforensics.packets.table import FRAG_WHOLE, TCP_ACK, PacketTable

Scrub = Callable[[Belonging, PacketTable, PacketTable, np.random.Generator], tuple[PacketTable, PacketTable]]

_MOST_RATE_PPM = 1000
"""The reference tunnel's: a clock that is no more off than this still serves the far side's round trips."""
_MODULUS = 1 << 32


def timestamps(
    known: Belonging, ingress: PacketTable, egress: PacketTable, rng: np.random.Generator
) -> tuple[PacketTable, PacketTable]:
    """TSval times a random rate plus a random offset, of each flow its own; undone in the echoes."""
    flows = known.case.flows
    count = len(flows)
    offset = rng.integers(0, _MODULUS, count)
    ppm = rng.integers(0, _MOST_RATE_PPM, count)
    up = (egress.has_ts == 1) & flows.up
    base = flows.of_first(up, egress.tsval)
    passed = base >= 0

    def changed(ticks: npt.NDArray[np.uint32], flow: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32]:
        since = (ticks.astype(np.int64) - base[flow] + _MODULUS // 2) % _MODULUS - _MODULUS // 2
        new = offset[flow] + since + since * ppm[flow] // 1_000_000
        return np.asarray(new % _MODULUS, np.uint32)

    echoes = (egress.has_ts == 1) & ~flows.up & (egress.tcp_flags & TCP_ACK != 0) & passed[flows.flow]
    return ingress, replace(
        egress,
        tsval=np.where(up, changed(egress.tsval, flows.flow), egress.tsval),
        tsecr=np.where(echoes, changed(egress.tsecr, flows.flow), egress.tsecr),
    )


def ip_ids(
    known: Belonging, ingress: PacketTable, egress: PacketTable, rng: np.random.Generator
) -> tuple[PacketTable, PacketTable]:
    """Random IP IDs on all that is no fragment."""
    mine = known.case.flows.up & (egress.ip_id >= 0) & (egress.frag == FRAG_WHOLE)
    drawn = rng.integers(0, 1 << 16, len(egress)).astype(np.int32)
    return ingress, replace(egress, ip_id=np.where(mine, drawn, egress.ip_id))


def ttl(value: int) -> Scrub:
    """One TTL on all that leaves."""
    return partial(_ttl, value)


def ecn(
    known: Belonging, ingress: PacketTable, egress: PacketTable, rng: np.random.Generator
) -> tuple[PacketTable, PacketTable]:
    """No ECN: not at egress, and so in no outer header that would copy it (RFC 6040)."""
    clear = np.uint8(0xFC)
    return replace(ingress, tos=ingress.tos & clear), replace(egress, tos=egress.tos & clear)


def _ttl(
    value: int, known: Belonging, ingress: PacketTable, egress: PacketTable, rng: np.random.Generator
) -> tuple[PacketTable, PacketTable]:
    return ingress, replace(egress, ttl=np.where(known.case.flows.up, np.uint8(value), egress.ttl))
