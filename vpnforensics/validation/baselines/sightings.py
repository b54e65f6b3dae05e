"""What all baselines look at: outer packets by tunnel, inner packets by flow, on one clock; and bins of them.

A tunnel lives much longer than a flow. What it did in bins over the flow's own time is compared with the
flow's: at most that part of it can be the flow's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Floats, Int32s, Ints
from vpnforensics.engines.case import Case
from vpnforensics.evidence.decision import there
from vpnforensics.flows.grouping import rows_in_time
from vpnforensics.tunnels.plain import plain_clients
from vpnforensics.validation.comparisons import Scores

BINS = 32
_BEFORE = 4
"""Bins before the flow's first packet, and at least as many after its last: where it is silent, a tunnel that
is silent, too, is more like it."""
_LEAST_BIN_NS = 20_000_000
"""Bins as narrow as jitter would part a packet from its own record: twice the largest that is added."""


@dataclass(frozen=True, eq=False)
class Sightings:
    """Packets by sender, direction and time.

    ``start[k]:start[k + 1]`` are those of tunnel or flow ``k // 2``: down where k is even, up where odd.
    """

    start: Ints
    ts_ns: Ints
    """On the ingress clock."""
    size: Int32s
    """IP bytes."""

    def of(self, sender: int, up: int) -> tuple[Ints, Int32s]:
        """Times and sizes of one sender and direction."""
        mine = slice(int(self.start[2 * sender + up]), int(self.start[2 * sender + up + 1]))
        return self.ts_ns[mine], self.size[mine]


def outer_packets(case: Case) -> Sightings:
    """The packets of each tunnel, with those of conversations beside it."""
    conversations, packets = case.conversations, case.conversations.packets
    tunnel_of, turned = tunnel_of_conversation(case)
    up = conversations.up != turned[conversations.flow]
    owner = tunnel_of[conversations.flow]
    return _sightings(owner, up, packets.ts_ns, packets.ip_len_bytes, len(case.tunnels))


def inner_packets(case: Case) -> Sightings:
    """The packets of each flow."""
    rows = case.egress
    owner = np.repeat(np.arange(len(case.flows)), np.diff(rows.start))
    return _sightings(owner, rows.up, rows.ts_ns, rows.inner_bytes, len(case.flows))


def tunnel_of_conversation(case: Case) -> tuple[Ints, Bools]:
    """The tunnel of each ingress conversation, -1 without; and whether up is down there."""
    conversations, tunnels = case.conversations, case.tunnels.tunnels
    turned = np.zeros(len(conversations), np.bool_)
    if tunnels and all(tunnel.protocol == "plain" for tunnel in tunnels):
        return plain_clients(conversations)[1].astype(np.int64), turned
    found = np.full(len(conversations), -1, np.int64)
    for number, tunnel in enumerate(tunnels):
        for conversation in (tunnel.conversation, *tunnel.beside):
            found[conversation] = number
            turned[conversation] = _host(conversations.source(conversation)) != _host(tunnel.client)
    return found, turned


def of_pairs(case: Case, score: Callable[[Ints, int], Floats]) -> Scores:
    """Scores of all flows with the tunnels that were there at their time.

    Parameters
    ----------
    case : Case
    score : callable
        From flows, ascending, and one tunnel, to a score for each of the flows.
    """
    if not case.alignment.usable:
        none = np.zeros(0, np.int64)
        return Scores(none, none, np.zeros(0), np.nan)
    present = there(case)
    flows = [np.flatnonzero(present[:, tunnel]) for tunnel in range(len(case.tunnels))]
    scores = [score(mine, tunnel) for tunnel, mine in enumerate(flows)]
    tunnel = np.repeat(np.arange(len(flows)), [len(mine) for mine in flows])
    return Scores(
        np.concatenate([*flows, np.zeros(0, np.int64)]), tunnel, np.concatenate([*scores, np.zeros(0)])
    )


@dataclass(frozen=True, eq=False)
class Binned:
    """Flows in bins over their own time, and tunnels in the same bins."""

    edges: Ints
    """Shape (flows, bins + 1)."""
    flows: Floats
    """Bytes, or packets: shape (2, flows, bins), down and up."""
    outer: Sightings
    weighed: bool

    def tunnel(self, number: int, flows: Ints) -> Floats:
        """What a tunnel did in the bins of these flows, shape (2, flows, bins)."""
        edges = self.edges[flows]
        return np.stack([_in_bins(*self.outer.of(number, up), edges, self.weighed) for up in (0, 1)])


def in_bins(case: Case, *, weighed: bool) -> Binned:
    """Both sides in bins.

    Parameters
    ----------
    case : Case
    weighed : bool
        Bytes; else packets.
    """
    inner, rows = inner_packets(case), case.egress
    first = np.minimum.reduceat(rows.ts_ns, rows.start[:-1])
    life = np.maximum.reduceat(rows.ts_ns, rows.start[:-1]) - first
    width = np.maximum(life // (BINS - 2 * _BEFORE) + 1, _LEAST_BIN_NS)
    edges = first[:, None] + width[:, None] * (np.arange(BINS + 1) - _BEFORE)
    sender = np.repeat(np.arange(len(inner.start) - 1), np.diff(inner.start))
    flow, up = sender // 2, sender % 2
    place = (up * len(first) + flow) * BINS + (inner.ts_ns - edges[flow, 0]) // width[flow]
    weight = inner.size.astype(np.float64) if weighed else None
    flows = np.bincount(place, weight, 2 * len(first) * BINS).astype(np.float64)
    return Binned(edges, flows.reshape(2, len(first), BINS), outer_packets(case), weighed)


def _in_bins(ts_ns: Ints, size: Int32s, edges: Ints, weighed: bool) -> Floats:
    total = np.r_[0, np.cumsum(size, dtype=np.int64)] if weighed else np.arange(len(ts_ns) + 1)
    return np.diff(total[np.searchsorted(ts_ns, edges)], axis=1).astype(np.float64)


def _host(endpoint: str) -> str:
    return endpoint.rpartition(":")[0]


def _sightings(owner: Ints, up: Bools, ts_ns: Ints, size: Int32s, senders: int) -> Sightings:
    group = np.where(owner >= 0, 2 * owner + up, -1)
    rows, start = rows_in_time(group, 2 * senders, ts_ns)
    return Sightings(start, ts_ns[rows], size[rows])
