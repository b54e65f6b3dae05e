"""The journal: one row a message in each direction, exact truth for every correlation experiment.

This end of the tunnel sees the inner packet and the outer datagram together. A row holds both, and both
times: ``inner_ns`` when the packet crossed the TUN, ``outer_ns`` when the datagram crossed the socket. The
inner packet is described as it is *inside* the tunnel: before ``scrub`` on its way out, after it on its way
in. A packet that had to wait for a handshake has the time of its sending as both.

A path that ends in ``.parquet`` gets a folder of Parquet files, any other a file of JSON Lines; both can be
read at any time, and after a crash. Rows are collected raw in large blocks, and another process
(``journal_writer``) decodes and writes full blocks, so the traffic waits for nothing but a copy. No key but a
peer's public one is in it.

A row is written when it is known what became of its message, and of nothing that is not authentic: a flood
from forged addresses leaves no trace here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from vpnforensics.reftunnel.journal_block import (
    COVER,
    DATA,
    HANDSHAKE,
    HEAD_BYTES,
    IN,
    KEEPALIVE,
    OUT,
    REFUSED,
    UNDELIVERED,
    UNSENT,
    Block,
    Run,
    SentRows,
)
from vpnforensics.reftunnel.journal_held import HeldRows
from vpnforensics.reftunnel.journal_pipe import WriterProcess
from vpnforensics.reftunnel.timers import NEVER
from vpnforensics.reftunnel.wire import TRANSPORT, TRANSPORT_OVERHEAD_BYTES

if TYPE_CHECKING:
    from vpnforensics.reftunnel.endpoint import Endpoint
    from vpnforensics.reftunnel.events import Transmit
    from vpnforensics.reftunnel.peers import Peer

T = TypeVar("T")

BLOCK_ROWS = 16_384
FLUSH_S = 1.0
"""Rows wait no longer than this for their block to be full."""


class Journal:
    """Collects rows and has them written.

    Parameters
    ----------
    path : Path
        Where to; the suffix decides the format. Nothing of this name may exist.

    Raises
    ------
    TunnelError
        It exists, cannot be made, or Parquet is asked for and pyarrow is missing.
    """

    def __init__(self, path: Path) -> None:
        self._writer = WriterProcess(path)
        self._peers: dict[Peer, int] = {}
        self._endpoints: dict[Endpoint, int] = {}
        self._held = HeldRows()
        self._due_at = NEVER
        self._block = Block.empty(BLOCK_ROWS)
        self._used = 0
        self.opened: list[tuple[Peer, Endpoint, int, int, int]] = []
        """Of each message opened and not yet delivered: peer, endpoint, counter, outer bytes, outer
        time. A bare tuple, appended to by the one caller that opens: it runs once a packet."""

    @property
    def lost_rows(self) -> int:
        """Rows that nobody wrote, since the writer ended early: a full disk, most likely."""
        return self._writer.lost_rows

    # -- rows ---------------------------------------------------------------------------------------

    def sealed(self, sent: SentRows, runs: Sequence[Run]) -> None:
        """Packets that were sealed, and what became of them: `runs` are their send calls, in order."""
        if self._held:
            self._held.settle()  # rows of one connection keep their order
        for run in runs:
            if run.refused or run.queue is not None:
                break
        else:
            self._write_sent(sent, runs, {})
            return
        first = 0
        for run in runs:
            part = sent.part(first, first + run.count)
            first += run.count
            write = partial(self._write_sent, part, [run])
            if run.queue is not None:
                self._held.add(run, part.outer_sizes, write)
            elif not run.is_postponed:
                write(dict.fromkeys(run.refused, UNSENT))

    def _write_sent(self, sent: SentRows, runs: Sequence[Run], kinds: Mapping[int, int]) -> None:
        count = len(sent.lengths)
        at = self._room(count)
        block, end = self._block, at + count
        # A fresh block is zeros: OUT and DATA stand there already, and each line less is half a microsecond.
        block.inner_ns[at:end] = sent.inner_ns[:count]
        if len(runs) == 1:
            block.outer_ns[at:end] = runs[0].at_ns
        else:
            block.outer_ns[at:end] = np.repeat([run.at_ns for run in runs], [run.count for run in runs])
        block.peer[at:end] = self._peer_number(sent.session.peer)
        block.endpoint[at:end] = self._endpoint_number(sent.endpoint)
        block.counter[at:end] = np.arange(sent.first_counter, sent.first_counter + count, dtype=np.uint64)
        block.outer_bytes[at:end] = sent.outer_sizes
        block.inner_bytes[at:end] = sent.lengths
        block.head[at:end] = sent.rows[:count, :HEAD_BYTES]
        if kinds:
            block.kind[at + np.array(list(kinds))] = list(kinds.values())
        self._used = end

    def heads(self, rows: npt.NDArray[np.uint8], lengths: Sequence[int]) -> None:
        """Packets of the opened messages, in their order, before anything changes them."""
        count = len(lengths)
        at = self._room(count)
        block, end = self._block, at + count
        peers, endpoints, counters, sizes, times = zip(*self.opened, strict=True)
        self.opened = []
        block.direction[at:end] = IN
        block.peer[at:end] = _numbers(peers, self._peer_number)
        block.endpoint[at:end] = _numbers(endpoints, self._endpoint_number)
        block.counter[at:end] = counters
        block.outer_bytes[at:end] = sizes
        block.outer_ns[at:end] = times
        block.inner_bytes[at:end] = lengths
        block.head[at:end] = rows[:, :HEAD_BYTES]

    def delivered(self, count: int, refused: Sequence[int], inner_ns: int) -> None:
        """The packets of the last `heads` were written to the TUN, which refused some of them."""
        end = self._used + count
        self._block.inner_ns[self._used : end] = inner_ns
        if refused:
            self._block.kind[self._used + np.asarray(refused)] = UNDELIVERED
        self._used = end

    def refused(
        self, peer: Peer, endpoint: Endpoint, counter: int, padded: bytes | memoryview, at_ns: int
    ) -> None:
        """An authentic message whose content was dropped: cover is all zeros, anything else is refused."""
        kind = REFUSED if bytes(padded).strip(b"\0") else COVER
        outer_bytes = len(padded) + TRANSPORT_OVERHEAD_BYTES
        self.message(IN, kind, peer, endpoint, outer_bytes, at_ns, counter=counter)

    def transmitted(self, output: Transmit, run: Run) -> None:
        """A message that the device made by itself; one for a stranger has no row."""
        if output.peer is None or run.is_postponed:
            return
        if self._held:
            self._held.settle()
        write = partial(self._write_transmitted, output, run.at_ns)
        if run.queue is None:
            write(dict.fromkeys(run.refused, UNSENT))
        else:
            self._held.add(run, [len(output.datagram)], write)

    def _write_transmitted(self, output: Transmit, at_ns: int, kinds: Mapping[int, int]) -> None:
        kind, counter = HANDSHAKE, 0
        if output.datagram[0] == TRANSPORT:
            kind = DATA if output.packet else KEEPALIVE
            counter = int.from_bytes(output.datagram[8:16], "little")
        self.message(
            OUT,
            kinds.get(0, kind),
            output.peer,
            output.endpoint,
            len(output.datagram),
            at_ns,
            counter=counter,
            packet=output.packet,
        )

    def message(
        self,
        direction: int,
        kind: int,
        peer: Peer | None,
        endpoint: Endpoint,
        outer_bytes: int,
        at_ns: int,
        *,
        counter: int = 0,
        packet: bytes = b"",
        inner_ns: int = 0,
    ) -> None:
        """A message that went another way: handshake, keepalive, cover, or a packet by itself."""
        at = self._room(1)
        block = self._block
        block.direction[at], block.kind[at] = direction, kind
        block.outer_ns[at], block.inner_ns[at] = at_ns, inner_ns or at_ns
        block.peer[at] = -1 if peer is None else self._peer_number(peer)
        block.endpoint[at] = self._endpoint_number(endpoint)
        block.counter[at] = counter
        block.outer_bytes[at] = outer_bytes
        block.inner_bytes[at] = len(packet)
        block.head[at] = np.frombuffer(packet[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0"), np.uint8)
        self._used = at + 1

    def tick(self, now: float) -> None:
        """Hand over the rows that have waited for `FLUSH_S`, and those whose messages have left meanwhile."""
        if self._held:
            self._held.settle()
        if not self._used:
            self._due_at = NEVER
        elif self._due_at == NEVER:
            self._due_at = now + FLUSH_S
        elif now >= self._due_at:
            # While the disk does not keep up, rows wait until their block is full: the traffic does not.
            if not self._writer.is_behind():
                self._hand_over()
            self._due_at = now + FLUSH_S if self._used else NEVER

    def wake_at(self, now: float) -> float:
        """When `tick` is next needed; `NEVER` if no row waits."""
        return min(self._due_at, now + FLUSH_S) if self._held else self._due_at

    def close(self) -> None:
        """Write what is left and close the file; the connections are closed already.

        Raises
        ------
        TunnelError
            Something could not be written; the journal is then not whole.
        """
        self._held.settle()
        self._hand_over()
        self._writer.close()

    # -- blocks -------------------------------------------------------------------------------------

    def _peer_number(self, peer: Peer) -> int:
        number = self._peers.get(peer)
        if number is None:
            number = self._peers[peer] = len(self._peers)
        return number

    def _endpoint_number(self, endpoint: Endpoint) -> int:
        number = self._endpoints.get(endpoint)
        if number is None:
            number = self._endpoints[endpoint] = len(self._endpoints)
        return number

    def _room(self, count: int) -> int:
        """Where the next rows go; a block without room for them is handed over first."""
        if self._used + count > BLOCK_ROWS:
            self._hand_over()
        return self._used

    def _hand_over(self) -> None:
        block, self._block = self._block.first(self._used), Block.empty(BLOCK_ROWS)
        block.peer_names = [str(peer.config.public_key) for peer in self._peers]
        block.endpoint_names = [str(endpoint) for endpoint in self._endpoints]
        # Each block has names of its own: whoever roams for ever is not remembered for ever.
        self._peers.clear()
        self._endpoints.clear()
        self._used = 0
        # Blocks when the disk cannot keep up: losing rows would make the truth a lie.
        self._writer.send(block)


def _numbers(values: Sequence[T], number: Callable[[T], int]) -> list[int]:
    """Number of each value: neighbours are mostly the same object, which is then asked for once."""
    numbers, last, current = [], None, -1
    for value in values:
        if value is not last:
            last, current = value, number(value)
        numbers.append(current)
    return numbers
