"""IP IDs: outer and inner packets are numbered by one counter.

Theory of operation
-------------------
A host with one IP-ID counter for all that it sends (Windows up to 7, old stacks, many small devices)
numbers the inner packet, then the outer packet that carries it. Under H1 (the host that opened the flow
runs the tunnel) the ID of an inner packet stands where the tunnel's outer IDs stand at that time, is none
of theirs, and the steps of the flow are those of the counter less the values that outer packets took: what
is left over is small. Under H2 the flow has a counter of its own, which begins at one value in 65,536, and
its steps are as they are. Both read steps by the gap law (:mod:`vpnforensics.features.gap_law`), each at
the scale that suits it. The score is the logarithm of the ratio. H2 is not "random IDs": a flow with its
own counter that happens to lie near pays for its start once, then each packet is predicted from the one
before. So packets of a burst are no independent evidence; a flow gains by every outer packet that explains
a step.

Pairs are found by a join on (second, ID): flows and tunnels are never paired in a loop.

Assumptions: aligned clocks; less than a second from the inner packet's making to egress; the VPN runs on
the host. Never speaks against a pair: a host may well have several counters. Silent on outer IDs that are
no counter (zero, constant, random), on IPv6, on flows without IDs, without an alignment, on counters by
destination or socket, as today's systems have: these share nothing between outer and inner.

RFC 6864; Bellovin 2002; Salutari et al. 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Ints
from vpnforensics.engines.case import LONGEST_STAY_NS, Case
from vpnforensics.engines.scores import EngineScores, Pairs, silent
from vpnforensics.engines.upstream import Upstream, field, inner_upstream
from vpnforensics.features.gap_law import LOG_CHANCE, best_scale
from vpnforensics.features.wraparound import signed_difference, swap_bytes, unwrap
from vpnforensics.flows.grouping import runs

NAME = "ip_id"

_SLOT_NS = 500_000_000
"""Cells of time of the search for pairs, two for as far back as a tunnel's counter may have stood there."""
_BIN_IDS = 32
"""Cells of the counter's 65,536 values: what a busy host sends in half a second."""
_HIT_SHARE = 0.3
"""Share of a flow's packets that must find the tunnel's counter near for the pair to be weighed."""
_MOST_JOINED = 16
"""Packets of a flow that take part in the search for pairs: its first."""
_AHEAD_NS = 2_000_000
"""The outer packet may stand after the inner one's time at egress by so much: the clocks' error."""
_AHEAD_IDS = 16
"""An inner ID may pass the latest outer one seen by so much: unseen packets came between."""
_FIRST_SCALE = 8.0
"""Values between the first inner ID and the counter's last outer one: packets that went elsewhere."""
_STRANGE = 0.02
"""Share of inner IDs that are none of the counter's: fragments, resets, other stacks behind the tunnel."""
_TWICE = 0.001
"""Share of inner IDs that an outer packet has too, were the counter one."""


@dataclass(frozen=True, eq=False)
class OuterCounters:
    """Outer counters: packets grouped by tunnel, IDs as the counter counts."""

    packets: Upstream
    ip_id: Ints
    line: Ints
    """Without wraps."""
    swapped: Bools
    """A tunnel whose client sends the bytes exchanged."""
    silence: dict[str, int]
    """Why tunnels have none."""


def score(case: Case, only: Pairs | None = None) -> EngineScores:
    """Scores of flows in tunnels whose outer IDs are a counter."""
    counters = outer_counters(case)
    silence = dict(counters.silence)
    inner = inner_upstream(case)
    inner = inner.keep(case.flows.packets.ip_id[inner.row] > 0)
    bare = int(np.sum(np.diff(inner.start) == 0))
    if bare:
        silence["flow without IP IDs (zero, or IPv6)"] = bare
    if not len(counters.ip_id) or not len(inner.ts_ns):
        return silent(NAME, silence)
    ids = field(case.flows.packets, inner, "ip_id")
    flow, tunnel = _pairs(counters, inner, ids)
    if only is not None:
        wanted = only.among(flow, tunnel)
        flow, tunnel = flow[wanted], tunnel[wanted]
    value, n = np.zeros(len(flow)), np.zeros(len(flow), np.int64)
    for t in np.unique(tunnel).tolist():
        own = slice(int(counters.packets.start[t]), int(counters.packets.start[t + 1]))
        ts_ns, line = counters.packets.ts_ns[own], counters.line[own]
        taken = line[np.r_[True, np.diff(line) > 0]]
        for i in np.flatnonzero(tunnel == t).tolist():
            mine = slice(int(inner.start[flow[i]]), int(inner.start[flow[i] + 1]))
            x = swap_bytes(ids[mine]) if counters.swapped[t] else ids[mine]
            value[i] = _weigh(ts_ns, line, taken, inner.ts_ns[mine], x)
            n[i] = len(x)
    # One counter or not: what is likelier apart may still be carried, by a host with several counters.
    spoken = value > 0
    flow, tunnel, value, n = flow[spoken], tunnel[spoken], value[spoken], n[spoken]
    unspoken = len(np.unique(inner.owner)) - len(np.unique(flow))
    if unspoken:
        silence["flow whose IP IDs run with no tunnel's counter"] = unspoken
    note = ("outer and inner IP IDs of one counter",) * len(flow)
    return EngineScores(
        NAME, flow.astype(np.int32), tunnel.astype(np.int32), value, n.astype(np.int32), note, silence
    )


