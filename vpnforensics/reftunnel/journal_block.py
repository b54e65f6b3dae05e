"""Rows of the journal as the traffic leaves them, and their way to the process that writes them."""

from __future__ import annotations

import errno
import json
import os
import struct
import time
from dataclasses import dataclass, field, fields, replace
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from vpnforensics.reftunnel.carrier import Queue, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpnforensics.reftunnel.endpoint import Endpoint
    from vpnforensics.reftunnel.session import Session

HEAD_BYTES = 120
"""An IPv4 header of 60 bytes and a TCP header of 60."""

_LENGTH = struct.Struct("<I")

OUT, IN = range(2)
DATA, COVER, KEEPALIVE, HANDSHAKE, REFUSED, UNSENT, UNACKED, UNDELIVERED = range(8)

Ints = npt.NDArray[Any]


@dataclass(slots=True)
class Block:
    """Rows as the traffic leaves them: arrays of one length, and the raw head of each packet."""

    direction: Ints
    kind: Ints
    inner_ns: Ints
    outer_ns: Ints
    peer: Ints
    endpoint: Ints
    counter: Ints
    outer_bytes: Ints
    inner_bytes: Ints
    head: Ints
    peer_names: list[str] = field(default_factory=list)
    endpoint_names: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, rows: int) -> Self:
        """Room for `rows` rows."""
        return cls(
            direction=np.zeros(rows, np.uint8),
            kind=np.zeros(rows, np.uint8),
            inner_ns=np.zeros(rows, np.int64),
            outer_ns=np.zeros(rows, np.int64),
            peer=np.zeros(rows, np.int32),
            endpoint=np.zeros(rows, np.int32),
            counter=np.zeros(rows, np.uint64),
            outer_bytes=np.zeros(rows, np.uint16),
            inner_bytes=np.zeros(rows, np.uint16),
            head=np.zeros((rows, HEAD_BYTES), np.uint8),
        )

    def first(self, rows: int) -> Self:
        """The first rows only."""
        return replace(self, **{name: getattr(self, name)[:rows] for name in _ARRAYS})

    def send(self, pipe: int) -> None:
        """Write the block to a pipe: JSON behind its length, then the bytes of each array."""
        line = {"rows": len(self.kind), "peers": self.peer_names, "endpoints": self.endpoint_names}
        header = json.dumps(line).encode()
        parts = [memoryview(_LENGTH.pack(len(header)) + header)]
        parts += [memoryview(getattr(self, name)).cast("B") for name in _ARRAYS if len(self.kind)]
        while parts:
            # One call for everything: between calls this thread would contend with the traffic.
            written = os.writev(pipe, parts)
            while parts and written >= len(parts[0]):
                written -= len(parts.pop(0))
            if parts:
                parts[0] = parts[0][written:]

    @classmethod
    def receive(cls, stream: IO[bytes]) -> Self | None:
        """Read a block that `send` wrote; None at the end."""
        try:
            (length,) = _LENGTH.unpack(_read(stream, _LENGTH.size))
            header = json.loads(_read(stream, length))
            block = cls.empty(header["rows"])
            for name in _ARRAYS:
                array = getattr(block, name)
                raw = _read(stream, array.nbytes)
                setattr(block, name, np.frombuffer(raw, array.dtype).reshape(array.shape))
        except EOFError:
            return None  # the tunnel was killed while it wrote: this block is lost, the others are whole
        block.peer_names = header["peers"]
        block.endpoint_names = header["endpoints"]
        return block


def _read(stream: IO[bytes], size: int) -> bytearray:
    """Exactly so many bytes; a pipe gives fewer at a time, and an unbuffered stream keeps none back."""
    data, at = bytearray(size), 0
    while at < size:
        count = stream.readinto(memoryview(data)[at:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        at += count
    return data


_ARRAYS = tuple(column.name for column in fields(Block) if not column.name.endswith("_names"))


# Not frozen: these two are made for every send call, and a frozen one takes four times as long to make.
@dataclass(slots=True)
class Run:
    """Datagrams of one send call.

    Parameters
    ----------
    count : int
        How many.
    at_ns : int
        When the call was over.
    refused : Refused
        Those that were not taken.
    queue : Queue or None
        The connection in which some of the others wait.
    end_bytes : int
        What that connection had been given with them.
    """

    count: int
    at_ns: int
    refused: Refused
    queue: Queue | None = None
    end_bytes: int = 0

    @classmethod
    def just_sent(cls, count: int, refused: Refused, queue: Queue | None = None) -> Self:
        """What a call that is over now did."""
        if queue is None:
            return cls(count, time.time_ns(), refused)
        return cls(count, time.time_ns(), refused, queue, queue.taken_bytes)

    @property
    def is_postponed(self) -> bool:
        """Whether the connection was not there yet: they will be sent by another call."""
        return errno.EINPROGRESS in self.refused.values()


@dataclass(slots=True)
class SentRows:
    """Packets sealed with consecutive counters, one a row; `rows` and `inner_ns` may be longer.

    Parameters
    ----------
    session : Session
        What sealed them.
    endpoint : Endpoint
        Where they went.
    first_counter : int
        Of the first packet.
    rows : ndarray of uint8, shape (n, width)
        The packets.
    lengths, outer_sizes : sequence of int
        Bytes of each packet, and of its datagram.
    inner_ns : ndarray of int64, shape (n,)
        When each was read.
    """

    session: Session
    endpoint: Endpoint
    first_counter: int
    rows: npt.NDArray[np.uint8]
    lengths: Sequence[int]
    outer_sizes: Sequence[int]
    inner_ns: npt.NDArray[np.int64]

    def part(self, start: int, end: int) -> SentRows:
        """A copy of some of them, to be kept."""
        return SentRows(
            self.session,
            self.endpoint,
            self.first_counter + start,
            self.rows[start:end, :HEAD_BYTES].copy(),
            self.lengths[start:end],
            self.outer_sizes[start:end],
            self.inner_ns[start:end].copy(),
        )
