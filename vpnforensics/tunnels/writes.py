"""Writes: what one ``write()`` of a sender put on a TCP stream, as far as TCP shows it.

A relay writes at once what it reads, so a write is to a relay what a packet is to a VPN. A sender's kernel
sets PSH on the last segment of a write (RFC 9293, 3.9.1.2) and fills all segments before it; so a write ends
at PSH, at a segment that is not full, where the capture has a hole, and where what follows comes much later
(a transfer larger than the congestion window: the relay has passed on what it had). Writes that follow each
other before the first is sent become one (RFC 896), and a bulk transfer has PSH wherever its sender's buffer
ran empty: its writes have no single partner on the relay's other side.

Ingress connections and egress flows are treated alike. Retransmissions add nothing, what came out of order
was written when the hole before it was filled (:mod:`vpnforensics.tunnels.reassembly`). A connection joined
in its middle has writes, the first of which is not marked as one that ``opens``; a direction that was not
captured has none; beside a hole a write is not ``whole``, and its size is what was captured of it.

Positions say how many bytes of the stream stood before a write, so sums over writes need no other table. Who
follows frames (ssh with lengths in clear, TLS records) has their ends in the same positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import PROTO_TCP, TCP_PSH
from vpnforensics.tunnels.reassembly import reassemble_streams

_LEAST_FULL_BYTES = 500
"""A stream whose largest segment is smaller shows no full one: each of its segments ends a write."""
_PAUSE_NS = 40_000_000
"""After so long a sender that waits for acknowledgements goes on with what is another write to the relay: the
least round trips of wide areas, the largest of a server's own delays."""


@dataclass(frozen=True, eq=False)
class WriteTable:
    """Writes of some TCP conversations: by conversation, then direction (up first), then position.

    ``start[c]:start[c + 1]`` are conversation c's of the flow table, none for those not asked for.
    """

    start: npt.NDArray[np.int64]
    connection: npt.NDArray[np.int32]
    """Its number in the FlowTable."""
    up: npt.NDArray[np.bool_]
    """As the flow table has it."""
    first_ns: npt.NDArray[np.int64]
    """When the first byte was delivered, on its capture's clock."""
    last_ns: npt.NDArray[np.int64]
    """And the last."""
    position: npt.NDArray[np.int64]
    """Bytes of the stream before it, from the first captured one on."""
    size: npt.NDArray[np.int64]
    """Bytes."""
    segments: npt.NDArray[np.int32]
    """Captured segments that it came in."""
    opens: npt.NDArray[np.bool_]
    """First of its direction, and the capture has the stream's first byte."""
    whole: npt.NDArray[np.bool_]
    """No hole of the capture touches it."""
    first_row: npt.NDArray[np.int32]
    """Row in the packet table of the segment with its first byte."""
    row: npt.NDArray[np.int32]
    """Row of the segment that delivered its last byte."""

    def __len__(self) -> int:
        return len(self.size)

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> WriteTable:
        """The writes at ``index``, which ascends."""
        kept = {
            name: getattr(self, name)[index]
            for name in self.__dataclass_fields__
            if name != "start"
        }  # fmt: skip
        start = np.searchsorted(kept["connection"], np.arange(len(self.start)))
        return WriteTable(start.astype(np.int64), **kept)


def find_writes(conversations: FlowTable, numbers: npt.NDArray[np.integer] | None = None) -> WriteTable:
    """The writes of TCP conversations.

    Parameters
    ----------
    conversations : FlowTable
        Of either side.
    numbers : ndarray of integers, ascending, optional
        Which; without, all that are TCP.
    """
    packets = conversations.packets
    if numbers is None:
        numbers = np.flatnonzero(conversations.proto == PROTO_TCP)
    pieces = reassemble_streams(conversations, numbers.astype(np.int64))
    order = np.argsort(pieces.stream, kind="stable")  # positions ascend within a stream as they are
    stream, pos, size = pieces.stream[order], pieces.pos[order], pieces.size[order]
    row, done = pieces.row[order], pieces.done[order]
    ts_ns = packets.ts_ns[done]
    full = np.zeros(pieces.streams, np.int64)
    payload = packets.payload_bytes[row].astype(np.int64)
    np.maximum.at(full, stream, payload)
    full[full < _LEAST_FULL_BYTES] = np.iinfo(np.int64).max
    n = len(stream)
    other = np.ones(n, np.bool_)  # than the piece before: of another stream
    other[1:] = stream[1:] != stream[:-1]
    hole = np.zeros(n, np.bool_)
    hole[1:] = ~other[1:] & (pos[1:] != pos[:-1] + size[:-1])
    late = np.zeros(n, np.bool_)
    late[1:] = ts_ns[1:] - ts_ns[:-1] > _PAUSE_NS
    ends = ((packets.tcp_flags[row] & TCP_PSH) != 0) | (payload < full[stream])
    begins = other | hole | late
    begins[1:] |= ends[:-1]
    first = np.flatnonzero(begins)
    last = np.r_[first[1:], n].astype(np.intp) - 1 if n else first
    # A first byte that is not the stream's own: whatever the write began with was not captured.
    cut = other & ~pieces.begun[stream]
    behind = np.r_[hole[1:], False] if n else hole
    connection = numbers[stream[first] >> 1].astype(np.int32)
    sums = np.r_[0, np.cumsum(size)]
    return WriteTable(
        np.searchsorted(connection, np.arange(len(conversations) + 1)).astype(np.int64),
        connection,
        stream[first] & 1 == 0,
        ts_ns[first],
        ts_ns[last],
        pos[first],
        sums[last + 1] - sums[first],
        (last - first + 1).astype(np.int32),
        other[first] & pieces.begun[stream[first]],
        ~(hole | cut)[first] & ~behind[last],
        row[first].astype(np.int32),
        done[last].astype(np.int32),
    )