def outer_counters(case: Case) -> OuterCounters:
    """Outer packets of the tunnels whose IDs count."""
    profiles = case.outer_ip_ids
    silence: dict[str, int] = {}
    counts = np.array([p.scope is not None for p in profiles], np.bool_)
    for profile in profiles:
        if profile.scope is None:
            why = profile.reason or profile.ip_id_class
            reason = f"tunnel whose outer IP IDs are no counter ({why})"
            silence[reason] = silence.get(reason, 0) + 1
    outer, packets = case.outer, case.conversations.packets
    outer = outer.keep((packets.ip_id[outer.row] > 0) & counts[outer.owner])
    swapped = np.array([p.swapped for p in profiles], np.bool_)
    ids = field(packets, outer, "ip_id")
    turned = swapped[outer.owner]
    ids = np.where(turned, swap_bytes(ids), ids)
    line = np.zeros(len(ids), np.int64)
    for t in np.flatnonzero(counts).tolist():
        mine = slice(int(outer.start[t]), int(outer.start[t + 1]))
        line[mine] = np.maximum.accumulate(unwrap(ids[mine], 16))
    return OuterCounters(outer, ids, line, swapped, silence)


def _pairs(counters: OuterCounters, inner: Upstream, ids: Ints) -> tuple[Ints, Ints]:
    """Flows and tunnels whose IDs are near each other at about the same time, often enough.

    A join on half seconds and bins of 32 IDs: a tunnel's counter stands in few bins at a time.
    """
    tunnels, bins = len(counters.packets), 65_536 // _BIN_IDS
    place = np.arange(len(ids)) - inner.start[inner.owner]
    used = np.flatnonzero(place < _MOST_JOINED)
    taken = np.bincount(inner.owner[used], minlength=len(inner))
    hits = [np.zeros(0, np.int64)]
    for swapped in np.unique(counters.swapped).tolist():
        outer = counters.swapped[counters.packets.owner] == swapped
        place_of = counters.packets.ts_ns[outer] // _SLOT_NS * bins + counters.ip_id[outer] // _BIN_IDS
        cell = np.unique(place_of * tunnels + counters.packets.owner[outer])
        key, of = np.divmod(cell, tunnels)
        x = swap_bytes(ids[used]) if swapped else ids[used]
        slot = inner.ts_ns[used] // _SLOT_NS
        for back in range(LONGEST_STAY_NS // _SLOT_NS + 1):
            for aside in (-1, 0, 1):
                wanted = (slot - back) * bins + (x // _BIN_IDS + aside) % bins
                packet, at = runs(np.searchsorted(key, wanted), np.searchsorted(key, wanted, side="right"))
                hits.append(used[packet] * np.int64(tunnels) + of[at])
    # A packet counts once for a tunnel, however many bins are near.
    packet, tunnel = np.divmod(np.unique(np.concatenate(hits)), tunnels)
    pair, count = np.unique(inner.owner[packet] * tunnels + tunnel, return_counts=True)
    flow, tunnel = np.divmod(pair, tunnels)
    enough = count >= np.maximum(_HIT_SHARE * taken[flow], 1)
    return flow[enough], tunnel[enough]


def _weigh(ts_ns: Ints, line: Ints, taken: Ints, at_ns: Ints, ip_id: Ints) -> float:
    """log10 of P(IDs | the tunnel's counter) over P(IDs | a counter of their own).

    The tunnel's packets at ``ts_ns`` stand at ``line``, which never falls; ``taken`` are its values.
    """
    last = np.clip(np.searchsorted(ts_ns, at_ns + _AHEAD_NS, side="right") - 1, 0, len(line) - 1)
    first = np.clip(np.searchsorted(ts_ns, at_ns - LONGEST_STAY_NS) - 1, 0, last)
    ahead = signed_difference(ip_id, line[last] % 65_536, 16)
    value = line[last] + ahead
    timely = (ahead <= _AHEAD_IDS) & (value >= line[first] - _AHEAD_IDS)
    # The first ID: near the counter's end, against anywhere.
    behind = np.abs(int(ahead[0])) + 1
    near = _FIRST_SCALE / ((_FIRST_SCALE + behind - 1) * (_FIRST_SCALE + behind)) / 2
    together = float(np.log(near + _STRANGE / 65_536))
    place = np.searchsorted(taken, value)
    used = taken[np.minimum(place, len(taken) - 1)] == value
    steps = signed_difference(ip_id[1:], ip_id[:-1], 16)
    passed = place[1:] - place[:-1] - used[:-1]
    joined = (np.diff(value) == steps) & (steps > 0)
    free = np.where(joined, steps - passed, steps)
    together += best_scale(free)[1]
    together += float(np.log(_STRANGE)) * int((~timely).sum()) + float(np.log(_TWICE)) * int(used.sum())
    own = best_scale(steps)[1]
    # IDs drawn at random are an H2 as well.
    alone = LOG_CHANCE + max(own, len(steps) * LOG_CHANCE)
    return (together - alone) / float(np.log(10.0))
