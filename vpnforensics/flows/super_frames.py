"""Super-frames split into the packets that were on the wire.

A tap behind receive offloading (GRO), or before segmentation offloading (TSO), sees one TCP frame of up to
64 KiB where many full segments and a remainder were on the wire. Its length matches nothing on the other
side of a VPN server; those of the segments do. The payload of a full segment is the MSS that the two SYNs
agree on, less the options that every segment carries (RFC 9293, 3.7.1; RFC 6691); for a connection whose SYNs
were not captured, the commonest payload of the capture's nearly full frames, unless a host of the capture
announces more than the usual MTU allows.

What cannot be told: segments smaller than that which were merged (a sender that wrote them so, an MSS that
was lowered beyond the tap), and merged UDP datagrams, which announce no size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import (
    FRAG_WHOLE,
    HEAD_BYTES,
    PROTO_TCP,
    TCP_FIN,
    TCP_PSH,
    TCP_SYN,
    PacketTable,
)

_TIMESTAMP_OPTION_BYTES = 12
_NOT_LAST = 0xFFFF & ~(TCP_FIN | TCP_PSH)
_USUAL_MTU_BYTES = 1500
_LEAST_FULL_BYTES, _LEAST_MSS_BYTES = 1000, 500
_MOST_PIECES = 50  # rows for each packet of the capture, beyond which lengths lie
_LEAST_LEARNED = 10
_UNKNOWN = 1 << 30


def split_super_frames(flows: FlowTable) -> PacketTable:
    """The packets of the flows with a row for each segment of a super-frame; untouched where there is none.

    Segments of a frame share its time, its number and all fields but those that count bytes or packets;
    ``head`` stays with the first, a FIN with the last.

    Parameters
    ----------
    flows : FlowTable
    """
    packets = flows.packets
    full = _segment_bytes(flows)
    large = np.flatnonzero(
        (packets.payload_bytes > _LEAST_MSS_BYTES)
        & (packets.payload_bytes > full[flows.flow] - _TIMESTAMP_OPTION_BYTES)
        & (packets.proto == PROTO_TCP)
        & (packets.tcp_flags & TCP_SYN == 0)  # never merged: one of each segment would open a flow
        & (packets.frag == FRAG_WHOLE)
    )
    segment = full[flows.flow[large]] - np.where(packets.has_ts[large] == 1, _TIMESTAMP_OPTION_BYTES, 0)
    merged = packets.payload_bytes[large] > segment
    if not merged.any():
        return packets
    frame, segment = large[merged], segment[merged]
    pieces = np.ones(len(packets), np.int64)
    pieces[frame] = -(-packets.payload_bytes[frame] // segment)
    if pieces.sum() > _MOST_PIECES * len(packets):
        return packets
    row = np.repeat(np.arange(len(packets)), pieces)
    split = packets.take(row)
    size = np.zeros(len(packets), np.int64)
    size[frame] = segment
    mine = np.flatnonzero(size[row] > 0)
    place = (np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces))[mine]
    before = place * size[row[mine]]
    payload = split.payload_bytes.copy()
    payload[mine] = np.minimum(payload[mine] - before, size[row[mine]])
    later, unfinished = mine[place > 0], mine[place < pieces[row[mine]] - 1]
    return replace(
        split,
        payload_bytes=payload,
        ip_len_bytes=split.ip_len_bytes - (split.payload_bytes - payload),
        seq=_with(split.seq, mine, split.seq[mine].astype(np.int64) + before),
        # Offloading counts the IDs of its segments up; an ID of zero, or none, stays (RFC 6864).
        ip_id=_with(
            split.ip_id,
            mine,
            np.where(split.ip_id[mine] > 0, (split.ip_id[mine] + place) % 0x10000, split.ip_id[mine]),
        ),
        tcp_flags=_with(split.tcp_flags, unfinished, split.tcp_flags[unfinished] & _NOT_LAST),
        head=_with(split.head, later, np.zeros((len(later), HEAD_BYTES), np.uint8)),
    )


def _with(column: npt.NDArray[Any], rows: npt.NDArray[np.intp], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    changed = column.copy()
    changed[rows] = values.astype(np.int64).astype(column.dtype)
    return changed


def _segment_bytes(flows: FlowTable) -> npt.NDArray[np.int64]:
    """MSS of each flow: the smaller of those announced, or what full frames of other flows suggest."""
    packets = flows.packets
    syn = np.flatnonzero((packets.tcp_flags & TCP_SYN != 0) & (packets.mss >= _LEAST_MSS_BYTES))
    mss = np.full(len(flows), _UNKNOWN)
    np.minimum.at(mss, flows.flow[syn], packets.mss[syn].astype(np.int64))
    if len(syn) and packets.mss[syn].max() >= _USUAL_MTU_BYTES:
        return mss  # hosts with a larger MTU: a frame above the usual one need not be a super-frame
    return np.where(mss == _UNKNOWN, _commonest_full(packets) or _UNKNOWN, mss)


def _commonest_full(packets: PacketTable) -> int:
    """MSS by the commonest payload of frames that fill most of the usual MTU, 0 if unknown.

    Trusted only beside frames that do not fit that MTU.
    """
    tcp = packets.proto == PROTO_TCP
    if not (tcp & (packets.ip_len_bytes > _USUAL_MTU_BYTES)).any():
        return 0
    usual = tcp & (packets.payload_bytes >= _LEAST_FULL_BYTES) & (packets.ip_len_bytes <= _USUAL_MTU_BYTES)
    sizes = packets.payload_bytes[usual] + np.where(packets.has_ts[usual] == 1, _TIMESTAMP_OPTION_BYTES, 0)
    counts = np.bincount(sizes) if len(sizes) else np.zeros(1, np.int64)
    return int(np.argmax(counts)) if counts.max() >= _LEAST_LEARNED else 0
