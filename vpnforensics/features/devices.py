"""Which flows were sent by one operating-system stack.

Theory of operation
-------------------
Three kinds of evidence tie client-side senders together, strongest first: a common timestamp line
(:mod:`vpnforensics.features.clock_lines`), a shared IP-ID counter
(:mod:`vpnforensics.features.ip_id_strings`), and, where each connection has an offset of its own, rate and
phase of the clock (:mod:`vpnforensics.features.skews`), which only flows of a minute and more show. Each
tie is a likelihood ratio. Two flows are joined if it passes the number of flows that were compared this
way, hundredfold: then at most one flow in a hundred is expected to find a wrong partner. Nothing joins
flows whose TTL, or whose use of timestamps on the SYN, differs: that is another stack.

The result is a partition with holes. A flow that no tie reaches is *not told* (device -1): it may belong
to any device. Groups are not necessarily whole: two groups may be one device. Current Linux (offset by
connection, steered clock, ID by socket) leaves next to nothing to go on, and is mostly not told.

Assumes that all packets were seen at one tap with one clock. Fails where a middlebox rewrites TTL, IDs or
timestamps to a line of its own; TTL rewriting only takes a veto away.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.features.clock_lines import ClockLines, clock_lines, flow_offsets
from vpnforensics.features.clock_table import ClockTable, clock_table
from vpnforensics.features.ip_id_strings import shared_counters
from vpnforensics.features.senders import Senders
from vpnforensics.features.skews import (
    RATE_REACH_SD,
    is_quartz,
    phase_llr,
    skew_llr,
    skew_population,
    skew_sd_ppm,
)
from vpnforensics.features.tcp_clock import LEAST_NS, LEAST_PACKETS
from vpnforensics.features.wraparound import swap_bytes
from vpnforensics.packets.table import FRAG_LATER, TCP_SYN

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MARGIN_LOG10 = 2.0
"""A tie must pass the number of flows compared by this factor: one wrong partner in a hundred."""
_NEIGHBOURS = 12
"""Clocks compared with each: those next in rate."""
_REWRITTEN = 5


@dataclass(frozen=True, eq=False)
class Ties:
    """Pairs of flows with a likelihood ratio of common origin, and what it rests on."""

    first: Ints
    second: Ints
    llr: Floats
    basis: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, eq=False)
class Devices:
    """A partition of flows by the stack of their client side; -1 where it cannot be told."""

    senders: Senders
    device: npt.NDArray[np.int32]
    """Group of each flow, from 0 in order of first flow; -1 for "cannot tell"."""
    ties: Ties
    """What holds the groups together: the pairs that were joined."""
    scope: tuple[str | None, ...]
    """Of each flow's timestamp offset: ``global``, ``per_pair``, ``per_connection``; ``None`` unknown."""
    clocks: ClockTable
    notes: tuple[str, ...] = ()
    silence: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Groups."""
        return int(self.device.max()) + 1 if len(self.device) else 0

    def to_pandas(self) -> pd.DataFrame:
        """One row a flow."""
        flows = self.senders.flows
        return pd.DataFrame(
            {
                "flow": flows.ids,
                "src": [flows.source(f) for f in range(len(flows))],
                "dst": [flows.destination(f) for f in range(len(flows))],
                "packets": flows.packets_up + flows.packets_down,
                "device": [f"d{d + 1}" if d >= 0 else None for d in self.device.tolist()],
                "scope": list(self.scope),
            }
        )


def find_devices(senders: Senders, group: npt.NDArray[np.integer] | None = None) -> Devices:
    """Group flows by the operating-system stack of their client side.

    Parameters
    ----------
    senders : Senders
    group : ndarray of integers, shape (flows,), optional
        Flows of different groups are never joined: the tunnels that they were linked to, say. Without it,
        source addresses.

    Returns
    -------
    Devices
    """
    flows = senders.flows
    group = flows.src if group is None else group
    lines = clock_lines(flow_offsets(senders, senders.up))
    clocks = clock_table(senders, _long(senders))
    ttl, stamps = _fingerprints(senders)
    kind_of_flow = np.unique(np.stack([group.astype(np.int64), ttl]), axis=1, return_inverse=True)[1].ravel()
    found = [_line_ties(lines, kind_of_flow), _counter_ties(senders, group), _rate_ties(clocks)]
    first, second = (np.concatenate([getattr(t, name) for t in found]) for name in ("first", "second"))
    llr = np.concatenate([t.llr for t in found])
    basis = np.array([b for t in found for b in t.basis], dtype=object)
    kind = np.repeat(np.arange(len(found)), [len(t) for t in found])
    enough = np.array([_threshold(int(n)) for n in _compared(senders, lines, clocks)])
    keep = (
        (llr >= enough[kind])
        & (group[first] == group[second])
        & (ttl[first] == ttl[second])
        & ((stamps[first] == stamps[second]) | (stamps[first] < 0) | (stamps[second] < 0))
    )
    order = np.flatnonzero(keep)[np.argsort(-llr[keep], kind="stable")]
    device = _partition(len(flows), first[order], second[order])
    joined = Ties(first[order], second[order], llr[order], tuple(basis[order].tolist()))
    silence = {"no tie to another flow": int(np.sum(device < 0))}
    if len(lines.unresolved):
        silence["clock lines that cannot be told apart"] = len(lines.unresolved)
    return Devices(senders, device, joined, _scopes(senders, lines), clocks, _notes(senders, lines), silence)


def _threshold(compared: int) -> float:
    return float(np.log10(max(compared, 1))) + MARGIN_LOG10


def _compared(senders: Senders, lines: ClockLines, clocks: ClockTable) -> tuple[int, int, int]:
    """Flows that each kind of evidence compares."""
    return len(lines.offsets.sender), len(senders.flows), sum(c.fit is not None for c in clocks.clocks)


def _long(senders: Senders) -> Ints:
    """Client-side senders with timestamps that may show a rate."""
    up: Ints = senders.with_timestamps[senders.with_timestamps % 2 == 0]
    up = up[np.diff(senders.start)[up] >= LEAST_PACKETS]
    ts_ns = senders.flows.packets.ts_ns
    lasted = ts_ns[senders.row[senders.start[up + 1] - 1]] - ts_ns[senders.row[senders.start[up]]]
    lasting: Ints = up[lasted >= LEAST_NS]
    return lasting


def _line_ties(lines: ClockLines, kind: Ints) -> Ties:
    """Each flow of a line with the first of its kind there; only flows of one kind may be one stack's."""
    first, second, llr, basis = [], [], [], []
    for line in lines.lines:
        members = np.sort(line.sender) // 2
        lead = np.unique(kind[members], return_index=True, return_inverse=True)
        leader = members[lead[1]][lead[2].ravel()]
        others = leader != members
        first.append(leader[others])
        second.append(members[others])
        llr.append(np.full(int(others.sum()), line.llr))
        basis += [f"timestamps on one line at {line.hz:g} Hz"] * int(others.sum())
    return _ties(first, second, llr, basis)


