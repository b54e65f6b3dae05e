"""TCP streams from captured segments: what the receiver got, in its order, and when.

Retransmissions add nothing, overlaps only what is new, and what came out of order waits until the hole before
it is filled: then the segment that filled it delivered all of it. A hole that the receiver acknowledged is
one of the capture, not of the connection; what stands behind it was delivered when it came. A stream may
begin in the middle.

RFC 9293, 3.4 and 3.10; sequence numbers are unwrapped, so that a stream may be longer than 4 GiB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable
from vpnforensics.tunnels._kernels import reassemble


@dataclass(frozen=True, eq=False)
class Pieces:
    """New bytes of some streams in order of delivery; one entry a piece, of ``begun`` one a stream."""

    stream: npt.NDArray[np.int64]
    """``2 k`` is the k-th conversation's from the client side (by the flow table), ``2 k + 1`` the other."""
    pos: npt.NDArray[np.int64]
    """Position in the stream; 0 is its first captured byte, of the connection's where ``begun``."""
    size: npt.NDArray[np.int64]
    skip: npt.NDArray[np.int64]
    """Bytes of the segment's payload before the piece."""
    row: npt.NDArray[np.int64]
    """Row of the segment in the packet table."""
    done: npt.NDArray[np.int64]
    """Row of the segment whose arrival delivered the piece."""
    ready: npt.NDArray[np.int64]
    """Row up to which the capture must be read before the piece is in turn; ascending."""
    begun: npt.NDArray[np.bool_]
    """The capture has the stream's first byte."""

    def __len__(self) -> int:
        return len(self.pos)

    @property
    def streams(self) -> int:
        """Number of streams, two a conversation."""
        return len(self.begun)

    @property
    def holes_bytes(self) -> npt.NDArray[np.int64]:
        """Bytes of each stream that the capture lacks between its first and its last."""
        have = np.bincount(self.stream, self.size, self.streams).astype(np.int64)
        reach = np.zeros(self.streams, np.int64)
        np.maximum.at(reach, self.stream, self.pos + self.size)
        return reach - have


def reassemble_streams(
    conversations: FlowTable, numbers: npt.NDArray[np.int64], *, first_packets: int | None = None
) -> Pieces:
    """The streams of some TCP conversations.

    Parameters
    ----------
    conversations : FlowTable
    numbers : ndarray of int64
        Which conversations of the table.
    first_packets : int, optional
        Look only at so many packets of each.
    """
    packets = conversations.packets
    parts: list[tuple[npt.NDArray[np.int64], ...]] = []
    begun = np.zeros(2 * len(numbers), np.bool_)
    for k, number in enumerate(numbers.tolist()):
        rows = conversations.rows_of(number)[:first_packets]
        side, pos, size, skip, row, done, ready, first = reassemble(
            packets.ts_ns[rows],
            conversations.up[rows],
            packets.seq[rows],
            packets.ack[rows],
            packets.tcp_flags[rows],
            packets.payload_bytes[rows],
        )
        parts.append((2 * k + 1 - side.astype(np.int64), pos, size, skip, rows[row], rows[done], rows[ready]))
        begun[2 * k], begun[2 * k + 1] = bool(first[1]), bool(first[0])
    if not parts:
        none = np.zeros(0, np.int64)
        return Pieces(none, none, none, none, none, none, none, begun)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[-1], kind="stable")
    stream, pos, size, skip, row, done, ready = (column[order] for column in columns)
    return Pieces(stream, pos, size, skip, row, done, ready, begun)
