"""TCP streams of one side as series: when how much of each had passed.

A stream is one direction of a conversation, from its client or to it: ``2 c`` is conversation c's up,
``2 c + 1`` its down. How many bytes it has in all is taken from the sequence numbers of all packets, those of
SYN, FIN and acknowledgements too (RFC 9293, 3.4), so that a captured order that is not the sent one, or a
last segment that the capture lacks, leaves it exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.align.alignment import Alignment
from vpnforensics.arrays import Bools, Ints
from vpnforensics.features.wraparound import signed_difference
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import PROTO_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from vpnforensics.tunnels.writes import WriteTable

_NEVER_NS = 1 << 60
"""Longer than any pause, and its sums with times still fit."""
_ASIDE_US = 100_000_000
"""Room before and behind a stream's times, in which times asked for belong to no other stream."""


@dataclass(frozen=True, eq=False)
class Streams:
    """Writes by stream and position, with what is known of whole streams. Times on the ingress clock."""

    stream: Ints
    """Of each write; ascending."""
    start: Ints
    """``start[s]:start[s + 1]`` are stream s's writes."""
    first_ns: Ints
    last_ns: Ints
    end: Ints
    """Bytes of the stream up to and with a write."""
    segments: Ints
    """And its segments."""
    pause_before_ns: Ints
    """Silence of the stream; without end before its first write."""
    pause_behind_ns: Ints
    total_bytes: Ints
    """Of each stream; 0 where it has no write."""
    begin_ns: Ints
    """First packet of each conversation."""
    end_ns: Ints
    """And its last."""
    _first_key: Ints
    _last_key: Ints
    _origin_us: int
    _span_us: int

    @property
    def conversations(self) -> int:
        """How many the table has, with or without writes."""
        return len(self.begin_ns)

    @property
    def has(self) -> Bools:
        """Streams with any write."""
        return np.diff(self.start) > 0

    @staticmethod
    def of(table: FlowTable, writes: WriteTable, forward: Bools, clock: Alignment | None) -> Streams:
        """The streams of a side.

        Parameters
        ----------
        table : FlowTable
        writes : WriteTable
            Of its conversations, some or all.
        forward : ndarray of bool
            Whether the flow table's client is one, of each conversation.
        clock : Alignment or None
            To the ingress clock, of the egress side.
        """

        def on_ingress(ns: Ints) -> Ints:
            return ns if clock is None else clock.to_ingress(ns)

        stream = 2 * writes.connection.astype(np.int64) + (writes.up != forward[writes.connection])
        order = np.lexsort((writes.position, stream))
        stream, conversations = stream[order], len(table)
        start = np.searchsorted(stream, np.arange(2 * conversations + 1)).astype(np.int64)
        low, total = _extents(table, forward)
        of_first = order[start[:-1][np.diff(start) > 0]]
        # Positions count from the first byte delivered, which need not be the first there was.
        seq = table.packets.seq[writes.first_row[of_first]].astype(np.int64) - writes.position[of_first]
        later = np.zeros(2 * conversations, np.int64)
        having = np.unique(stream)
        later[having] = signed_difference(seq, low[having], 32)
        end = (writes.position + writes.size)[order] + later[stream]
        reach = np.zeros(2 * conversations, np.int64)
        np.maximum.at(reach, stream, end)
        total = np.where(reach > 1 << 30, reach, np.maximum(total, reach))  # beyond, numbers come again
        total[np.diff(start) == 0] = 0
        first, last = on_ingress(writes.first_ns[order]), on_ingress(writes.last_ns[order])
        begin, stop = on_ingress(table.first_ns), on_ingress(table.last_ns)
        segments = np.r_[0, np.cumsum(writes.segments[order].astype(np.int64))]
        same = stream[1:] == stream[:-1]
        gap = np.where(same, first[1:] - last[:-1], _NEVER_NS)
        times = np.r_[first, last, begin, stop]
        origin = int(times.min(initial=0 if not len(times) else times[0])) // 1000 - _ASIDE_US
        span = int(times.max(initial=0 if not len(times) else times[0])) // 1000 - origin + _ASIDE_US
        ever = np.array([_NEVER_NS])
        keys = [np.maximum.accumulate(stream * span + ns // 1000 - origin) for ns in (first, last)]
        return Streams(
            stream, start, first, last, end,
            segments[1:] - segments[start[stream]],
            np.r_[ever, gap][: len(stream)], np.r_[gap, ever][: len(stream)],
            total, begin, stop, keys[0], keys[1], origin, span,
        )  # fmt: skip

    def _key(self, stream: Ints, at_ns: Ints) -> Ints:
        return stream * self._span_us + np.clip(at_ns // 1000 - self._origin_us, 0, self._span_us - 1)

    def begun(self, stream: Ints, at_ns: Ints) -> Ints:
        """Row of the last write of each stream that had begun at a time, -1 for none."""
        row = np.searchsorted(self._first_key, self._key(stream, at_ns), side="right") - 1
        return np.where(row >= self.start[stream], row, -1)

    def passed(self, stream: Ints, at_ns: Ints) -> Ints:
        """Bytes of each stream that had passed at a time, in whole writes."""
        row = np.searchsorted(self._last_key, self._key(stream, at_ns), side="right") - 1
        return np.where(row >= self.start[stream], np.r_[self.end, 0][row], 0)

    def onset_apart(self, stream: Ints, at_ns: Ints) -> Ints:
        """Time since the beginning of each stream's nearest write, negative before it; endless if none."""
        row = np.searchsorted(self._first_key, self._key(stream, at_ns))
        apart = np.full((2, len(stream)), _NEVER_NS, np.int64)
        for side, at in enumerate((row - 1, row)):
            there = (at >= self.start[stream]) & (at < self.start[stream + 1])
            apart[side, there] = at_ns[there] - self.first_ns[at[there]]
        return np.asarray(np.where(np.abs(apart[0]) <= np.abs(apart[1]), apart[0], apart[1]))


def _extents(table: FlowTable, forward: Bools) -> tuple[Ints, Ints]:
    """Sequence number of each stream's first byte, and its bytes in all, as far as any packet says."""
    packets, conversation = table.packets, table.flow.astype(np.int64)
    flags = packets.tcp_flags
    of_tcp = table.proto[conversation] == PROTO_TCP
    said = of_tcp & ((packets.payload_bytes > 0) | ((flags & (TCP_SYN | TCP_FIN)) != 0))
    rows = np.flatnonzero(said)
    stream = 2 * conversation[rows] + (table.up[rows] != forward[conversation[rows]])
    seq = packets.seq[rows].astype(np.int64) + ((flags[rows] & TCP_SYN) != 0)
    streams = 2 * len(table)
    reference = np.zeros(streams, np.int64)
    reference[stream[::-1]] = seq[::-1]
    apart = signed_difference(seq, reference[stream], 32)
    nowhere = 1 << 31  # no difference reaches it
    low, high = np.full(streams, nowhere), np.full(streams, -nowhere)
    np.minimum.at(low, stream, apart)
    np.maximum.at(high, stream, apart + packets.payload_bytes[rows])
    rows = np.flatnonzero(of_tcp & ((flags & (TCP_ACK | TCP_RST | TCP_SYN)) == TCP_ACK))
    stream = 2 * conversation[rows] + (table.up[rows] == forward[conversation[rows]])
    # The last number may be that of a FIN, which is no byte.
    apart = signed_difference(packets.ack[rows], reference[stream], 32) - 1
    known = (low[stream] < nowhere) & (apart - high[stream] < nowhere // 2)
    np.maximum.at(high, stream[known], apart[known])
    none = low == nowhere
    low, high = np.where(none, 0, low), np.where(none, 0, high)
    return (reference + low) % (1 << 32), high - low
