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
from vpnforensics.report.endpoints import parted
from vpnforensics.tunnels.plain import plain_clients
from vpnforensics.validation.comparisons import Scores

BINS = 512
_BEFORE = 32
"""Bins before the flow's first packet, and at least as many after its last: where it is silent, a tunnel that
is silent, too, is more like it."""
_LEAST_BIN_NS = 1_000_000
"""Width of the bins of flows that are over at once.

Of 16 to 512 bins and 1 to 100 ms these did best for all three kinds of score together, on simulated sessions
that are neither trained on nor judged, half of them with 2 ms of jitter. Each doubling of the bins gained a
few points, for twice the time.
"""
_AT_ONCE = 4096
"""Flows whose bins are in memory at a time: about 100 MB."""


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
            turned[conversation] = parted(conversations.source(conversation))[0] != parted(tunnel.client)[0]
    return found, turned


Score = Callable[[Ints, int], Floats]
"""From flows, by their place among some, and one tunnel, to a score for each of the flows."""


def of_pairs(case: Case, prepared: Callable[[Ints], Score]) -> Scores:
    """Scores of all flows with the tunnels that were there at their time.

    Parameters
    ----------
    case : Case
    prepared : callable
        From some flows, ascending, to what scores them.
    """
    if not case.alignment.usable:
        return silent()
    none = np.zeros(0, np.int64)
    present = there(case)
    parts = [(none, none, np.zeros(0))]
    for at in range(0, len(case.flows), _AT_ONCE):
        flows = np.arange(at, min(at + _AT_ONCE, len(case.flows)))
        score = prepared(flows)
        for tunnel in range(len(case.tunnels)):
            mine = np.flatnonzero(present[flows, tunnel])
            parts.append((flows[mine], np.full(len(mine), tunnel, np.int64), score(mine, tunnel)))
    flow, tunnels, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Scores(flow, tunnels, scores)


def silent() -> Scores:
    """Of a method that says nothing of a case."""
    none = np.zeros(0, np.int64)
    return Scores(none, none, np.zeros(0), np.nan)


@dataclass(frozen=True, eq=False)
class Binned:
    """Some flows in bins over their own time, and tunnels in the same bins."""

    edges: Ints
    """Shape (flows, bins + 1)."""
    flows: Floats
    """Bytes, or packets: shape (2, flows, bins), down and up."""
    outer: Sightings
    weighed: bool

    def tunnel(self, number: int, mine: Ints) -> Floats:
        """What a tunnel did in the bins of these of the flows, shape (2, flows, bins)."""
        edges = self.edges[mine]
        return np.stack([_in_bins(*self.outer.of(number, up), edges, self.weighed) for up in (0, 1)])


def in_bins(case: Case, *, weighed: bool) -> Callable[[Ints], Binned]:
    """What puts flows, and tunnels beside them, into bins.

    Parameters
    ----------
    case : Case
    weighed : bool
        Bytes; else packets.
    """
    inner, outer = inner_packets(case), outer_packets(case)

    def of(flows: Ints) -> Binned:
        low, high = inner.start[2 * flows[0]], inner.start[2 * flows[-1] + 2]
        start = inner.start[2 * flows[0] : 2 * flows[-1] + 3 : 2] - low
        ts_ns, size = inner.ts_ns[low:high], inner.size[low:high]
        first = np.minimum.reduceat(ts_ns, start[:-1])
        life = np.maximum.reduceat(ts_ns, start[:-1]) - first
        width = np.maximum(life // (BINS - 2 * _BEFORE) + 1, _LEAST_BIN_NS)
        edges = first[:, None] + width[:, None] * (np.arange(BINS + 1) - _BEFORE)
        ways = np.diff(inner.start[2 * flows[0] : 2 * flows[-1] + 3])
        flow, up = np.divmod(np.repeat(np.arange(len(ways)), ways), 2)
        place = (up * len(flows) + flow) * BINS + (ts_ns - edges[flow, 0]) // width[flow]
        binned = np.bincount(place, size.astype(np.float64) if weighed else None, 2 * len(flows) * BINS)
        return Binned(edges, binned.astype(np.float64).reshape(2, len(flows), BINS), outer, weighed)

    return of


def _in_bins(ts_ns: Ints, size: Int32s, edges: Ints, weighed: bool) -> Floats:
    total = np.r_[0, np.cumsum(size, dtype=np.int64)] if weighed else np.arange(len(ts_ns) + 1)
    return np.diff(total[np.searchsorted(ts_ns, edges)], axis=1).astype(np.float64)


def _sightings(owner: Ints, up: Bools, ts_ns: Ints, size: Int32s, senders: int) -> Sightings:
    group = np.where(owner >= 0, 2 * owner + up, -1)
    rows, start = rows_in_time(group, 2 * senders, ts_ns)
    return Sightings(start, ts_ns[rows], size[rows])
