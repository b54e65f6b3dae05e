"""The senders' operating-system stacks as the result contract has them: device, clock, IP IDs."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from vpnforensics.engines.case import Case
from vpnforensics.evidence.decision import Decision
from vpnforensics.features.contract import clock_dicts, ip_id_profiles
from vpnforensics.features.pooled import of_member
from vpnforensics.features.senders import Senders, find_senders
from vpnforensics.report.pools import Pools, pools

Described = list[dict[str, Any] | None]


class Stacks:
    """What is known of the up senders of a case: the clients' devices, and their outer stacks.

    Parameters
    ----------
    case : Case
    decision : Decision
        What is linked to one tunnel is read together.
    with_clocks, with_ip_ids : bool
        Whether to describe devices and clocks, and IP IDs.
    """

    def __init__(self, case: Case, decision: Decision, *, with_clocks: bool, with_ip_ids: bool) -> None:
        self._case, self._decision = case, decision
        self._with_clocks, self._with_ip_ids = with_clocks, with_ip_ids

    def flow_columns(self) -> dict[str, list[Any]]:
        """``device``, ``clock`` and ``ip_id`` of each flow."""
        return {"device": self.flow_devices(), "clock": self.flow_clocks(), "ip_id": self.flow_ip_ids()}

    def flow_devices(self) -> list[str | None]:
        """Device of each flow; ``None`` where it cannot be told."""
        if not self._with_clocks:
            return [None] * len(self._case.flows)
        return [f"d{d + 1}" if d >= 0 else None for d in self._case.devices.device.tolist()]

    def flow_clocks(self) -> Described:
        """``clock`` of each flow."""
        if not self._with_clocks:
            return [None] * len(self._case.flows)
        return clock_dicts(self._inner, self._of_flows(), self._case.devices)

    def flow_ip_ids(self) -> Described:
        """``ip_id`` of each flow; of one that counts with others, as their common counter has it."""
        if not self._with_ip_ids:
            return [None] * len(self._case.flows)
        shared = self._pools.counter_of
        alone = ip_id_profiles(self._inner, self._of_flows())
        return [(of_member(own, shared[f]) if f in shared else own).to_dict() for f, own in enumerate(alone)]

    def tunnel_pools(self) -> list[list[dict[str, Any]]]:
        """``inner`` of each tunnel: what its linked flows say together, and those of each device."""
        return self._pools.rows

    def tunnel_clocks(self) -> Described:
        """``clock`` of each tunnel's client."""
        if not self._with_clocks:
            return [None] * len(self._case.tunnels)
        stamped = [t for t, tunnel in enumerate(self._case.tunnels.tunnels) if tunnel.transport == "tcp"]
        found: Described = [None] * len(self._case.tunnels)
        if stamped:
            for t, clock in zip(
                stamped, clock_dicts(self._outer, map(self._sender_of, stamped)), strict=True
            ):
                found[t] = clock
        return found

    def tunnel_ip_ids(self) -> Described:
        """``ip_id`` of each tunnel's client."""
        if not self._with_ip_ids:
            return [None] * len(self._case.tunnels)
        return [profile.to_dict() for profile in self._case.outer_ip_ids]

    @cached_property
    def _pools(self) -> Pools:
        which = {"with_clocks": self._with_clocks, "with_ip_ids": self._with_ip_ids}
        return pools(self._case, self._inner, self._decision, **which)

    @cached_property
    def _inner(self) -> Senders:
        return self._case.devices.senders if self._with_clocks else find_senders(self._case.flows)

    @cached_property
    def _outer(self) -> Senders:
        return find_senders(self._case.conversations)

    def _of_flows(self) -> list[int]:
        return list(range(0, 2 * len(self._case.flows), 2))

    def _sender_of(self, tunnel: int) -> int:
        conversations, t = self._case.conversations, self._case.tunnels.tunnels[tunnel]
        return 2 * t.conversation + (conversations.source(t.conversation) != t.client)
