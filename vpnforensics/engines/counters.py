"""Conservation: a tunnel's clear counter advances by one for every inner packet, seen or not.

Theory of operation
-------------------
*For a pair.* A flow cannot be in a tunnel that sent fewer packets than the flow has in any window of its time
(:func:`score`). Each quarter of a second in which the tunnel's counter came less far than the flow's packets
of that direction counts against the pair, by what it takes for so many to be missed at once. That a tunnel
sent enough says nothing: a busy one has room for every flow. It does not go by lengths: padding does not hide
it, nor does a lossy ingress capture.

*For the case.* What all tunnels carried must come out at egress (:func:`conserve`). Advance against records
tells what the ingress capture lost; advance against egress packets what the egress capture lost; and as
every tunnel advances in its own rhythm, least squares over windows tell whose packets are missing, before
any flow is linked.

Assumptions: one count a packet; keep-alives are few; clocks aligned to better than a window.

Silent on tunnels without a clear counter, on flows of fewer than 10 packets, and without alignment.

Known weaknesses: fragments at egress count twice; packets to the VPN server itself never come out; the
server's own traffic comes out without a tunnel (it shows as more egress than advance).

References: :mod:`vpnforensics.features.counter_advance`. Counting in and out is the packet counting attack of
Serjantov & Sewell 2003 ("Passive attack analysis for connection-based anonymity systems"), on counters
instead of connections.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.engines.case import USUAL_MISS, Case
from vpnforensics.engines.scores import EngineScores, Pairs, in_order, silent
from vpnforensics.features.conservation import Conservation, conserve_advances
from vpnforensics.features.counter_advance import advances
from vpnforensics.flows.grouping import runs

NAME = "counters"

_WINDOW_NS = 250_000_000
"""Long enough that what is under way at its edges is little of it."""
_SLACK_NS = 75_000_000
"""By which the tunnel's window is longer at both ends: delays and clocks."""
_SPARE = 0.05
"""Of a flow's packets in a window, so many may be fragments or copies."""
_LEAST_SCORE = -6.0
"""A burst that was delayed whole must not outweigh all else."""
_LEAST_PACKETS = 10
"""Shorter flows hardly fill a window."""


def score(case: Case, only: Pairs | None = None) -> EngineScores:
    """How often each tunnel's advance falls short of each flow's packets.

    Of flows of 10 or more packets, and tunnels with a counter that were alive at some time of the flow.
    """
    flows, egress = len(case.flows), case.egress
    found = advances(case.tunnels)
    silence: dict[str, int] = {}
    without = int((np.diff(found.start).reshape(-1, 2).sum(axis=1) == 0).sum())
    if without:
        silence["tunnel without a clear counter"] = without
    small = np.diff(egress.start) < _LEAST_PACKETS
    if small.any():
        silence["flow of fewer than 10 packets"] = int(small.sum())
    # Windows of the flows, by flow: begin, direction and packets.
    flow = np.repeat(np.arange(flows), np.diff(egress.start))
    long = ~small[flow]
    columns = np.stack([flow[long], egress.ts_ns[long] // _WINDOW_NS, egress.up[long]])
    (of, window, up), count = np.unique(columns, axis=1, return_counts=True)
    start = np.searchsorted(of, np.arange(flows + 1))
    pairs = in_order(only, flows, len(case.tunnels))
    pair, row = runs(start[pairs.flow], start[pairs.flow + 1])
    opens = window[row] * _WINDOW_NS
    sent = found.between(
        2 * pairs.tunnel[pair].astype(np.int64) + up[row], opens - _SLACK_NS, opens + _WINDOW_NS + _SLACK_NS
    )
    short = (sent >= 0) & (sent < np.floor(count[row] * (1 - _SPARE)))
    compared = np.bincount(pair, np.where(sent >= 0, count[row], 0), len(pairs)).astype(np.int32)
    total = np.maximum(np.bincount(pair, short, len(pairs)) * np.log10(USUAL_MISS), _LEAST_SCORE)
    listed = np.flatnonzero(compared)
    if not len(listed):
        return silent(NAME, silence or {"no flow at the time of a tunnel": flows})
    return EngineScores(
        NAME,
        pairs.flow[listed],
        pairs.tunnel[listed],
        total[listed],
        compared[listed],
        tuple(f"{n} packets against the counter's advance" for n in compared[listed].tolist()),
        silence,
    )


def conserve(case: Case, *, window_s: float = 1.0) -> Conservation | None:
    """What went in against what came out, for the whole case, by tunnel and direction.

    Needs no links. ``None`` without alignment, without counters, or where the captures do not overlap.
    """
    found, egress = advances(case.tunnels), case.egress
    if not case.alignment.usable or not len(found.total) or not len(egress.ts_ns):
        return None
    known = {(t, up): found.of(t, up) for up in (True, False) for t in range(len(case.tunnels))}
    return conserve_advances(
        {way: advance for way, advance in known.items() if len(advance[0])},
        case.tunnels.records.ts_ns,
        egress.ts_ns,
        egress.up,
        tuple(t.client for t in case.tunnels.tunnels),
        window_ns=int(window_s * 1e9),
    )
