"""What a running tunnel does when it is asked over the control socket: show, and changes of its peers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.changes import PeerChange, apply_change, parse_change
from vpnforensics.reftunnel.control import ControlSocket
from vpnforensics.reftunnel.status import describe

if TYPE_CHECKING:
    from vpnforensics.reftunnel.config import TunnelConfig
    from vpnforensics.reftunnel.device import Device
    from vpnforensics.reftunnel.journal import Journal
    from vpnforensics.reftunnel.network import Network
    from vpnforensics.reftunnel.udp import UdpSockets
    from vpnforensics.reftunnel.usage import UsageLog

_OK = {"ok": True}


@dataclass(frozen=True, slots=True)
class Answers:
    """The parts of a tunnel that can be asked about, or changed."""

    config: TunnelConfig
    port: int
    device: Device
    network: Network
    udp: UdpSockets | None
    usage: UsageLog | None
    journal: Journal | None

    def serve(self, control: ControlSocket, now: float) -> str:
        """Answer one request; its first word."""
        return control.serve(
            {
                "show": lambda _: self._state(now),
                "ping": lambda _: _OK,
                "down": lambda _: _OK,
                "add-peer": lambda text: self._change(text, now, is_new=True),
                "set": lambda text: self._change(text, now, is_new=False),
                "remove-peer": self._remove,
            }
        )

    def _state(self, now: float) -> dict[str, Any]:
        state = describe(self.device, self.config.name, self.port, now, time.time_ns())
        state["mtu"] = self.config.mtu
        state["transport"] = self.config.transport
        state["trouble"] = {
            "usage_log_lines": 0 if self.usage is None else self.usage.lost_lines,
            "journal_rows": 0 if self.journal is None else self.journal.lost_rows,
        }
        if self.udp is not None and (overflowed := self.udp.overflowed()):
            state["dropped"]["queue_overflow"] = overflowed
        narrow = {} if self.udp is None else self.udp.narrow()
        state["narrow"] = {str(endpoint): size for endpoint, size in narrow.items()}
        return state

    def _change(self, text: str, now: float, *, is_new: bool) -> dict[str, Any]:
        change = parse_change(text, self.config.transport)
        before = self.device.allowed_ips()
        self._refuse_default(change)
        apply_change(self.device, change, now, is_new=is_new)
        self.network.follow(before, self.device.allowed_ips())
        return _OK

    def _refuse_default(self, change: PeerChange) -> None:
        """A full tunnel has policy rules, and a mark on sockets: not something for a tunnel that runs."""
        for network in change.allowed_ips or ():
            if network.prefixlen == 0 and self.config.table == 0 and network not in self.device.allowed_ips():
                raise TunnelError(f"{network} makes a full tunnel: write it in the file and start again")

    def _remove(self, text: str) -> dict[str, Any]:
        key = parse_change(text, self.config.transport).public_key
        peer = self.device.peers.get(key)
        if peer is None:
            raise TunnelError(f"there is no peer {key}")
        before = self.device.allowed_ips()
        self.device.remove_peer(peer)
        self.network.follow(before, self.device.allowed_ips())
        return _OK
