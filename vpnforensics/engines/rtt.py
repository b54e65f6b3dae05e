"""Round trips: the client is as far away inside the tunnel as outside.

Theory of operation
-------------------
At egress, the time between a segment from the Internet and what acknowledges it is the way through the
server to the client and back: the client's round trip as the VPN server sees it
(:mod:`vpnforensics.features.round_trips`). At ingress, the same is measured on the tunnel's outer connection
or, over datagrams, on its handshakes.

The least round trip of the flow lies just above the least of the tunnel, by the inner stack's
delay. Under H1 ``log(flow / tunnel)`` has a narrow density, mixed with a broad one for delayed
acknowledgements and queues; under H2 the flow's round trip comes from a broad population of Internet paths.
The population is fixed, so that a score does not depend on who else is in the case.

Assumptions: the device that answers is the tunnel's end or near it (a router's clients add their LAN);
clients do not delay every acknowledgement.

Silent on flows without a sample (no TCP, or one-way captures), and on tunnels without one.

Known weaknesses: clients of one access network have the same round trip; it is evidence of a place, not of a
tunnel.

Karn & Partridge 1987; Veal, Li & Lowenthal 2005.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines.case import Case
from vpnforensics.engines.scores import EngineScores, Pairs, in_order, silent
from vpnforensics.features.round_trips import round_trips, tunnel_round_trips

NAME = "rtt"

_NARROW, _EXCESS = 0.15, 0.08
"""Spread and middle of log(flow / tunnel) of least round trips under H1, in nats: inner stacks add some."""
_BROAD_SHARE, _BROAD = 0.35, 0.8
"""Share and spread of flows whose least round trip has a delayed acknowledgement or a queue in it."""
_POPULATION_NS, _POPULATION_SPREAD = 30e6, 1.2
"""Middle and spread, in nats, of the round trips of Internet paths to access networks."""
_CAP = 1.5
"""Decimal logarithms: clients of one access network are as far away as each other."""


def score(case: Case, only: Pairs | None = None) -> EngineScores:
    """How well the least round trips of flows and tunnels agree; ``n`` counts the flow's samples."""
    flows = case.flows
    outer = [tunnel_round_trips(case.conversations, t) for t in case.tunnels.tunnels]
    outside = np.array([int(trips.least_ns[0]) for trips in outer], np.int64)
    sampled = outside > 0
    silence = {}
    if not sampled.all():
        silence["tunnel without a round trip at ingress"] = int((~sampled).sum())
    if not sampled.any():
        return silent(NAME, silence or {"no tunnels": len(flows)})
    egress = case.egress
    inner = round_trips(flows.packets, egress.start, egress.row, egress.up, egress.ts_ns)
    pairs = in_order(only, len(flows), len(outer))
    pairs = pairs.take(sampled[pairs.tunnel])
    without = inner.count[pairs.flow] == 0
    if without.any():
        silence["flow without a round trip at egress"] = len(np.unique(pairs.flow[without]))
    pairs = pairs.take(~without)
    first, last = inner.span_ns()
    opens, closes = case.tunnels.first_ns[pairs.tunnel], case.tunnels.last_ns[pairs.tunnel]
    pairs = pairs.take((last[pairs.flow] >= opens) & (first[pairs.flow] <= closes))
    inside, outside = inner.least_ns[pairs.flow], outside[pairs.tunnel]
    notes = (
        f"{a / 1e6:.1f} ms inside, {b / 1e6:.1f} ms outside"
        for a, b in zip(inside.tolist(), outside.tolist(), strict=True)
    )
    return EngineScores(
        NAME,
        pairs.flow,
        pairs.tunnel,
        _level(inside, outside),
        inner.count[pairs.flow].astype(np.int32),
        tuple(notes),
        silence,
    )


def _level(inner_ns: Ints, outer_ns: Ints) -> Floats:
    """Log10 ratio of the least round trips' densities, H1 over H2, both over log(inner)."""
    above = np.log(inner_ns / outer_ns)
    narrow = _normal(above, _EXCESS, _NARROW)
    # Delayed acknowledgements and full queues only add: the broad part is for longer ones.
    broad = np.where(above > 0, 2.0, 0.02) * _normal(above, 0.0, _BROAD)
    carried = (1 - _BROAD_SHARE) * narrow + _BROAD_SHARE * broad
    chance = _normal(np.log(inner_ns / _POPULATION_NS), 0.0, _POPULATION_SPREAD)
    return np.clip(np.log10(carried / chance), -_CAP, _CAP)  # of 0.2 ms to 5 s neither underflows


def _normal(x: Floats, mean: float, spread: float) -> Floats:
    return np.asarray(np.exp(-0.5 * ((x - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi)))
