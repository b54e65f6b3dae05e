"""Rows of the journal as the traffic leaves them, and their way to the process that writes them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields, replace
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

HEAD_BYTES = 120
"""An IPv4 header of 60 bytes and a TCP header of 60."""

OUT, IN = range(2)
DATA, COVER, KEEPALIVE, HANDSHAKE, REFUSED = range(5)

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
    peer_names: dict[int, str] = field(default_factory=dict)
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
        """Write the block to a pipe: a line of JSON, then the bytes of each array."""
        peers = list(self.peer_names.items())
        line = {"rows": len(self.kind), "peers": peers, "endpoints": self.endpoint_names}
        parts = [memoryview(json.dumps(line).encode() + b"\n")]
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
        line = stream.readline()
        if not line:
            return None
        header = json.loads(line)
        block = cls.empty(header["rows"])
        for name in _ARRAYS:
            array = getattr(block, name)
            raw = stream.read(array.nbytes)
            if len(raw) < array.nbytes:
                return None  # the tunnel was killed while it wrote: this block is lost, the others are whole
            setattr(block, name, np.frombuffer(raw, array.dtype).reshape(array.shape))
        block.peer_names = dict(header["peers"])
        block.endpoint_names = header["endpoints"]
        return block


_ARRAYS = tuple(column.name for column in fields(Block) if not column.name.endswith("_names"))