def _counter_ties(senders: Senders, group: npt.NDArray[np.integer]) -> Ties:
    """Each flow that fits a string of IDs with the string's largest flow."""
    flows, packets = senders.flows, senders.flows.packets
    rows = np.flatnonzero(flows.up & (packets.ip_id > 0) & (packets.frag != FRAG_LATER))
    pool = group[flows.flow[rows]].astype(np.int64)
    by_destination = np.unique(np.stack([pool, packets.dst[rows]]), axis=1, return_inverse=True)[1].ravel()
    first, second, llr, basis = [], [], [], []
    ids = packets.ip_id[rows].astype(np.int64)
    for name, pools, values in (
        ("shared", pool, ids),
        ("shared to one destination", by_destination, ids),
        ("shared, bytes exchanged,", pool, swap_bytes(ids)),
    ):
        found = shared_counters(pools, packets.ts_ns[rows], values, flows.flow[rows])
        order = np.lexsort((-found.packets, found.string))
        lead = np.flatnonzero(np.diff(found.string[order], prepend=-1))
        leader = np.repeat(found.flow[order][lead], np.diff(np.r_[lead, len(order)]))
        weight = np.repeat(found.llr[order][lead], np.diff(np.r_[lead, len(order)]))
        others = leader != found.flow[order]
        first.append(leader[others])
        second.append(found.flow[order][others])
        # Of two flows each may be the odd one: the string must hold both.
        llr.append(np.minimum(found.llr[order], weight)[others])
        basis += [f"an IP-ID counter {name}"] * int(others.sum())
        first.append(found.joints.before)
        second.append(found.joints.after)
        llr.append(found.joints.llr)
        basis += [f"a step of an IP-ID counter {name}"] * len(found.joints.llr)
    return _ties(first, second, llr, basis)


