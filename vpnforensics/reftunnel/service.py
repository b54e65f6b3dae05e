"""The event loop of a running tunnel: one thread, one epoll.

One thread, because the interpreter seals and opens under its lock and a second thread only takes turns with
the first (measured: 1.56 µs a packet with one, 1.67 with two); in batches, because then a system call and a
wake-up are shared by dozens of packets.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel import _kernels
from vpnforensics.reftunnel.answers import Answers
from vpnforensics.reftunnel.calls import Calls
from vpnforensics.reftunnel.carrier import Carrier
from vpnforensics.reftunnel.config import TunnelConfig
from vpnforensics.reftunnel.control import ControlSocket
from vpnforensics.reftunnel.cover import Cover
from vpnforensics.reftunnel.device import Device
from vpnforensics.reftunnel.files import check_new, started
from vpnforensics.reftunnel.inbound import Inbound
from vpnforensics.reftunnel.journal import Journal
from vpnforensics.reftunnel.network import Network, fitting_mtu, outer_mark
from vpnforensics.reftunnel.outbound import Outbound
from vpnforensics.reftunnel.outputs import Outputs
from vpnforensics.reftunnel.scrub import Scrubber
from vpnforensics.reftunnel.tcp import TcpLinks
from vpnforensics.reftunnel.tun import Tun
from vpnforensics.reftunnel.udp import UdpSockets
from vpnforensics.reftunnel.usage import UsageLog

log = logging.getLogger(__name__)

MAX_SLEEP_S = 60.0
_ROW_SLACK_BYTES = 16
_DRAIN_S = 1.0
"""At an orderly end, for acknowledgements of what was just sent on TCP: a delayed one takes 0.2 s at most."""


def monotonic() -> float:
    """Seconds that never step, and that go on while the machine sleeps: sessions must expire meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Service:
    """A tunnel from configuration to end.

    Parameters
    ----------
    config : TunnelConfig
        What to run.
    on_ready : callable, optional
        Called once, when traffic may flow.
    """

    def __init__(self, config: TunnelConfig, on_ready: Callable[[], None] = lambda: None) -> None:
        self._config = config
        self._on_ready = on_ready
        self._stopping = False
        self._batch_until: float | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def stop(self) -> None:
        """End the loop; may be called from a signal handler or another thread."""
        self._stopping = True
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")

    def run(self) -> None:
        """Set up, carry traffic until `stop`, and leave nothing behind.

        Raises
        ------
        TunnelError
            It cannot be set up; what was done so far is undone.
        """
        config = self._config = replace(self._config, mtu=fitting_mtu(self._config))
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, self._wake_read)
            stack.callback(os.close, self._wake_write)
            self._control = ControlSocket(config.name)
            stack.callback(self._control.close)
            self._tun = Tun(config.name, offload=config.offload)
            stack.callback(self._tun.close)
            self._open_carrier(stack)
            self._make_device()
            self._handle_signals(stack)
            network = stack.enter_context(Network(config))
            # Files come last: what fails before leaves none behind, and touches none that was there.
            self._open_files(stack)
            self._make_directions()
            self._outputs = Outputs(
                self._device, self._inbound, self._udp, self._tcp, self._usage, self._journal
            )
            self._answers = Answers(
                config, self._port, self._device, network, self._udp, self._usage, self._journal
            )
            self._loop()
            self._carrier.drain(_DRAIN_S)

    # -- setting up ---------------------------------------------------------------------------------

    def _open_carrier(self, stack: contextlib.ExitStack) -> None:
        config, mark = self._config, outer_mark(self._config)
        self._udp: UdpSockets | None = None
        self._tcp: TcpLinks | None = None
        self._carrier: Carrier
        if config.transport == "udp":
            self._carrier = self._udp = UdpSockets(
                config.listen_port,
                mark=mark,
                offload=config.offload,
                stamps=config.journal is not None,
            )
        else:
            self._carrier = self._tcp = TcpLinks(config.listen_port, mark=mark)
        self._port = self._carrier.port
        stack.callback(self._carrier.close)

    def _open_files(self, stack: contextlib.ExitStack) -> None:
        self._usage = None if self._config.usage_log is None else UsageLog(self._config.usage_log)
        if self._usage is not None:
            usage = self._usage
            stack.callback(lambda: usage.close(time.time_ns()))
        self._journal = None if self._config.journal is None else Journal(self._config.journal)
        if self._journal is not None:
            stack.callback(self._journal.close)
            stack.callback(self._carrier.close)  # first, so that the fate of what still waits is known

    def _make_device(self) -> None:
        config = self._config
        self._device = Device(
            config.private_key,
            config.peers,
            wall_ns=lambda _: time.time_ns(),
            padded=config.shaping.rule(config.mtu),
        )

    def _make_directions(self) -> None:
        config = self._config
        scrubber = Scrubber(config.scrub) if config.scrub.is_on else None
        row_bytes = max(config.mtu, 1500) + _ROW_SLACK_BYTES
        self._outbound = Outbound(
            self._tun,
            self._device,
            self._carrier,
            row_bytes=row_bytes,
            journal=self._journal,
            scrubber=scrubber,
        )
        self._inbound = Inbound(
            self._tun,
            self._device,
            row_bytes=row_bytes,
            offload=config.offload,
            journal=self._journal,
            scrubber=scrubber,
        )
        self._calls = Calls(monotonic, time.thread_time)
        if config.shaping.cover_hz:
            self._outbound.cover = Cover(self._device, config.shaping.cover_hz, self._outbound.emit)

    def _handle_signals(self, stack: contextlib.ExitStack) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.signal(number, lambda *_: self.stop())
            stack.callback(signal.signal, number, before)

    # -- running ------------------------------------------------------------------------------------

    def _loop(self) -> None:
        poll = select.epoll()
        try:
            tun, control = self._tun.fd, self._control.fileno()
            for fd in (tun, control, self._wake_read):
                poll.register(fd, select.EPOLLIN)
            self._calls.attach(poll)
            by_fd: dict[int, socket.socket] = {}
            if self._udp is not None:
                by_fd = {sock.fileno(): sock for sock in self._udp.data_sockets()}
                for fd in by_fd:
                    poll.register(fd, select.EPOLLIN)
                for sock in self._udp.call_sockets():
                    self._calls.add(sock.fileno(), partial(self._take_call, self._udp, sock))
            if self._tcp is not None:
                self._tcp.attach(poll, self._take_tcp, calls=self._calls, is_peer=self._device.is_endpoint)
            _kernels.warm_up()
            self._device.start(monotonic())
            self._outputs.act()
            # The loop makes no reference cycles; collections would only pause the traffic.
            gc.collect()
            gc.freeze()
            self._on_ready()
            while not self._stopping:
                ready = poll.poll(self._sleep_s(monotonic()))
                now = monotonic()
                for fd, events in ready:
                    if fd == tun:
                        self._tun_ready(poll, now)
                    elif fd in by_fd and self._udp is not None:
                        self._inbound.pump(self._udp, by_fd[fd], now)
                    elif fd in self._calls:
                        self._calls.ready(fd)
                    elif fd == control:
                        if self._answers.serve(self._control, now) == "down":
                            self.stop()
                    elif self._tcp is not None and fd != self._wake_read:
                        self._tcp.ready(fd, events, now)
                        self._inbound.flush()
                self._calls.work()
                self._inbound.flush()
                self._on_time(poll, now)
                self._outputs.act()
                if self._journal is not None:
                    self._journal.tick(now)
        finally:
            poll.close()

    def _take_tcp(self, data: memoryview, segment: int, endpoint: Any, now: float) -> None:
        self._inbound.take(data, segment, endpoint, now)

    def _sleep_s(self, now: float) -> float:
        at = min(now + MAX_SLEEP_S, self._device.wake_at(), self._calls.wake_at())
        if self._tcp is not None:
            at = min(at, self._tcp.wake_at())
        if self._outbound.cover is not None:
            at = min(at, self._outbound.cover.wake_at())
        if self._batch_until is not None:
            at = min(at, self._batch_until)
        if self._journal is not None:
            at = min(at, self._journal.wake_at(now))
        return max(0.0, at - now)

    def _tun_ready(self, poll: select.epoll, now: float) -> None:
        batch_s = self._config.shaping.batch_s
        if not batch_s:
            self._outbound.pump(now)
        elif self._batch_until is None:
            # Batching needs no queue of ours: packets wait in that of the TUN, which is just not read.
            self._batch_until = now + batch_s
            poll.modify(self._tun.fd, 0)

    def _on_time(self, poll: select.epoll, now: float) -> None:
        if now >= self._device.wake_at():
            self._device.tick(now)
        if self._usage is not None:
            self._usage.tick(time.time_ns())
        if self._tcp is not None:
            self._tcp.tick(now)
        if self._outbound.cover is not None:
            self._outbound.cover.tick(now)
        if self._batch_until is not None and now >= self._batch_until:
            self._batch_until = None
            while self._outbound.pump(now):
                pass
            poll.modify(self._tun.fd, select.EPOLLIN)

    def _take_call(self, udp: UdpSockets, sock: socket.socket, now: float) -> bool:
        return self._inbound.pump(udp, sock, now, receives=1)


def run(config: TunnelConfig, on_ready: Callable[[], None] = lambda: None) -> None:
    """Run a tunnel in this process until it is told to stop.

    Raises
    ------
    TunnelError
        It cannot be set up.
    """
    for note in config.notes:
        log.warning("%s: %s", config.name, note)
    if not config.addresses:
        log.warning("%s: no Address: the interface will carry nothing until it has one", config.name)
    if config.journal is not None:
        journal = started(config.journal, time.time_ns())
        check_new(journal, "the journal")
        config = replace(config, journal=journal)
    if config.usage_log is not None and not config.usage_log.parent.is_dir():
        raise TunnelError(f"the folder of the usage log {config.usage_log} does not exist")
    Service(config, on_ready).run()
