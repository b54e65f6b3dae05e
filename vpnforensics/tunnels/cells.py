"""Tor's cells: those that passed the ingress tap, and those that an egress connection needs.

A relay packs what it reads into cells of 514 bytes with 498 of data (tor-spec, 3 and 6.1). Cells that wait
are handed to TLS together, 4,048 bytes at most a record (tor 0.4.9, src/lib/buf/buffers.c), and each record
has 22 bytes of its own: so bytes tell the cells, and no record need be read.

Besides cells for its data a connection needs single ones: that which asks the exit to open it (RELAY_BEGIN)
passes before its SYN, the answer (RELAY_CONNECTED) after its SYN-ACK, and one ends it (RELAY_END), from
whoever did (tor-spec, 6.2 and 6.3). And of each 31 data cells one is answered (SENDME: proposal 324).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Columns, Ints
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.flows.grouping import changes
from vpnforensics.packets.table import PROTO_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from vpnforensics.tunnels._cell_kernels import count_cells
from vpnforensics.tunnels.reassembly import reassemble_streams
from vpnforensics.tunnels.write_law import CELL_BYTES, CELL_DATA_BYTES

_RECORD_BYTES, _RECORD_ROOM_BYTES = 22, 4048
_PAUSE_NS = 2_000_000
"""Within one record its segments follow each other faster, but where a sender waits for acknowledgements."""
_QUIET_NS = 20_000_000
"""Silence between bursts of a connection: more than what one read of a relay leaves between segments."""
CELLS_A_SENDME = 31
OPENS, ANSWERS, DATA_UP, DATA_DOWN, ENDS_UP, ENDS_DOWN, KINDS = 0, 1, 2, 3, 4, 5, 6
"""What a connection needs cells for."""


@dataclass(frozen=True, eq=False)
class Cells(Columns):
    """Cells at the ingress tap, one row a segment that completed any; by stream, then time."""

    stream: Ints
    """``2 k`` is the k-th client's up, ``2 k + 1`` down."""
    ts_ns: Ints
    count: Ints


@dataclass(frozen=True, eq=False)
class Needs(Columns):
    """What egress connections need, by flow and time."""

    flow: Ints
    kind: Ints
    down: Ints
    begin_ns: Ints
    end_ns: Ints
    cells: Ints


@dataclass(frozen=True, eq=False)
class Parts(Columns):
    """When the cells of each need were needed: a burst lasts."""

    need: Ints
    ts_ns: Ints
    cells: Ints


def cells_seen(
    conversations: FlowTable, client_of: npt.NDArray[np.integer], forward: npt.NDArray[np.bool_]
) -> Cells:
    """The cells of some conversations of an ingress capture.

    Parameters
    ----------
    conversations : FlowTable
    client_of : ndarray of integers, shape (conversations,)
        Client of each, -1 for those that are not looked at.
    forward : ndarray of bool, shape (conversations,)
        Whether the flow table's client is the one.
    """
    numbers = np.flatnonzero((client_of >= 0) & (conversations.proto == PROTO_TCP))
    pieces = reassemble_streams(conversations, numbers)
    order = np.argsort(pieces.stream, kind="stable")  # positions ascend within a stream as they are
    stream, ts_ns = pieces.stream[order], conversations.packets.ts_ns[pieces.done[order]]
    count = np.zeros(len(stream), np.int64)
    sizes = CELL_BYTES, _RECORD_BYTES, _RECORD_ROOM_BYTES
    count_cells(stream, ts_ns, pieces.size[order], sizes, _PAUSE_NS, count)
    conversation = numbers[stream >> 1]
    down = np.where(forward[conversation], stream & 1, 1 - (stream & 1))
    found = Cells(2 * client_of[conversation].astype(np.int64) + down, ts_ns, count).take(count > 0)
    return found.take(np.lexsort((found.ts_ns, found.stream)))


def cells_needed(flows: FlowTable, ts_ns: Ints) -> tuple[Needs, Parts]:
    """What the TCP connections of an egress capture need.

    Parameters
    ----------
    flows : FlowTable
    ts_ns : ndarray of int64
        Times of its packets, on the ingress clock.
    """
    flags = flows.packets.tcp_flags
    tcp = flows.proto[flows.flow] == PROTO_TCP
    opening = flags & (TCP_SYN | TCP_ACK)
    kinds = [
        _bursts(flows, ts_ns),
        _singles(flows, ts_ns, OPENS, tcp & flows.up & (opening == TCP_SYN)),
        _singles(flows, ts_ns, ANSWERS, tcp & ~flows.up & (opening == TCP_SYN | TCP_ACK)),
        _singles(flows, ts_ns, ENDS_UP, tcp & ((flags & (TCP_FIN | TCP_RST)) != 0)),
    ]
    needs = Needs.joined([need for need, _ in kinds])
    before = np.cumsum([0, *(len(need) for need, _ in kinds)])
    parts = Parts.joined(
        [
            Parts(part.need + first, part.ts_ns, part.cells)
            for first, (_, part) in zip(before.tolist(), kinds, strict=False)
        ]
    )
    order = np.lexsort((needs.begin_ns, needs.flow))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return needs.take(order), Parts(place[parts.need], parts.ts_ns, parts.cells)


def _bursts(flows: FlowTable, ts_ns: Ints) -> tuple[Needs, Parts]:
    numbers = np.flatnonzero(flows.proto == PROTO_TCP)
    pieces = reassemble_streams(flows, numbers)
    at_ns = ts_ns[pieces.done]
    order = np.lexsort((at_ns, pieces.stream))
    stream, at_ns = pieces.stream[order], at_ns[order]
    opens = changes(stream)
    opens[1:] |= np.diff(at_ns) > _QUIET_NS
    first = np.flatnonzero(opens)
    last = np.r_[first[1:], len(stream)].astype(np.int64) - 1 if len(first) else first
    sums = np.r_[0, np.cumsum(pieces.size[order])]
    burst = np.cumsum(opens) - 1
    have = sums[1:] - sums[first[burst]]
    full = have // CELL_DATA_BYTES
    full[last] = -(-have[last] // CELL_DATA_BYTES)
    cells = np.diff(full, prepend=0)
    cells[first] = full[first]
    down = stream[first] & 1
    needs = Needs(numbers[stream[first] >> 1], DATA_UP + down, down, at_ns[first], at_ns[last], full[last])
    return needs, Parts(burst, at_ns, cells).take(cells > 0)


def _singles(flows: FlowTable, ts_ns: Ints, kind: int, which: Bools) -> tuple[Needs, Parts]:
    """One cell for the first packet of each flow that is such."""
    rows = np.flatnonzero(which)
    flow, first = np.unique(flows.flow[rows], return_index=True)
    rows = rows[first]
    down = (~flows.up[rows]).astype(np.int64)
    each = np.ones(len(rows), np.int64)
    kinds = np.where(kind == ENDS_UP, ENDS_UP + down, kind)
    needs = Needs(flow.astype(np.int64), kinds, down, ts_ns[rows], ts_ns[rows], each)
    return needs, Parts(np.arange(len(rows)), ts_ns[rows], each)
