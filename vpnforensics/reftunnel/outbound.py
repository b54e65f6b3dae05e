"""From the TUN to the outer network: read, cut, seal, send, as many packets at a time as there are.

Reading is per super-segment (``tun``); the packets lie in rows, which are sealed and sent together
(``sealing``).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel import _kernels
from vpnforensics.reftunnel.carrier import Carrier
from vpnforensics.reftunnel.device import Device
from vpnforensics.reftunnel.drops import Drop, RefusedError
from vpnforensics.reftunnel.peers import Peer
from vpnforensics.reftunnel.routing import destination
from vpnforensics.reftunnel.sealing import ROWS, Sealer
from vpnforensics.reftunnel.tun import (
    MAX_FRAME_BYTES,
    VNET_GSO_ECN,
    VNET_GSO_NONE,
    VNET_HEADER_BYTES,
    VNET_NEEDS_CSUM,
    Tun,
    vnet_header,
)

if TYPE_CHECKING:
    from vpnforensics.reftunnel.cover import Cover
    from vpnforensics.reftunnel.journal import Journal
    from vpnforensics.reftunnel.scrub import Scrubber

MAX_READS = 64
"""Frames read before the other direction has its turn."""


class Outbound:
    """Seals what the kernel sends into the tunnel.

    Parameters
    ----------
    tun : Tun
        Where inner packets come from.
    device : Device
        Sessions, routes and padding.
    carrier : Carrier
        Where datagrams go.
    row_bytes : int
        Longest inner packet, padded, that takes the fast way.
    journal : Journal, optional
        Gets one row a packet.
    scrubber : Scrubber, optional
        Undoes on the way in what it did to the same flow on the way out.
    """

    def __init__(
        self,
        tun: Tun,
        device: Device,
        carrier: Carrier,
        *,
        row_bytes: int,
        journal: Journal | None = None,
        scrubber: Scrubber | None = None,
    ) -> None:
        self._tun = tun
        self._device = device
        self._journal = journal
        self._scrubber = scrubber
        self.cover: Cover | None = None
        self._frame = bytearray(MAX_FRAME_BYTES)
        self._frame_view = memoryview(self._frame)
        self._frame_bytes = np.frombuffer(self._frame, np.uint8)
        self._sealer = Sealer(device, carrier, row_bytes, journal)
        self._rows, self._row_views = self._sealer.rows, self._sealer.row_views
        self._row_read_ns = self._sealer.read_ns
        self._row_bytes = row_bytes
        self._lengths = np.zeros(ROWS, np.int64)
        self._zeros = bytes(row_bytes)
        self._count = 0
        self._peer: Peer | None = None
        self._read_ns = 0

    def pump(self, now: float) -> bool:
        """Seal and send what the kernel has now.

        Returns
        -------
        bool
            Whether it might have more.

        Raises
        ------
        TunnelError
            Somebody removed the interface.
        """
        more = True
        for _ in range(MAX_READS):
            try:
                size = os.readv(self._tun.fd, [self._frame])
            except BlockingIOError:
                more = False
                break
            except OSError as error:
                raise TunnelError(f"the interface {self._tun.name} was taken away") from error
            self._read_ns = time.time_ns()
            self._take_frame(size, now)
        self._flush(now)
        return more

    def emit(self, peer: Peer, packets: list[bytes], now: float) -> None:
        """Seal and send packets of one peer; an empty one stands for cover of full size."""
        self._read_ns = time.time_ns()
        for packet in packets:
            self._begin_row(peer, now)
            row = self._row_views[self._count]
            length = len(packet)
            if not length:
                # A packet of zeros is not IP: every WireGuard drops it after authenticating it.
                length = min(self._device.padded(1), self._row_bytes)
                row[:length] = self._zeros[:length]
            else:
                row[:length] = packet
            self._lengths[self._count] = length
            self._row_read_ns[self._count] = self._read_ns
            self._count += 1
        self._flush(now)

    # -- reading ------------------------------------------------------------------------------------

    def _take_frame(self, size: int, now: float) -> None:
        frame = self._frame_view
        flags, gso_type, _, gso_size, csum_start, csum_offset = vnet_header.unpack_from(frame)
        packet = frame[VNET_HEADER_BYTES:size]
        address = destination(packet)
        if address is None:
            self._device.drops[Drop.NOT_IP] += 1
            return
        peer = self._device.allowed.owner(address)
        if peer is None:
            self._device.drops[Drop.NO_ROUTE] += 1
            return
        if gso_type & ~VNET_GSO_ECN != VNET_GSO_NONE:
            self._take_super_segment(peer, size, csum_start, gso_size, now)
            return
        if flags & VNET_NEEDS_CSUM:
            start = VNET_HEADER_BYTES + csum_start
            _kernels.finish_checksum(self._frame_bytes, start, start + csum_offset, size)
        length = len(packet)
        if length > self._row_bytes:
            self._take_long(packet, now)
            return
        self._begin_row(peer, now)
        self._row_views[self._count][:length] = packet
        self._lengths[self._count] = length
        self._end_rows(1, now)

    def _take_super_segment(self, peer: Peer, size: int, l4: int, segment: int, now: float) -> None:
        header = l4 + 4 * (self._frame[VNET_HEADER_BYTES + l4 + 12] >> 4)
        if header + segment > self._row_bytes:
            self._take_long_segments(size, l4, segment, header, now)
            return
        first = 0
        while True:
            self._begin_row(peer, now)
            at = self._count
            count = _kernels.cut(
                self._frame_bytes,
                VNET_HEADER_BYTES,
                size,
                l4,
                segment,
                first,
                self._rows[at:],
                self._lengths[at:],
            )
            if not count:
                if not first:
                    self._device.drops[Drop.MALFORMED] += 1  # it makes no sense, and no packet
                return
            self._end_rows(count, now)
            first += count

    def _take_long_segments(self, size: int, l4: int, segment: int, header: int, now: float) -> None:
        frame, lengths = self._frame_bytes, np.zeros(ROWS, np.int64)
        rows = np.zeros((ROWS, header + segment), np.uint8)
        count = _kernels.cut(frame, VNET_HEADER_BYTES, size, l4, segment, 0, rows, lengths)
        if not count:
            self._device.drops[Drop.MALFORMED] += 1
        for row, length in zip(rows[:count], lengths.tolist(), strict=False):
            self._take_long(row[:length].tobytes(), now)

    def _take_long(self, packet: bytes | memoryview, now: float) -> None:
        """Send a packet that is longer than a row, the slow way: the MTU was raised meanwhile."""
        if self.cover is not None:
            self._device.drops[Drop.TOO_LONG] += 1  # it would stand out of what all else hides in
            return
        own = bytearray(packet)
        if self._scrubber is not None:
            self._scrubber.returning(memoryview(own))
        self._device.send(bytes(own), now)

    def _begin_row(self, peer: Peer, now: float) -> None:
        if self._count == ROWS or (peer is not self._peer and self._count):
            self._flush(now)
        self._peer = peer

    def _end_rows(self, count: int, now: float) -> None:
        if self._scrubber is not None:
            for index in range(self._count, self._count + count):
                self._scrubber.returning(self._row_views[index][: self._lengths[index]])
        if self._journal is not None:
            self._row_read_ns[self._count : self._count + count] = self._read_ns
        self._count += count

    # -- sealing ------------------------------------------------------------------------------------

    def _flush(self, now: float) -> None:
        count, peer = self._count, self._peer
        if not count or peer is None:
            return
        self._count = 0
        device = self._device
        lengths: list[int] = self._lengths[:count].tolist()
        if self.cover is not None and self.cover.hold(peer, self._row_views, lengths):
            return
        session = device.sending_session(peer, now)
        if session is None:
            for view, length in zip(self._row_views, lengths, strict=False):
                device.stage(peer, bytes(view[:length]), now)
            return
        try:
            first = session.reserve(count)
        except RefusedError as refusal:
            device.drops[refusal.reason] += count
            device.renew(session, now)
            return
        self._sealer.send(session, first, lengths, now)
