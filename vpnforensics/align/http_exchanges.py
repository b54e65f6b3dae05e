"""Requests and their answers in the connections of one side, with what a proxy keeps of them.

A message begins with a segment, so the first bytes that the packet table has find them; the rest of their
beginnings is read in one further pass over the capture. A request and its answer are one exchange: an answer
acknowledges the request that it is to (HTTP/1 without pipelining), whatever became of packet times. What
comes behind the beginning of a message is its body. Where the beginning of one of both was not captured, the
other stands alone.

Nothing is found where the capture is no file that can be read again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vpnforensics.align.payload_heads import HEAD_BYTES, PayloadHeads
from vpnforensics.arrays import Bools, Columns, Ints
from vpnforensics.capture.payloads import can_be_read_again
from vpnforensics.errors import CaptureError
from vpnforensics.features.names.payloads import payloads
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.flows.grouping import runs
from vpnforensics.packets.table import PROTO_TCP
from vpnforensics.tunnels.http_messages import (
    FINGERPRINT_BYTES,
    LOOKED_AT_BYTES,
    METHODS,
    NONE,
    Fingerprints,
    fingerprints,
)
from vpnforensics.tunnels.reassembly import Pieces, reassemble_streams

_FAR = 1 << 40
"""More bytes than any stream has."""
_WORD = 4
"""Bytes by which a segment is taken for the beginning of a message, until it is read."""


@dataclass(frozen=True, eq=False)
class HttpMessages(Columns):
    """Beginnings of messages of one side."""

    exchange: Ints
    ts_ns: Ints
    request: Bools
    size: Ints
    """Bytes of the segment that begins it."""
    core: npt.NDArray[np.uint8]
    whole: npt.NDArray[np.uint8]
    """Fingerprints, shape (n, 24); zeros where the capture has too little."""

    def heads(self, fingerprint: npt.NDArray[np.uint8]) -> PayloadHeads:
        """As payloads of their exchanges, by one of the fingerprints, where there is one."""
        every = PayloadHeads(self.exchange, self.ts_ns, self.request, self.size, fingerprint)
        return every.take(np.flatnonzero(fingerprint.any(axis=1)))

    def as_known(self, other: HttpMessages) -> npt.NDArray[np.uint8]:
        """What to compare with the other side: a whole fingerprint that it has, too, or else the core's."""
        known = np.isin(_as_one(self.whole), _as_one(other.whole)) & self.whole.any(axis=1)
        return np.where(known[:, None], self.whole, self.core)


@dataclass(frozen=True, eq=False)
class HttpExchanges:
    """Exchanges of one side, numbered from 0."""

    messages: HttpMessages
    bodies: PayloadHeads
    """Of the segments behind the beginnings; ``of`` is the exchange. Their heads are inverted: what a whole
    connection has is no rival of what one of its exchanges has."""
    connection_of: Ints
    """Of each exchange, by its number in the flow table."""

    def __len__(self) -> int:
        return len(self.connection_of)


def find_exchanges(table: FlowTable, wanted: Bools, up: Bools) -> HttpExchanges:
    """The exchanges of some conversations.

    Parameters
    ----------
    table : FlowTable
    wanted : ndarray of bool, shape (conversations,)
    up : ndarray of bool, shape (packets,)
        Which packets are the client's.
    """
    packets = table.packets
    numbers = np.flatnonzero(wanted & (table.proto == PROTO_TCP)).astype(np.int64)
    if not can_be_read_again(packets.source):
        numbers = numbers[:0]
    pieces = _by_stream(reassemble_streams(table, numbers))
    first = np.flatnonzero((pieces.skip == 0) & _begins(packets.head[pieces.row], up[pieces.row]))
    prints = _read(table, pieces, first, up)
    first = first[[each != NONE for each in prints]] if len(first) else first
    of = _exchanges(table, pieces, first, up)
    named, exchange = np.unique(of[first], return_inverse=True)
    row = pieces.row[first]
    messages = HttpMessages(
        exchange.astype(np.int64),
        packets.ts_ns[row],
        up[row],
        packets.payload_bytes[row].astype(np.int64),
        _as_rows([each.core for each in prints if each != NONE]),
        _as_rows([each.whole for each in prints if each != NONE]),
    )
    behind = (pieces.skip == 0) & (of >= 0) & (packets.payload_bytes[pieces.row] >= HEAD_BYTES)
    behind[first] = False
    row = pieces.row[behind]
    bodies = PayloadHeads(
        np.searchsorted(named, of[behind]),
        packets.ts_ns[row],
        up[row],
        packets.payload_bytes[row].astype(np.int64),
        packets.head[row, :HEAD_BYTES],
    )
    bodies = bodies.take(np.flatnonzero(bodies.head.any(axis=1)))
    bodies = replace(bodies, head=~bodies.head)
    return HttpExchanges(messages, bodies, numbers[pieces.stream[first[named]] >> 1])


