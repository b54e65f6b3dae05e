"""Rows of packets, sealed and sent: as many with one call as there are of one size.

The loop over packets is the only Python that runs for each of them, and does one thing: fill in a header
and call the cipher on preallocated buffers.
"""

from __future__ import annotations

import errno
import itertools
from typing import TYPE_CHECKING

import numpy as np

from vpnforensics.reftunnel.carrier import Carrier
from vpnforensics.reftunnel.crypto import pack_nonce
from vpnforensics.reftunnel.device import Device
from vpnforensics.reftunnel.drops import Drop
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.events import Transmit
from vpnforensics.reftunnel.journal_block import Run, SentRows
from vpnforensics.reftunnel.peers import Peer
from vpnforensics.reftunnel.session import Session
from vpnforensics.reftunnel.udp import MAX_SEGMENTS, MAX_SEND_BYTES
from vpnforensics.reftunnel.wire import (
    TRANSPORT,
    TRANSPORT_HEADER_BYTES,
    TRANSPORT_OVERHEAD_BYTES,
    transport_header,
)

if TYPE_CHECKING:
    from vpnforensics.reftunnel.journal import Journal

ROWS = 64
"""Packets sealed together: one send call's worth."""

_LENGTHS_REMEMBERED = 64


class Sealer:
    """Rows to be filled with packets of one peer, and the buffers that they are sealed into.

    Parameters
    ----------
    device : Device
        Padding and accounts.
    carrier : Carrier
        Where datagrams go.
    row_bytes : int
        Longest packet, padded.
    journal : Journal, optional
        Gets one row a packet.

    Attributes
    ----------
    rows : ndarray of uint8, shape (ROWS, row_bytes)
        The packets.
    row_views : list of memoryview
        The same rows.
    read_ns : ndarray of int64, shape (ROWS,)
        When each was read; for the journal.
    """

    def __init__(self, device: Device, carrier: Carrier, row_bytes: int, journal: Journal | None) -> None:
        self._device, self._carrier, self._journal = device, carrier, journal
        self._row_bytes = row_bytes
        self.rows = np.zeros((ROWS, row_bytes), np.uint8)
        self.row_views = [memoryview(row) for row in self.rows]  # type: ignore[arg-type]
        self.read_ns = np.zeros(ROWS, np.int64)
        self._plains: dict[int, list[memoryview]] = {}  # the rows, cut to a length
        wire = bytearray(ROWS * (row_bytes + TRANSPORT_OVERHEAD_BYTES))
        self._wire, self._wire_view = wire, memoryview(wire)
        self._runs: list[Run] = []  # the send calls of the rows that are under way

    def send(self, session: Session, first: int, lengths: list[int], now: float) -> None:
        """Seal the first rows, of packets of these lengths, with counters from `first` on, and send them."""
        wire, view = self._wire, self._wire_view
        seal, index, pack_header = session.seal_into, session.remote_index, transport_header.pack_into
        endpoint = session.peer.endpoint
        assert endpoint is not None  # `sending_session` gave this session because there is one
        at = run = run_size = run_count = room = 0
        counter = first
        sizes: list[int] = []
        refused: dict[int, int] = {}
        # Whatever follows from the length is found once for all packets of a length that follow each other.
        for length, same in itertools.groupby(lengths):
            count = sum(1 for _ in same)
            plains = self._padded(length, len(sizes), count)
            size = len(plains[0]) + TRANSPORT_OVERHEAD_BYTES
            # One send takes equal datagrams, of which only the last may be shorter.
            if size > run_size:
                room = run_count
            for plain in plains:
                if run_count == room:
                    if run_count:
                        self._send(view[run:at], run_size, counter - first - run_count, endpoint, refused)
                    run, run_size, run_count = at, size, 0
                    room = min(MAX_SEGMENTS, MAX_SEND_BYTES // size)
                run_count += 1
                if size < run_size:
                    room = run_count
                pack_header(wire, at, TRANSPORT, index, counter)
                end = at + size
                seal(pack_nonce(counter), plain, None, view[at + TRANSPORT_HEADER_BYTES : end])
                counter += 1
                at = end
            sizes += [size] * count
        self._send(view[run:at], run_size, len(sizes) - run_count, endpoint, refused)
        if self._journal is not None:
            runs, self._runs = self._runs, []
            sent = SentRows(session, endpoint, first, self.rows, lengths, sizes, self.read_ns)
            self._journal.sealed(sent, runs)
        if refused:
            self._not_taken(session.peer, endpoint, lengths, sizes, refused)
        packets = len(lengths) - len(refused)
        if packets:
            outer_bytes = at - sum(sizes[number] for number in refused)
            self._device.sent(session, packets, outer_bytes, now)

    def _padded(self, length: int, first: int, count: int) -> list[memoryview]:
        """Rows of packets of one length, with their padding."""
        padded = min(self._device.padded(length), self._row_bytes)
        if padded != length:
            self.rows[first : first + count, length:padded] = 0
        plains = self._plains.get(padded)
        if plains is None:
            if len(self._plains) >= _LENGTHS_REMEMBERED:
                self._plains.clear()
            plains = self._plains[padded] = [row[:padded] for row in self.row_views]
        return plains[first : first + count]

    def _send(
        self, data: memoryview, size: int, first: int, endpoint: Endpoint, refused: dict[int, int]
    ) -> None:
        """Send datagrams of one size, of which the first is row `first`; those not taken go to `refused`."""
        not_taken = self._carrier.send(data, size, endpoint)
        for number, error in not_taken.items():
            refused[first + number] = error
        if self._journal is not None:
            count = -(-len(data) // size)
            self._runs.append(Run.just_sent(count, not_taken, self._carrier.queue(endpoint)))

    def _not_taken(
        self, peer: Peer, endpoint: Endpoint, lengths: list[int], sizes: list[int], refused: dict[int, int]
    ) -> None:
        """Count what the kernel did not take; what only waits for a connection is sent when it is there."""
        starts = [0, *itertools.accumulate(sizes)]
        for number, error in refused.items():
            if error != errno.EINPROGRESS:
                self._device.drops[Drop.SEND_FAILED] += 1
                continue
            datagram = bytes(self._wire_view[starts[number] : starts[number + 1]])
            packet = bytes(self.row_views[number][: lengths[number]])
            self._device.post(Transmit(peer, datagram, endpoint, packet))
