"""Packets that a capture holds twice.

A mirror port that sees a switch's both directions, or a tap on a bridge and on its member, records the same
packet again a moment later. A copy competes with its original for the one packet on the other side of the VPN
server, so that neither can be told from a rival: copies are left out before anything is compared.

A copy is equal to an earlier packet in every column but its time and frame number. That is proof where the
sender tells its packets apart, by an IP ID or by a TCP timestamp on data; a retransmission has another.
Others may be sent twice alike (duplicate acknowledgements, resets, keep-alives): of those, equal ones count
as copies only in a capture in which the provable copies show that it holds most packets twice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.flows._kernels import equal_to_recent
from vpnforensics.packets.table import PROTO_TCP, TCP_RST, PacketTable

_APART_NS = 10_000_000
"""A copy comes at most this long after its packet, as :mod:`vpnforensics.packets` counts duplicates."""
_WORTH_SHARE = 1e-3
"""Fewer duplicates than this, as any capture may have, cost no link, and looking for them takes time."""


def without_copies(packets: PacketTable) -> PacketTable:
    """The packets but for copies of one just before; the same table where reading it found hardly any.

    Parameters
    ----------
    packets : PacketTable
    """
    source = packets.source
    if source is not None and source.health.duplicates <= _WORTH_SHARE * source.packets:
        return packets
    copies = _copies(packets)
    return packets.take(~copies) if copies.any() else packets


def _copies(packets: PacketTable) -> npt.NDArray[np.bool_]:
    equal = equal_to_recent(
        packets.ts_ns,
        (packets.src, packets.dst, packets.ip_len_bytes, packets.ip_id),
        (packets.seq, packets.ack, packets.tsval, packets.tsecr),
        (packets.sport, packets.dport, packets.window, packets.tcp_flags, packets.iface),
        (packets.proto, packets.ttl, packets.tos, packets.frag),
        np.ascontiguousarray(packets.head).view(np.uint64),
        _APART_NS,
    )
    stamped = (packets.proto == PROTO_TCP) & (packets.payload_bytes > 0) & (packets.has_ts == 1)
    told_apart = ((packets.ip_id > 0) | stamped) & (packets.tcp_flags & TCP_RST == 0)
    proven = equal & told_apart
    mostly_twice = 3 * np.count_nonzero(proven) >= np.count_nonzero(told_apart) > 0
    return np.asarray(equal if mostly_twice else proven)
