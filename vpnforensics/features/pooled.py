"""What several flows of one sender say together: one clock line, one IP-ID counter.

Theory of operation
-------------------
A stack with one counter for all that it sends spreads its evidence over its flows: each of them alone skips
the values that the others took, and looks like a counter of its own with thousands of packets missing. Once
flows are known to be one tunnel's, or one device's, they are read together. Of the clock line that most of
them share (:mod:`vpnforensics.features.clock_lines`) the clock is read from all packets of the flows on it.
Their IP IDs are classed as one host's (:mod:`vpnforensics.features.ip_id`), and a flow is said to count with
the others where its runs begin and end at the values that the others have reached.

Assumes that the flows were put together for other reasons. Of several devices behind one tunnel the pool of
the tunnel says little; each device's says more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.arrays import Ints
from vpnforensics.features.clock_lines import FlowOffsets, clock_lines
from vpnforensics.features.devices import MARGIN_LOG10
from vpnforensics.features.gap_law import LOG_CHANCE, step_log_p
from vpnforensics.features.ip_id import (
    CLEAR_NATS,
    IpIdProfile,
    classify_ip_ids,
    passed_over,
    reconstruct,
)
from vpnforensics.features.senders import Senders
from vpnforensics.features.tcp_clock import SenderClock, sender_clock
from vpnforensics.features.wraparound import signed_difference, swap_bytes
from vpnforensics.flows.grouping import changes
from vpnforensics.packets.table import FRAG_LATER

_LEAST_MEETINGS, _SHARE_MET = 5.0, 0.1
"""Values that two counters side by side would both have given, at least, and the share of so many that may be
met where the counter is one: of five none by chance is one case in 150."""


@dataclass(frozen=True, eq=False)
class PooledClock:
    """The clock that most flows of a pool share."""

    clock: SenderClock
    senders: Ints
    """On its line."""
    scope: str
    """``global``, or ``per_pair`` where all of them have one destination."""


@dataclass(frozen=True, eq=False)
class IdPackets:
    """Packets with IP IDs, in any order."""

    ts_ns: Ints
    ip_id: Ints
    flow: Ints
    destination: Ints


@dataclass(frozen=True, eq=False)
class PooledIds:
    """What the IP IDs of a pool count."""

    profile: IpIdProfile
    with_outer: bool
    """One counter for the packets of the tunnel as well: what they took is not missing."""
    members: Ints
    """Flows that count with the others; none where each has a counter of its own."""


def pooled_clock(senders: Senders, offsets: FlowOffsets) -> PooledClock | None:
    """The clock of the line that most senders of a pool lie on; ``None`` where no two share one.

    Parameters
    ----------
    senders : Senders
    offsets : FlowOffsets
        Of the pool's senders.
    """
    enough = MARGIN_LOG10 + np.log10(max(len(offsets.sender), 1))
    lines = [line for line in clock_lines(offsets).lines if line.llr >= enough]
    if not lines:
        return None
    on_line = np.sort(max(lines, key=lambda line: len(line.sender)).sender)
    packets = senders.flows.packets
    rows = np.concatenate([senders.rows_of(s) for s in on_line.tolist()])
    rows = rows[packets.has_ts[rows] == 1]
    rows = rows[np.argsort(packets.ts_ns[rows], kind="stable")]
    one = len(np.unique(senders.flows.dst[on_line // 2])) == 1
    clock = sender_clock(packets.ts_ns[rows], packets.tsval[rows])
    return PooledClock(clock, on_line, "per_pair" if one else "global")


def id_packets(senders: Senders, rows: Ints, ts_ns: Ints) -> IdPackets:
    """The packets of some rows that have an ID of their own.

    Parameters
    ----------
    senders : Senders
    rows : ndarray of int64, shape (n,)
    ts_ns : ndarray of int64, shape (n,)
        Their times, on whatever clock.
    """
    packets = senders.flows.packets
    own = (packets.ip_id[rows] >= 0) & (packets.frag[rows] != FRAG_LATER)
    rows = rows[own]
    ids, flow, destination = packets.ip_id[rows], senders.flows.flow[rows], packets.dst[rows]
    return IdPackets(ts_ns[own], *(column.astype(np.int64) for column in (ids, flow, destination)))


def pooled_ids(inner: IdPackets, outer: IdPackets | None = None) -> PooledIds:
    """What the IP IDs of a pool count.

    Parameters
    ----------
    inner : IdPackets
    outer : IdPackets, optional
        What the tunnel's client sent around them, where its IDs are a counter.
    """
    profile = classify_ip_ids(inner.ts_ns, inner.ip_id, inner.flow, inner.destination)
    if profile.scope not in ("host", "destination"):
        return PooledIds(profile, False, np.zeros(0, np.int64))
    together = None
    if outer is not None and profile.scope == "host":
        together = _one_line(inner, outer, swapped=profile.swapped)
    if together is not None:
        missing, gaps, wraps = passed_over(together)
        profile = replace(profile, missing=missing, gaps=gaps, wraps=wraps)
    return PooledIds(profile, together is not None, _members(inner, profile))


def _one_line(inner: IdPackets, outer: IdPackets, *, swapped: bool) -> Ints | None:
    """Values of the counter that inner and outer packets share; ``None`` where it is not one.

    Two counters that run side by side meet in values as often as they fill them; one gives none twice.
    """
    order = np.argsort(np.r_[inner.ts_ns, outer.ts_ns], kind="stable")
    order = order[np.r_[inner.ip_id, outer.ip_id][order] > 0]
    line = reconstruct(np.r_[inner.ip_id, outer.ip_id][order], swapped=swapped)
    is_inner = order < len(inner.ts_ns)
    ours, theirs = np.unique(line[is_inner]), np.unique(line[~is_inner])
    if not len(ours):
        return None
    beside = theirs[(theirs >= ours[0]) & (theirs <= ours[-1])]
    by_chance = len(beside) * len(ours) / (ours[-1] - ours[0] + 1)
    met = int(np.isin(beside, ours).sum())
    return line if by_chance >= _LEAST_MEETINGS and met <= _SHARE_MET * by_chance else None


def _members(packets: IdPackets, profile: IpIdProfile) -> Ints:
    """Flows whose runs begin and end where the counter stands, by the steps between them and others."""
    counter = packets.destination if profile.scope == "destination" else np.zeros_like(packets.destination)
    order = np.lexsort((packets.ts_ns, counter))
    order = order[packets.ip_id[order] > 0]
    ids = packets.ip_id[order]
    ids = swap_bytes(ids) if profile.swapped else ids
    flow = packets.flow[order]
    met = np.flatnonzero(changes(flow) & ~changes(counter[order]))
    step = signed_difference(ids[met], ids[met - 1], 16)
    gain = step_log_p(step, profile.scale or 1.0) - LOG_CHANCE
    flows, number = np.unique(np.r_[flow[met], flow[met - 1]], return_inverse=True)
    members: Ints = flows[np.bincount(number, np.r_[gain, gain]) >= CLEAR_NATS * np.bincount(number)]
    return members


def of_member(alone: IpIdProfile, pool: IpIdProfile) -> IpIdProfile:
    """A flow's own profile, where it is known to count with others: the values it skips are theirs."""
    return replace(alone, ip_id_class=pool.ip_id_class, scope=pool.scope, missing=None)
