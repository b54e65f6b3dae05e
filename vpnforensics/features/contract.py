"""Clocks and IP IDs as the result contract has them: a dictionary for each sender, or ``None``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vpnforensics.features.devices import Devices
from vpnforensics.features.ip_id import IpIdProfile, classify_ip_ids
from vpnforensics.features.senders import Senders
from vpnforensics.features.tcp_clock import sender_clock
from vpnforensics.packets.table import FRAG_LATER

_LEAST_STAMPED = 3


def clock_dicts(
    senders: Senders, which: Iterable[int], devices: Devices | None = None
) -> list[dict[str, Any] | None]:
    """``clock`` of the senders ``which``; its ``scope`` from the grouping of devices, where there is one."""
    packets = senders.flows.packets
    found: list[dict[str, Any] | None] = []
    for s in which:
        rows = senders.rows_of(s)
        rows = rows[packets.has_ts[rows] == 1]
        if len(rows) < _LEAST_STAMPED:
            found.append(None)
            continue
        scope = devices.scope[s // 2] if devices is not None and s % 2 == 0 else None
        found.append(sender_clock(packets.ts_ns[rows], packets.tsval[rows]).to_dict(scope))
    return found


def ip_id_profiles(senders: Senders, which: Iterable[int]) -> list[IpIdProfile]:
    """The IP IDs of the senders ``which``, each read by itself: its scope is at least the flow."""
    packets = senders.flows.packets
    found = []
    for s in which:
        rows = senders.rows_of(s)
        rows = rows[(packets.ip_id[rows] >= 0) & (packets.frag[rows] != FRAG_LATER)]
        one = packets.dst[rows]
        found.append(classify_ip_ids(packets.ts_ns[rows], packets.ip_id[rows], one, one))
    return found


def ip_id_dicts(senders: Senders, which: Iterable[int]) -> list[dict[str, Any] | None]:
    """``ip_id`` of the senders ``which``."""
    return [profile.to_dict() for profile in ip_id_profiles(senders, which)]
