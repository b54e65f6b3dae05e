"""What the device has to say, done: datagrams sent, packets delivered, moves and connects written down."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from vpnforensics.reftunnel.drops import Drop
from vpnforensics.reftunnel.events import Deliver, Refused, Transmit
from vpnforensics.reftunnel.journal_block import Run

if TYPE_CHECKING:
    from vpnforensics.reftunnel.carrier import Carrier
    from vpnforensics.reftunnel.device import Device
    from vpnforensics.reftunnel.inbound import Inbound
    from vpnforensics.reftunnel.journal import Journal
    from vpnforensics.reftunnel.tcp import TcpLinks
    from vpnforensics.reftunnel.udp import UdpSockets
    from vpnforensics.reftunnel.usage import UsageLog


class Outputs:
    """Where the outputs of a device go; one of `udp` and `tcp` carries the datagrams."""

    def __init__(
        self,
        device: Device,
        inbound: Inbound,
        udp: UdpSockets | None,
        tcp: TcpLinks | None,
        usage: UsageLog | None,
        journal: Journal | None,
    ) -> None:
        carrier = udp if udp is not None else tcp
        assert carrier is not None
        self._carrier: Carrier = carrier
        self._device = device
        self._inbound = inbound
        self._udp = udp
        self._tcp = tcp
        self._usage = usage
        self._journal = journal
        self._expected = 0

    def act(self) -> None:
        """Do what the device asks for."""
        if self._udp is not None and self._expected != self._device.session_changes:
            # Before the answer goes out that lets the peer send on the new session.
            self._expected = self._device.session_changes
            self._udp.expect(self._device.sessions)
        while outputs := self._device.take():
            for output in outputs:
                if isinstance(output, Transmit):
                    self._transmit(output)
                elif isinstance(output, Deliver):
                    self._inbound.deliver(output)
                elif isinstance(output, Refused):
                    self._inbound.refuse(output)
                elif self._usage is not None:
                    self._usage.note(output, time.time_ns())

    def _transmit(self, output: Transmit) -> None:
        refused = self._carrier.send(output.datagram, len(output.datagram), output.endpoint)
        if self._journal is not None:
            run = Run.just_sent(1, refused, self._carrier.queue(output.endpoint))
            self._journal.transmitted(output, run)
        if not refused:
            return
        if refused[0] == errno.EINPROGRESS and self._tcp is not None:
            self._tcp.when_connected(output.endpoint, lambda connected: self._again(output, connected))
        else:
            self._device.drops[Drop.SEND_FAILED] += 1

    def _again(self, output: Transmit, connected: bool) -> None:
        if connected:
            self._transmit(output)
            return
        self._device.drops[Drop.SEND_FAILED] += 1
        if self._journal is not None:
            self._journal.transmitted(output, Run.just_sent(1, {0: errno.ENOTCONN}))
