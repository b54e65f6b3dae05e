"""The linked flows of each tunnel read together, and those of each device behind it.

One row a tunnel with all its linked flows, and, unless these prove to be one host's, one a device that has
two of them and more: the clock line that most of them share, and what their IP IDs count together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vpnforensics.arrays import Int32s, Ints
from vpnforensics.engines.case import Case
from vpnforensics.evidence.decision import Decision
from vpnforensics.features.clock_lines import FlowOffsets, flow_offsets
from vpnforensics.features.ip_id import IpIdProfile
from vpnforensics.features.pooled import IdPackets, PooledIds, id_packets, pooled_clock, pooled_ids
from vpnforensics.features.senders import Senders
from vpnforensics.flows.grouping import rows_in_time

LEAST_FLOWS = 2
"""One flow alone says what it says of itself."""


@dataclass(frozen=True, eq=False)
class Pools:
    """What linked flows say together."""

    rows: list[list[dict[str, Any]]]
    """The contract's ``inner`` of each tunnel."""
    counter_of: dict[int, IpIdProfile]
    """Of flows that count with others: the profile of the counter that they share."""


def pools(case: Case, senders: Senders, decision: Decision, *, with_clocks: bool, with_ip_ids: bool) -> Pools:
    """The linked flows read together, by tunnel and by device.

    Parameters
    ----------
    case : Case
    senders : Senders
        Of its flows.
    decision : Decision
    with_clocks, with_ip_ids : bool
        Which to read. Devices are told apart where clocks are read.
    """
    found = Pools([[] for _ in range(len(case.tunnels))], {})
    tunnel_of = decision.tunnel
    groups = [(np.full(len(tunnel_of), -1, np.int32), tunnel_of)]
    if with_clocks:
        told = np.where((tunnel_of >= 0) & (case.devices.device >= 0), tunnel_of, -1)
        groups.append((case.devices.device, told))
    sent_ns = _sent_ns(case, decision) if with_ip_ids else None
    of_one_host: set[int] = set()
    linked = np.flatnonzero(tunnel_of >= 0)
    offsets = flow_offsets(senders, 2 * linked) if with_clocks else None
    for device_of, tunnels in groups:
        for flows, ids in _groups(senders, tunnels, device_of, sent_ns):
            device, tunnel = int(device_of[flows[0]]), int(tunnels[flows[0]])
            if tunnel in of_one_host:
                continue
            row: dict[str, Any] = {
                "device": f"d{device + 1}" if device >= 0 else None,
                "flows": len(flows),
                "clock": _clock(senders, offsets, flows),
                "ip_id": None,
            }
            if ids is not None:
                counted = pooled_ids(ids, _outer(case, tunnel))
                row["ip_id"] = _ip_id(counted)
                found.counter_of.update(dict.fromkeys(counted.members.tolist(), counted.profile))
                if counted.profile.scope == "host":
                    of_one_host.add(tunnel)
            if row["clock"] or row["ip_id"]:
                found.rows[tunnel].append(row)
    return found


def _sent_ns(case: Case, decision: Decision) -> Ints:
    """When each packet was sent, on the ingress clock: just before the record that carried it.

    Of equal packets in a burst any may have been given any record; a flow's packets keep their order.
    """
    egress, records = case.egress, case.tunnels.records
    at_ns = egress.ts_ns.copy()
    carried = np.flatnonzero(decision.record >= 0)
    at_ns[carried] = records.ts_ns[decision.record[carried]] - 1
    of_flow = np.repeat(np.arange(len(egress.start) - 1), np.diff(egress.start))
    sent_ns = np.empty_like(at_ns)
    in_order = np.lexsort((egress.ts_ns, egress.up, of_flow))
    sent_ns[egress.row[in_order]] = at_ns[np.lexsort((at_ns, egress.up, of_flow))]
    return sent_ns


def _groups(
    senders: Senders, tunnel_of: Int32s, device_of: Int32s, sent_ns: Ints | None
) -> Iterator[tuple[Ints, IdPackets | None]]:
    """Flows of a tunnel and device, where there are several, and their packets' IDs."""
    flows = senders.flows
    linked = np.flatnonzero(tunnel_of >= 0)
    pairs, number = np.unique(np.stack([tunnel_of[linked], device_of[linked]]), axis=1, return_inverse=True)
    group = np.full(len(tunnel_of), -1, np.int64)
    group[linked] = number.ravel()
    members, first = rows_in_time(group, pairs.shape[1], flows.first_ns)
    rows, start = rows_in_time(np.where(flows.up, group[flows.flow], -1), pairs.shape[1], flows.packets.ts_ns)
    for g in range(pairs.shape[1]):
        mine = members[first[g] : first[g + 1]].astype(np.int64)
        if len(mine) >= LEAST_FLOWS:
            own = rows[start[g] : start[g + 1]].astype(np.int64)
            yield mine, None if sent_ns is None else id_packets(senders, own, sent_ns[own])


def _outer(case: Case, tunnel: int) -> IdPackets | None:
    """What the tunnel's client sent, where its IDs are a counter and both sides' times are one clock's."""
    if case.outer_ip_ids[tunnel].scope is None or not case.alignment.usable:
        return None
    mine = slice(int(case.outer.start[tunnel]), int(case.outer.start[tunnel + 1]))
    rows, packets = case.outer.row[mine], case.conversations.packets
    one = np.zeros(len(rows), np.int64)
    return IdPackets(case.outer.ts_ns[mine], packets.ip_id[rows].astype(np.int64), one, one)


def _clock(senders: Senders, offsets: FlowOffsets | None, flows: Ints) -> dict[str, Any] | None:
    if offsets is None:
        return None
    found = pooled_clock(senders, offsets.of(2 * flows))
    told = found and found.clock.to_dict(found.scope)
    return {**told, "flows": len(found.senders)} if found and told else None


def _ip_id(counted: PooledIds) -> dict[str, Any] | None:
    told = counted.profile.to_dict()
    if told is None:
        return None
    profile = counted.profile
    more = {"gaps": profile.gaps, "wraps": profile.wraps, "flows": len(counted.members)}
    return told | more | {"with_outer": counted.with_outer}
