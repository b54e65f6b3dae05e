"""The journal: one row a message in each direction, exact truth for every correlation experiment.

This end of the tunnel sees the inner packet and the outer datagram together. A row holds both, and both
times: ``inner_ns`` when the packet crossed the TUN, ``outer_ns`` when the datagram crossed the socket. The
inner packet is described as it is *inside* the tunnel: before ``scrub`` on its way out, after it on its way
in. A packet that had to wait for a handshake has the time of its sending as both.

A path that ends in ``.parquet`` gets Parquet, written in row groups and readable only once closed; any other
gets JSON Lines, readable at any time. Rows are collected raw in large blocks, and another process
(``journal_writer``) decodes and writes full blocks, so the traffic waits for nothing but a copy. No key but a
peer's public one is in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.drops import Drop
from vpnforensics.reftunnel.journal_block import (
    COVER,
    DATA,
    HANDSHAKE,
    HEAD_BYTES,
    IN,
    KEEPALIVE,
    OUT,
    REFUSED,
    Block,
)
from vpnforensics.reftunnel.keys import open_private
from vpnforensics.reftunnel.wire import TRANSPORT

if TYPE_CHECKING:
    from vpnforensics.reftunnel.endpoint import Endpoint
    from vpnforensics.reftunnel.events import Transmit
    from vpnforensics.reftunnel.peers import Peer
    from vpnforensics.reftunnel.session import Session

BLOCK_ROWS = 16_384
_BLOCKS_WAITING = 8
_PIPE_BYTES = 1 << 20


class Journal:
    """Collects rows and has them written.

    Parameters
    ----------
    path : Path
        Where to; the suffix decides the format. What was in the file is lost; a new one is its owner's only.

    Raises
    ------
    TunnelError
        The file cannot be made, or Parquet is asked for and pyarrow is missing.
    """

    def __init__(self, path: Path) -> None:
        try:
            os.close(open_private(path, os.O_TRUNC))
        except OSError as error:
            raise TunnelError(f"cannot write the journal {path}: {error.strerror}") from None
        # Another process decodes and writes: in this one it would hold the interpreter's lock, and the
        # traffic would wait for it at every system call.
        self._process = subprocess.Popen(  # noqa: S603 (our own program, no shell)
            [sys.executable, "-m", "vpnforensics.reftunnel.journal_writer", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a ^C is for the tunnel, which then closes the journal in order
        )
        self._peers: dict[int, str] = {}
        self._endpoints: dict[Endpoint, int] = {}
        self._endpoint_texts: list[str] = []
        self._block = Block.empty(BLOCK_ROWS)
        self._used = 0
        self.opened: list[tuple[int, int, int, int, int]] = []
        """Of each message opened and not yet delivered: peer, endpoint (as numbers), counter, outer
        bytes, outer time. A bare tuple, appended to by the one caller that opens: it runs once a packet."""
        self._waiting: queue.Queue[Block | None] = queue.Queue(_BLOCKS_WAITING)
        self._broken = False
        self._thread = threading.Thread(target=self._send_blocks, name="journal", daemon=True)
        self._thread.start()

    # -- rows ---------------------------------------------------------------------------------------

    def sealed(
        self,
        session: Session,
        endpoint: Endpoint,
        first_counter: int,
        rows: npt.NDArray[np.uint8],
        lengths: Sequence[int],
        outer_sizes: Sequence[int],
        inner_ns: int,
        outer_ns: int,
    ) -> None:
        """Packets sent with consecutive counters; the first row of `rows` is the first packet."""
        count = len(lengths)
        at = self._room(count)
        block, end = self._block, at + count
        # A fresh block is zeros: OUT and DATA stand there already, and each line less is half a microsecond.
        block.inner_ns[at:end] = inner_ns
        block.outer_ns[at:end] = outer_ns
        block.peer[at:end] = self.peer_number(session.peer)
        block.endpoint[at:end] = self.endpoint_number(endpoint)
        block.counter[at:end] = np.arange(first_counter, first_counter + count, dtype=np.uint64)
        block.outer_bytes[at:end] = outer_sizes
        block.inner_bytes[at:end] = lengths
        block.head[at:end] = rows[:count, :HEAD_BYTES]
        self._used = end

    def heads(self, rows: npt.NDArray[np.uint8], lengths: Sequence[int]) -> None:
        """Packets of the opened messages, in their order, before anything changes them."""
        count = len(lengths)
        at = self._room(count)
        block, end = self._block, at + count
        peers, endpoints, counters, sizes, times = zip(*self.opened, strict=True)
        self.opened = []
        block.direction[at:end] = IN
        block.peer[at:end] = peers
        block.endpoint[at:end] = endpoints
        block.counter[at:end] = counters
        block.outer_bytes[at:end] = sizes
        block.outer_ns[at:end] = times
        block.inner_bytes[at:end] = lengths
        block.head[at:end] = rows[:, :HEAD_BYTES]

    def delivered(self, count: int, inner_ns: int) -> None:
        """The packets of the last `heads` have crossed the TUN."""
        end = self._used + count
        self._block.inner_ns[self._used : end] = inner_ns
        self._used = end

    def refused(
        self, session: Session, endpoint: Endpoint, counter: int, outer_bytes: int, reason: Drop, at_ns: int
    ) -> None:
        """An authentic message whose content was dropped: the peer's cover, or a wrong source."""
        kind = COVER if reason is Drop.NOT_IP else REFUSED
        self.message(IN, kind, session.peer, endpoint, outer_bytes, at_ns, counter=counter)

    def transmitted(self, output: Transmit, at_ns: int) -> None:
        """A message that the device made by itself."""
        kind, counter = HANDSHAKE, 0
        if output.datagram[0] == TRANSPORT:
            kind = DATA if output.packet else KEEPALIVE
            counter = int.from_bytes(output.datagram[8:16], "little")
        self.message(
            OUT,
            kind,
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
    ) -> None:
        """A message that went another way: handshake, keepalive, cover, or a packet by itself."""
        at = self._room(1)
        block = self._block
        block.direction[at], block.kind[at] = direction, kind
        block.inner_ns[at] = block.outer_ns[at] = at_ns
        block.peer[at] = -1 if peer is None else self.peer_number(peer)
        block.endpoint[at] = self.endpoint_number(endpoint)
        block.counter[at] = counter
        block.outer_bytes[at] = outer_bytes
        block.inner_bytes[at] = len(packet)
        block.head[at] = np.frombuffer(packet[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0"), np.uint8)
        self._used = at + 1

    def close(self) -> None:
        """Write what is left and close the file.

        Raises
        ------
        TunnelError
            Something could not be written; the journal is then not whole.
        """
        self._hand_over()
        self._waiting.put(None)
        self._thread.join()
        status = self._process.wait()
        if self._broken or status:
            raise TunnelError(
                "the journal is not whole: its writer ended early (disk full? pyarrow missing?)"
            )

    # -- blocks -------------------------------------------------------------------------------------

    def peer_number(self, peer: Peer) -> int:
        """Number that stands for a peer in rows."""
        if peer.number not in self._peers:
            self._peers[peer.number] = str(peer.config.public_key)
        return peer.number

    def endpoint_number(self, endpoint: Endpoint) -> int:
        """Number that stands for an endpoint in rows."""
        number = self._endpoints.get(endpoint)
        if number is None:
            number = self._endpoints[endpoint] = len(self._endpoint_texts)
            self._endpoint_texts.append(str(endpoint))
        return number

    def _room(self, count: int) -> int:
        """Where the next rows go; a block without room for them is handed over first."""
        if self._used + count > BLOCK_ROWS:
            self._hand_over()
        return self._used

    def _hand_over(self) -> None:
        block, self._block = self._block.first(self._used), Block.empty(BLOCK_ROWS)
        block.peer_names = dict(self._peers)
        block.endpoint_names = list(self._endpoint_texts)
        self._used = 0
        # Blocks when the disk cannot keep up: losing rows would make the truth a lie.
        self._waiting.put(block)

    def _send_blocks(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        while (block := self._waiting.get()) is not None:
            if not self._broken:
                try:
                    block.send(pipe.fileno())
                except OSError:
                    self._broken = True
        with contextlib.suppress(OSError):
            pipe.close()