def _rate_ties(clocks: ClockTable) -> Ties:
    """Senders whose rate and phase agree; each with those next in rate."""
    fitted = [i for i, clock in enumerate(clocks.clocks) if is_quartz(clock)]
    fitted.sort(key=lambda i: clocks.clocks[i].skew_ppm or 0.0)
    population = skew_population()
    skew = np.array([clocks.clocks[i].skew_ppm for i in fitted], np.float64)
    sd = np.array([skew_sd_ppm(clocks.clocks[i]) for i in fitted], np.float64)
    first, second, llr = [], [], []
    for step in range(1, min(_NEIGHBOURS, len(fitted) - 1) + 1):
        near = np.flatnonzero(skew[step:] - skew[:-step] <= RATE_REACH_SD * np.hypot(sd[step:], sd[:-step]))
        rate = skew_llr(skew[near], sd[near], skew[near + step], sd[near + step], population)
        for i, value in zip(near.tolist(), rate.tolist(), strict=True):
            a, b = fitted[i], fitted[i + step]
            if clocks.clocks[a].hz == clocks.clocks[b].hz:
                first.append(int(clocks.sender[a]) // 2)
                second.append(int(clocks.sender[b]) // 2)
                llr.append(value + phase_llr(clocks.clocks[a], clocks.clocks[b]))
    return _ties(
        [np.array(first, np.int64)],
        [np.array(second, np.int64)],
        [np.array(llr, np.float64)],
        ["rate and phase of the clock"] * len(first),
    )


def _ties(first: list[Ints], second: list[Ints], llr: list[Floats], basis: list[str]) -> Ties:
    none = np.zeros(0, np.int64)
    return Ties(
        np.concatenate([none, *first]),
        np.concatenate([none, *second]),
        np.concatenate([np.zeros(0), *llr]),
        tuple(basis),
    )


def _fingerprints(senders: Senders) -> tuple[Ints, Ints]:
    """TTL of each flow's client side, and whether its SYN has timestamps (-1 without a SYN)."""
    flows, packets = senders.flows, senders.flows.packets
    ttl = flows.of_first(flows.up, packets.ttl)
    return ttl, flows.of_first(flows.up & (packets.tcp_flags & TCP_SYN != 0), packets.has_ts)


def _partition(count: int, first: Ints, second: Ints) -> npt.NDArray[np.int32]:
    """Connected components with two and more members, numbered by first member; the rest -1."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    roots = np.array([root(i) for i in range(count)], np.int64)
    device = np.full(count, -1, np.int32)
    if not count:
        return device
    shared = np.bincount(roots, minlength=count) > 1
    number = np.cumsum(shared[np.arange(count)] & (roots == np.arange(count))) - 1
    device[shared[roots]] = number[roots[shared[roots]]]
    return device


def _scopes(senders: Senders, lines: ClockLines) -> tuple[str | None, ...]:
    """What the offset of each flow's clock is common to."""
    scope: list[str | None] = [None] * len(senders.flows)
    known = lines.offsets.sender[lines.offsets.hz > 0] // 2
    for f in known.tolist():
        scope[f] = "per_connection" if len(known) > 1 else None
    for line in lines.lines:
        members = line.sender // 2
        several = len(np.unique(senders.flows.dst[members])) > 1
        for f in members.tolist():
            scope[f] = "global" if several else "per_pair"
    for s in lines.unresolved.tolist():
        scope[s // 2] = None
    return tuple(scope)


def _notes(senders: Senders, lines: ClockLines) -> tuple[str, ...]:
    """Findings about rewriting."""
    hz = lines.offsets.hz
    on_lines = np.concatenate([np.zeros(0, np.int64), *(line.sender for line in lines.lines)])
    old = (hz > 0) & (hz < 1000) & lines.offsets.sure
    address = senders.flows.src[lines.offsets.sender // 2]
    alone = old & ~np.isin(lines.offsets.sender, on_lines)
    texts = senders.flows.packets.addresses.texts
    return tuple(
        f"{count} flows of {texts[a]} tick at a rate of stacks with one offset for all connections, yet share"
        " none: as many hosts, or a middlebox that adds a constant to each (pf reassemble tcp)"
        for a, count in zip(*(x.tolist() for x in np.unique(address[alone], return_counts=True)), strict=True)
        if count >= _REWRITTEN
    )
