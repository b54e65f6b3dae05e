"""The senders' operating-system stacks as the result contract has them: device, clock, IP IDs."""

from __future__ import annotations

from typing import Any

from vpnforensics.engines.case import Case
from vpnforensics.features.contract import clock_dicts, ip_id_dicts
from vpnforensics.features.devices import Devices
from vpnforensics.features.senders import Senders, find_senders

Described = list[dict[str, Any] | None]


class Stacks:
    """What is known of the up senders of a case: the clients' devices, and their outer stacks.

    Parameters
    ----------
    case : Case
    devices : Devices, optional
        Flows grouped by device; without it nothing is said of devices and clocks.
    with_ip_ids : bool
        Whether to describe IP IDs.
    """

    def __init__(self, case: Case, devices: Devices | None, *, with_ip_ids: bool) -> None:
        self._case = case
        self._devices = devices
        self._with_ip_ids = with_ip_ids
        self._inner = devices.senders if devices else find_senders(case.flows) if with_ip_ids else None
        self._outer = find_senders(case.conversations) if self._inner is not None else None

    def flow_devices(self) -> list[str | None]:
        """Device of each flow; ``None`` where it cannot be told."""
        if self._devices is None:
            return [None] * len(self._case.flows)
        return [f"d{d + 1}" if d >= 0 else None for d in self._devices.device.tolist()]

    def flow_clocks(self) -> Described:
        """``clock`` of each flow."""
        return self._clocks(self._inner, self._of_flows(), self._devices)

    def flow_ip_ids(self) -> Described:
        """``ip_id`` of each flow."""
        return self._ip_ids(self._inner, self._of_flows())

    def tunnel_clocks(self) -> Described:
        """``clock`` of each tunnel's client."""
        return self._clocks(self._outer, self._of_tunnels(), None)

    def tunnel_ip_ids(self) -> Described:
        """``ip_id`` of each tunnel's client."""
        return self._ip_ids(self._outer, self._of_tunnels())

    def _of_flows(self) -> list[int]:
        return list(range(0, 2 * len(self._case.flows), 2))

    def _of_tunnels(self) -> list[int]:
        conversations = self._case.conversations
        return [
            2 * t.conversation + (conversations.source(t.conversation) != t.client)
            for t in self._case.tunnels.tunnels
        ]

    def _clocks(self, senders: Senders | None, which: list[int], devices: Devices | None) -> Described:
        if senders is None or self._devices is None:
            return [None] * len(which)
        return clock_dicts(senders, which, devices)

    def _ip_ids(self, senders: Senders | None, which: list[int]) -> Described:
        if senders is None or not self._with_ip_ids:
            return [None] * len(which)
        return ip_id_dicts(senders, which)
