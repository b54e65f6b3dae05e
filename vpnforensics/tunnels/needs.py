"""What egress connections need of a stream that carries many of them, and what passed in it.

A relay that puts many connections into one stream adds to their bytes, but loses none: each burst of a
connection (one direction, up to a silence) needs at least what the relay makes of so many bytes, and so do
the messages that open and end it. What it is counted in is the relay's: bytes where a law says how many
(ssh), cells where all have one size (Tor, :mod:`vpnforensics.tunnels.cells`).

For a direct connection ssh's client asks before the server's SYN, the server answers after the SYN-ACK, and
whoever ends it says so (RFC 4254, 5.1 to 5.3 and 7.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Columns, Ints
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.flows.grouping import changes
from vpnforensics.packets.table import PROTO_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from vpnforensics.tunnels.reassembly import reassemble_streams
from vpnforensics.tunnels.write_law import CHANNEL_OPENED_BYTES, WriteLaw

_QUIET_NS = 20_000_000
"""Silence between bursts of a connection: more than what one read of a relay leaves between segments."""
_READS = 4
"""A write law adds for each read; a burst is read in so many, at most, to be told as one."""
_CHANNEL_OPEN_BYTES, _CHANNEL_END_BYTES = 50, 1
"""As much data has a message as long as ssh's shortest that asks for a connection (RFC 4254, 7.2), and as
those that end it, padded (5.3)."""
_GRAIN_BYTES = 200
"""Smaller needs are those of single messages."""
OPENS, ANSWERS, DATA_UP, DATA_DOWN, ENDS_UP, ENDS_DOWN, KINDS = 0, 1, 2, 3, 4, 5, 6
"""What a connection has needs for."""


@dataclass(frozen=True, eq=False)
class Measure:
    """What a relay's streams are counted in."""

    seen: Callable[[Ints, Ints, Ints], Ints]
    """Amount of each piece, by its stream, time and bytes; pieces are in the order of their streams."""
    needed: Callable[[Ints], Ints]
    """Least amount for bursts of so many bytes."""
    opens: int
    """Amounts for the messages that open a connection, answer, and end it; 0 where they are not known."""
    answers: int
    ends: int
    grain: int
    """A small amount: that of single messages."""
    spare: int
    """So much more than what is needed may well be the burst's own."""
    answered: int = 0
    """Amount that whoever receives it answers with a message; 0 for none."""


@dataclass(frozen=True, eq=False)
class Passed(Columns):
    """What passed the ingress tap, one row a piece; by stream, then time."""

    stream: Ints
    """``2 k`` is the k-th client's up, ``2 k + 1`` down."""
    ts_ns: Ints
    amount: Ints


@dataclass(frozen=True, eq=False)
class Needs(Columns):
    """What egress connections need, by flow and time."""

    flow: Ints
    kind: Ints
    down: Ints
    begin_ns: Ints
    end_ns: Ints
    amount: Ints


@dataclass(frozen=True, eq=False)
class Parts(Columns):
    """When each need was needed, part by part: a burst lasts."""

    need: Ints
    ts_ns: Ints
    amount: Ints


def bytes_of(law: WriteLaw) -> Measure:
    """The measure of streams whose law is of bytes."""
    messages = (_CHANNEL_OPEN_BYTES, CHANNEL_OPENED_BYTES, _CHANNEL_END_BYTES)
    known = law.name == "ssh"
    opens, answers, ends = law.outer(np.array(messages)).tolist() if known else (0, 0, 0)
    return Measure(
        lambda stream, ts_ns, size: size,
        law.outer,
        opens,
        answers,
        ends,
        grain=_GRAIN_BYTES,
        spare=_READS * (law.frame + law.unit + law.extra),
    )


def passed(
    conversations: FlowTable, client_of: Ints, forward: npt.NDArray[np.bool_], measure: Measure
) -> Passed:
    """What some conversations of an ingress capture carried.

    Parameters
    ----------
    conversations : FlowTable
    client_of : ndarray of int64, shape (conversations,)
        Client of each, -1 for those that are not looked at.
    forward : ndarray of bool, shape (conversations,)
        Whether the flow table's client is the one.
    measure : Measure
    """
    numbers = np.flatnonzero((client_of >= 0) & (conversations.proto == PROTO_TCP))
    pieces = reassemble_streams(conversations, numbers)
    order = np.argsort(pieces.stream, kind="stable")  # positions ascend within a stream as they are
    stream, ts_ns = pieces.stream[order], conversations.packets.ts_ns[pieces.done[order]]
    amount = measure.seen(stream, ts_ns, pieces.size[order])
    conversation = numbers[stream >> 1]
    down = np.where(forward[conversation], stream & 1, 1 - (stream & 1))
    found = Passed(2 * client_of[conversation] + down, ts_ns, amount).take(amount > 0)
    return found.take(np.lexsort((found.ts_ns, found.stream)))


def needs_of(flows: FlowTable, ts_ns: Ints, measure: Measure) -> tuple[Needs, Parts]:
    """What the TCP connections of an egress capture need.

    Parameters
    ----------
    flows : FlowTable
    ts_ns : ndarray of int64
        Times of its packets, on the ingress clock.
    measure : Measure
    """
    flags = flows.packets.tcp_flags
    tcp = flows.proto[flows.flow] == PROTO_TCP
    opening = flags & (TCP_SYN | TCP_ACK)
    messages = (
        (OPENS, measure.opens, tcp & flows.up & (opening == TCP_SYN)),
        (ANSWERS, measure.answers, tcp & ~flows.up & (opening == TCP_SYN | TCP_ACK)),
        (ENDS_UP, measure.ends, tcp & ((flags & (TCP_FIN | TCP_RST)) != 0)),
    )
    kinds = [_bursts(flows, ts_ns, measure)]
    kinds += [_messages(flows, ts_ns, *message) for message in messages if message[1]]
    needs = Needs.joined([need for need, _ in kinds])
    before = np.cumsum([0, *(len(need) for need, _ in kinds)])
    parts = Parts.joined(
        [
            Parts(part.need + first, part.ts_ns, part.amount)
            for first, (_, part) in zip(before.tolist(), kinds, strict=False)
        ]
    )
    order = np.lexsort((needs.begin_ns, needs.flow))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return needs.take(order), Parts(place[parts.need], parts.ts_ns, parts.amount)


def _bursts(flows: FlowTable, ts_ns: Ints, measure: Measure) -> tuple[Needs, Parts]:
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
    needed = measure.needed(sums[1:] - sums[first[burst]])
    amount = np.diff(needed, prepend=0)
    amount[first] = needed[first]
    down = stream[first] & 1
    needs = Needs(numbers[stream[first] >> 1], DATA_UP + down, down, at_ns[first], at_ns[last], needed[last])
    return needs, Parts(burst, at_ns, amount).take(amount > 0)


def _messages(flows: FlowTable, ts_ns: Ints, kind: int, amount: int, which: Bools) -> tuple[Needs, Parts]:
    """One for the first packet of each flow that is such."""
    rows = np.flatnonzero(which)
    flow, first = np.unique(flows.flow[rows], return_index=True)
    rows = rows[first]
    down = (~flows.up[rows]).astype(np.int64)
    each = np.full(len(rows), amount, np.int64)
    kinds = np.where(kind == ENDS_UP, ENDS_UP + down, kind)
    needs = Needs(flow.astype(np.int64), kinds, down, ts_ns[rows], ts_ns[rows], each)
    return needs, Parts(np.arange(len(rows)), ts_ns[rows], each)
