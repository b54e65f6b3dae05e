"""Packets that a capture holds more than once.

A mirror port that sees a switch's both directions, or a tap on a bridge and on its member, records the same
packet again a moment later; a tap before and behind a router records it again with a lower TTL. A copy
competes with its original for the one packet on the other side of the VPN server, so that neither can be
told from a rival: copies are left out before anything is compared.

A copy is equal to an earlier packet in every column but its time and frame number. At a later hop its TTL is
lower, and its interface may be another. (A higher one is no copy: so probes for a route come.) That is proof
where the sender tells its packets apart, by an IP ID or by a TCP timestamp on data; a retransmission has
another. At a later hop it is proof of all that carries data: nobody sends the same bytes again within
milliseconds, and over another road. Others may be sent twice alike (duplicate acknowledgements, resets,
keep-alives): of those, equal ones count as copies only in a capture in which the provable copies show that
it holds most packets twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.flows._kernels import equal_to_recent
from vpnforensics.packets.table import PROTO_TCP, TCP_RST, PacketTable

_APART_NS = 10_000_000
"""A copy comes at most this long after its packet, as :mod:`vpnforensics.packets` counts duplicates."""
_WORTH_SHARE = 1e-3
"""Fewer duplicates than this, as any capture may have, cost no link, and looking for them takes time."""


@dataclass(frozen=True, eq=False)
class Compared:
    """A capture's packets but for copies, and how many were left out."""

    packets: PacketTable
    twice: int = 0
    """Copies captured at the same place."""
    later_hop: int = 0
    """Copies captured behind a router, too."""

    def left_out(self, role: str) -> list[str]:
        """A warning for each kind of copy."""
        said = []
        if self.twice:
            said.append(f"the {role} capture holds {self.twice:,} packets twice; the copies are left out")
        if self.later_hop:
            said.append(
                f"the {role} capture holds {self.later_hop:,} packets at two hops, before and behind a"
                " router; the later ones are left out"
            )
        return said


def without_copies(packets: PacketTable) -> Compared:
    """The packets but for copies of one just before; the same table where reading it found hardly any.

    Parameters
    ----------
    packets : PacketTable
    """
    source = packets.source
    if source is not None:
        found = source.health.duplicates + source.health.later_hops
        if found <= _WORTH_SHARE * source.packets:
            return Compared(packets)
    twice, later_hop = _copies(packets)
    copies = twice | later_hop
    if not copies.any():
        return Compared(packets)
    return Compared(packets.take(~copies), int(np.count_nonzero(twice)), int(np.count_nonzero(later_hop)))


def _copies(packets: PacketTable) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Copies at one place, and behind a router."""
    twice, later_hop = equal_to_recent(
        packets.ts_ns,
        (packets.src, packets.dst, packets.ip_len_bytes, packets.ip_id),
        (packets.seq, packets.ack, packets.tsval, packets.tsecr),
        (packets.sport, packets.dport, packets.window, packets.tcp_flags),
        (packets.proto, packets.tos, packets.frag),
        np.ascontiguousarray(packets.head).view(np.uint64),
        packets.iface,
        packets.ttl,
        _APART_NS,
    )
    stamped = (packets.proto == PROTO_TCP) & (packets.payload_bytes > 0) & (packets.has_ts == 1)
    is_reset = packets.tcp_flags & TCP_RST != 0
    told_apart = ((packets.ip_id > 0) | stamped) & ~is_reset
    routed_apart = told_apart | ((packets.payload_bytes > 0) & ~is_reset)
    if _holds_mostly(twice | later_hop, told_apart) or _holds_mostly(later_hop, routed_apart):
        return twice, later_hop
    return twice & told_apart, later_hop & routed_apart


def _holds_mostly(copies: npt.NDArray[np.bool_], provable: npt.NDArray[np.bool_]) -> bool:
    """Whether a third of the packets that can be told apart are copies: half would be all of them twice."""
    return bool(3 * np.count_nonzero(copies & provable) >= np.count_nonzero(provable) > 0)
