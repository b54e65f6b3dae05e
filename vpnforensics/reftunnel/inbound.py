"""From the outer network to the TUN: receive, open, check, join, write.

Authentic packets are collected in rows until a receive call gives nothing more or the rows are full; runs
that the kernel would have taken as one TCP super-segment are written as one (``_kernels.join``). Everything
that is not transport data of a live session goes to the device, whole.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import numpy as np
from cryptography.exceptions import InvalidTag

from vpnforensics.reftunnel import _kernels
from vpnforensics.reftunnel.crypto import TAG_BYTES, pack_nonce
from vpnforensics.reftunnel.device import Device
from vpnforensics.reftunnel.drops import Drop, RefusedError
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.events import Deliver, Refused
from vpnforensics.reftunnel.journal import Journal
from vpnforensics.reftunnel.journal_block import DATA, HANDSHAKE, IN, KEEPALIVE, UNDELIVERED
from vpnforensics.reftunnel.session import REJECT_AFTER_MESSAGES, Session
from vpnforensics.reftunnel.timers import REJECT_AFTER_TIME_S
from vpnforensics.reftunnel.tun import VNET_HEADER_BYTES, Tun
from vpnforensics.reftunnel.udp import UdpSockets
from vpnforensics.reftunnel.wire import (
    KEEPALIVE_BYTES,
    TRANSPORT,
    TRANSPORT_HEADER_BYTES,
    TRANSPORT_OVERHEAD_BYTES,
    transport_header,
)

if TYPE_CHECKING:
    from vpnforensics.reftunnel.scrub import Scrubber

ROWS = 64
MAX_RECEIVES = 32
"""Receive calls before the other direction has its turn."""

_NO_VNET_HEADER = bytes(VNET_HEADER_BYTES)


class Inbound:
    """Opens what comes from peers.

    Parameters
    ----------
    tun : Tun
        Where inner packets go.
    device : Device
        Sessions and allowed IPs.
    row_bytes : int
        Longest inner packet, padded, that takes the fast way.
    offload : bool
        Whether super-segments may be written to the TUN.
    journal : Journal, optional
        Gets one row a packet.
    scrubber : Scrubber, optional
        Changes packets before they leave the tunnel.
    """

    def __init__(
        self,
        tun: Tun,
        device: Device,
        *,
        row_bytes: int,
        offload: bool,
        journal: Journal | None = None,
        scrubber: Scrubber | None = None,
    ) -> None:
        self._tun = tun
        self._device = device
        self._row_bytes = row_bytes
        self._offload = offload
        self._journal = journal
        self._scrubber = scrubber
        self._buffer = bytearray(65_536)
        self._buffer_view = memoryview(self._buffer)
        self._rows = np.zeros((ROWS, VNET_HEADER_BYTES + row_bytes), np.uint8)
        self._row_views = [memoryview(row) for row in self._rows]  # type: ignore[arg-type]
        self._packet_views = [view[VNET_HEADER_BYTES:] for view in self._row_views]
        self._lengths = np.zeros(ROWS, np.int64)
        self._groups = np.zeros(ROWS, np.int64)
        self._headers = np.zeros(ROWS, np.int64)
        self._lengths_list: list[int] = []
        self._whole_ns = 0  # when the last datagram came that the device was given whole

    def pump(
        self, sockets: UdpSockets, sock: socket.socket, now: float, receives: int = MAX_RECEIVES
    ) -> bool:
        """Open and deliver the datagrams that wait in a socket; whether there may be more."""
        for _ in range(receives):
            received = sockets.receive(sock, self._buffer)
            if received is None:
                break
            data = self._buffer_view[: received.size]
            self.take(data, received.segment, received.endpoint, now, received.at_ns)
        self.flush()
        return received is not None

    def take(
        self, data: memoryview, segment: int, endpoint: Endpoint, now: float, received_ns: int = 0
    ) -> None:
        """Open datagrams of `segment` bytes laid end to end; deliver when enough have come together.

        `received_ns` is when the kernel had them, or 0 if that is not known.
        """
        device = self._device
        unpack, sessions = transport_header.unpack_from, device.sessions
        session: Session | None = None
        packets = outer_bytes = 0
        total = len(data)
        received_ns = received_ns or time.time_ns()
        for start in range(0, total, segment or 1):
            end = min(start + segment, total)
            size = end - start
            if size < KEEPALIVE_BYTES or size > self._row_bytes + TRANSPORT_OVERHEAD_BYTES:
                self._whole(bytes(data[start:end]), endpoint, now, received_ns)
                continue
            word, index, counter = unpack(data, start)
            found = sessions.get(index) if word == TRANSPORT else None
            if found is None:
                self._whole(bytes(data[start:end]), endpoint, now, received_ns)
                continue
            if found is not session:
                if session is not None and outer_bytes:
                    device.accepted(session, endpoint, packets, outer_bytes, now)
                session, packets, outer_bytes = found, 0, 0
            if now - found.created_at >= REJECT_AFTER_TIME_S:
                device.drops[Drop.EXPIRED] += 1
                continue
            if self._open(found, counter, data[start + TRANSPORT_HEADER_BYTES : end], endpoint, received_ns):
                packets += size > KEEPALIVE_BYTES
                outer_bytes += size
        if session is not None and outer_bytes:
            device.accepted(session, endpoint, packets, outer_bytes, now)

    def _whole(self, datagram: bytes, endpoint: Endpoint, now: float, received_ns: int) -> None:
        """Give a datagram to the device, and to the journal if it is an acceptable handshake message."""
        self._whole_ns = received_ns
        refused = self._device.drops.total()
        self._device.receive(datagram, endpoint, now)
        if self._journal is not None and datagram[:1] != b"\4" and self._device.drops.total() == refused:
            self._journal.message(IN, HANDSHAKE, None, endpoint, len(datagram), received_ns)

    def _open(
        self, session: Session, counter: int, sealed: memoryview, endpoint: Endpoint, received_ns: int
    ) -> bool:
        """Open one message into the next row; whether it was authentic and new."""
        drops = self._device.drops
        if len(self._lengths_list) == ROWS:
            self.flush()
        padded_bytes = len(sealed) - TAG_BYTES
        plain = self._packet_views[len(self._lengths_list)][:padded_bytes]
        if counter >= REJECT_AFTER_MESSAGES:
            drops[Drop.COUNTER_EXHAUSTED] += 1
            return False
        try:
            session.open_into(pack_nonce(counter), sealed, None, plain)
        except InvalidTag:
            drops[Drop.NOT_AUTHENTIC] += 1
            return False
        if not session.replay.accept(counter):
            drops[Drop.REPLAY] += 1
            return False
        if not padded_bytes:
            if self._journal is not None:
                self._journal.message(
                    IN, KEEPALIVE, session.peer, endpoint, KEEPALIVE_BYTES, received_ns, counter=counter
                )
            return True
        try:
            length = self._device.inner_length(session.peer, plain)
        except RefusedError as refusal:
            drops[refusal.reason] += 1
            if self._journal is not None:
                self._journal.refused(session.peer, endpoint, counter, plain, received_ns)
            return True
        self._lengths_list.append(length)
        if self._journal is not None:
            size = padded_bytes + TRANSPORT_OVERHEAD_BYTES
            self._journal.opened.append((session.peer, endpoint, counter, size, received_ns))
        return True

    def deliver(self, output: Deliver) -> None:
        """Write a packet that the device opened by itself."""
        self.flush()
        packet = output.packet
        if self._scrubber is not None:
            changed = bytearray(packet)
            self._scrubber.leaving(memoryview(changed))
            packet = bytes(changed)
        taken = self._write([_NO_VNET_HEADER, packet])
        if self._journal is not None and output.peer.endpoint is not None:
            self._journal.message(
                IN,
                DATA if taken else UNDELIVERED,
                output.peer,
                output.peer.endpoint,
                output.outer_bytes,
                self._whole_ns,
                counter=output.counter,
                packet=output.packet,
                inner_ns=time.time_ns(),
            )

    def refuse(self, output: Refused) -> None:
        """Note a message that the device opened by itself, and whose content it did not like."""
        endpoint = output.peer.endpoint
        if self._journal is not None and endpoint is not None:
            self._journal.refused(output.peer, endpoint, output.counter, output.padded, self._whole_ns)

    def flush(self) -> None:
        """Write the collected packets to the TUN."""
        lengths = self._lengths_list
        count = len(lengths)
        if not count:
            return
        if self._journal is not None:
            self._journal.heads(self._rows[:count, VNET_HEADER_BYTES:], lengths)
        if self._scrubber is not None:
            for view, length in zip(self._packet_views, lengths, strict=False):
                self._scrubber.leaving(view[:length])
        refused = self._write_joined(count) if self._offload and count > 1 else self._write_each()
        self._lengths_list = []
        if self._journal is not None:
            self._journal.delivered(count, refused, time.time_ns())

    def _write_each(self) -> list[int]:
        """Write packet by packet; the rows that the kernel refused."""
        refused = []
        for row, (view, length) in enumerate(zip(self._row_views, self._lengths_list, strict=False)):
            view[:VNET_HEADER_BYTES] = _NO_VNET_HEADER
            if not self._write([view[: VNET_HEADER_BYTES + length]]):
                refused.append(row)
        return refused

    def _write_joined(self, count: int) -> list[int]:
        """Write super-segments where they can be made; the rows that the kernel refused."""
        lengths = self._lengths_list
        refused: list[int] = []
        self._lengths[:count] = lengths
        found = _kernels.join(
            self._rows, VNET_HEADER_BYTES, self._lengths, count, self._groups, self._headers
        )
        starts: list[int] = self._groups[:found].tolist()
        headers: list[int] = self._headers[:found].tolist()
        for start, end, header in zip(starts, [*starts[1:], count], headers, strict=True):
            parts = [self._row_views[start][: VNET_HEADER_BYTES + lengths[start]]]
            parts += [self._packet_views[row][header : lengths[row]] for row in range(start + 1, end)]
            if not self._write(parts, end - start):
                refused += range(start, end)
        return refused

    def _write(self, parts: list[memoryview] | list[bytes], packets: int = 1) -> bool:
        """Write one packet, or several as a super-segment; whether the kernel took it."""
        try:
            os.writev(self._tun.fd, parts)
        except OSError:
            # The interface is down, or the packet is not to the kernel's liking: as a router, drop it.
            self._device.drops[Drop.TUN_REFUSED] += packets
            return False
        return True