def _by_stream(pieces: Pieces) -> Pieces:
    """The pieces stream by stream; positions ascend within one as they are."""
    order = np.argsort(pieces.stream, kind="stable")
    names = ("stream", "pos", "size", "skip", "row", "done", "ready")
    return replace(pieces, **{name: getattr(pieces, name)[order] for name in names})


def _begins(head: npt.NDArray[np.uint8], request: Bools) -> Bools:
    """Whether segments may begin a message of their direction."""
    word = np.ascontiguousarray(head[:, :_WORD]).view(f"S{_WORD}")[:, 0]
    asking = [(method + b" ")[:_WORD] for method in METHODS]
    return np.where(request, np.isin(word, asking), word == b"HTTP")


def _read(table: FlowTable, pieces: Pieces, first: Ints, up: Bools) -> list[Fingerprints]:
    """Fingerprints of the messages that begin with the pieces ``first``; each is let go once it is read."""
    key = pieces.stream * _FAR + pieces.pos
    past = np.searchsorted(key, key[first] + LOOKED_AT_BYTES)
    past = np.minimum(past, np.r_[first[1:], len(key)][: len(first)])
    message, place = runs(first, past)
    wanted = dict(
        zip(pieces.row[place].tolist(), zip(message.tolist(), place.tolist(), strict=True), strict=True)
    )
    left, parts = (past - first).tolist(), [dict[int, bytes]() for _ in first]
    found = [NONE] * len(first)
    try:
        for payload in payloads(table.packets, pieces.row[place]) if len(place) else ():
            n, at = wanted[payload.row]
            skip = int(pieces.skip[at])
            parts[n][at] = payload.octets[skip : skip + int(pieces.size[at])]
            left[n] -= 1
            if not left[n]:
                found[n] = fingerprints(_joined(pieces, parts[n]), request=bool(up[pieces.row[first[n]]]))
                parts[n].clear()
    except CaptureError:  # the file vanished meanwhile: what was read stays
        pass
    return found


def _joined(pieces: Pieces, parts: dict[int, bytes]) -> bytes:
    """The bytes up to the first that the capture lacks."""
    octets, begin = b"", int(pieces.pos[min(parts)])
    for at in sorted(parts):
        if int(pieces.pos[at]) - begin != len(octets):
            break
        octets += parts[at]
    return octets


def _exchanges(table: FlowTable, pieces: Pieces, first: Ints, up: Bools) -> Ints:
    """Exchange of each piece, named by one of the messages ``first``; -1 before any."""
    packets, row, connection = table.packets, pieces.row, pieces.stream >> 1
    request = up[row]
    last = np.searchsorted(first, np.arange(len(row)), side="right") - 1  # message that it is in, or begins
    beyond = last < 0
    beyond[~beyond] = pieces.stream[first[last[~beyond]]] != pieces.stream[~beyond]
    last[beyond] = -1
    to = np.full(len(row), -1, np.int64)  # request that an answer acknowledges
    asked = np.flatnonzero(request[first])
    if len(asked):
        of, pos = connection[first[asked]], pieces.pos[first[asked]]
        one = np.minimum(np.searchsorted(of, connection), len(of) - 1)
        begin = packets.seq[row[first[asked[one]]]].astype(np.int64) - pos[one]
        acknowledged = (packets.ack[row].astype(np.int64) - begin) & 0xFFFFFFFF
        latest = np.searchsorted(of * _FAR + pos, connection * _FAR + acknowledged) - 1
        to = np.where(~request & (of[one] == connection) & (latest >= one), asked[latest], -1)
    exchange, answered = np.arange(len(first) + 1), np.zeros(len(first) + 1, np.bool_)
    exchange[-1] = -1
    answers = np.flatnonzero(~request[first])
    answers = answers[to[first[answers]] >= 0]
    its, nearest = np.unique(to[first[answers]], return_index=True)
    exchange[answers[nearest]], answered[its] = its, True
    return np.where((to >= 0) & ~answered[to], to, exchange[last])


def _as_rows(prints: list[bytes]) -> npt.NDArray[np.uint8]:
    octets = b"".join(each.ljust(FINGERPRINT_BYTES, b"\0") for each in prints)
    return np.frombuffer(octets, np.uint8).reshape(-1, FINGERPRINT_BYTES)


def _as_one(prints: npt.NDArray[np.uint8]) -> npt.NDArray[np.void]:
    return np.ascontiguousarray(prints).view(np.dtype((np.void, FINGERPRINT_BYTES)))[:, 0]
