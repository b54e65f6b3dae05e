"""Senders: one direction of one conversation, with its packets in order of time.

The stack that fills TSval and IP ID of a packet is the one that sent it, so header fields are read per
direction. Sender 2f is the client side of flow f, sender 2f + 1 the far side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable
from vpnforensics.flows.grouping import rows_in_time
from vpnforensics.scratch import beside, blocks

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Senders:
    """The packets of a FlowTable grouped by sender; ``start[s]:start[s+1]`` of ``row`` are sender s's."""

    flows: FlowTable
    row: Ints
    start: Ints

    def __len__(self) -> int:
        return len(self.start) - 1

    def rows_of(self, sender: int) -> Ints:
        """Rows of the packet table, in order of time."""
        return self.row[self.start[sender] : self.start[sender + 1]]

    @property
    def up(self) -> Ints:
        """The client-side senders."""
        return np.arange(0, len(self), 2)

    @cached_property
    def with_timestamps(self) -> Ints:
        """Senders with at least one TCP timestamp option."""
        flow, up, has_ts = self.flows.flow, self.flows.up, self.flows.packets.has_ts
        having = np.zeros(len(self), np.bool_)
        for rows in blocks(len(flow)):
            stamped = has_ts[rows] == 1
            having[2 * flow[rows][stamped] + ~up[rows][stamped]] = True
        return np.flatnonzero(having)

    def endpoint(self, sender: int) -> str:
        """``addr:port`` of the sender."""
        flow = sender // 2
        return self.flows.destination(flow) if sender % 2 else self.flows.source(flow)

    def peer(self, sender: int) -> str:
        """``addr:port`` it sends to."""
        return self.endpoint(sender ^ 1)

    def address(self, sender: int) -> tuple[int, int]:
        """Address ids of sender and receiver."""
        src, dst = int(self.flows.src[sender // 2]), int(self.flows.dst[sender // 2])
        return (dst, src) if sender % 2 else (src, dst)


def find_senders(flows: FlowTable) -> Senders:
    """Group the packets of a FlowTable by sender and time (ties: order of the file)."""
    scratch, flow, up = beside(flows.flow), flows.flow, flows.up
    sender = scratch.filled(len(flow), np.int32, lambda rows: 2 * flow[rows] + ~up[rows])
    row, start = rows_in_time(sender, 2 * len(flows), flows.packets.ts_ns)
    return Senders(flows, scratch.filled(len(row), np.int64, lambda rows: row[rows]), start)
