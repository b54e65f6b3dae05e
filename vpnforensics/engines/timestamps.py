"""Timestamps: the clock in the outer packets is the clock in the inner ones.

Theory of operation
-------------------
In a tunnel over TCP the client's stack stamps the outer segments with TSval, and the inner segments of its
own connections too. Under H1 (the tunnel carried the flow, and its client's host opened it) both come from
one clock.

*Global offset* (Linux before 4.10, Android, old macOS, ``tcp_timestamps=2``): outer and inner values lie on
one line TSval/Hz - t. The flow's least delayed value is held against the upper edge of the tunnel's own
values around that time; e is the distance. Under H1 e is a few milliseconds (delay in the server, ticks),
with a heavy tail; under H2 it is anywhere in the age A of the counter: the score is log10(f(e) A). It speaks
for flows of a single packet with a timestamp, and of the wandering clock of old macOS.

*Random offset* (Linux since 4.10, new macOS, FreeBSD): rate and tick phase are left. Both sides need a
minute and twenty packets; the score is that of :mod:`vpnforensics.features.skews` against a population of
skews, near nothing for hosts steered by NTP.

Flows of one device measure one clock: each gets what its device's best-measured flow says.

Assumptions: aligned clocks; the VPN runs on the host that opened the flow. A router's tunnel carries flows
of hosts behind it, whose clocks say nothing of the tunnel. Never speaks against a pair: a flow on another
line may come from another device behind the same tunnel.

Silent on UDP and ESP tunnels (no outer timestamps), on stream relays whose server opens the inner
connection (then the line is the server's, shared by all), on flows without timestamps, without an
alignment.

Kohno, Broido & claffy 2005; Bursztein 2007; Wicherski, Weingarten & Meyer 2013 (lines of hosts behind a
NAT).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.align.strays import begins_ns
from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines.case import Case
from vpnforensics.engines.scores import EngineScores, Pairs, silent
from vpnforensics.engines.upstream import Upstream, field, inner_upstream
from vpnforensics.features._kernels import sender_offsets
from vpnforensics.features.clock_lines import SURE_NS, may_tick
from vpnforensics.features.skews import (
    RATE_REACH_SD,
    is_quartz,
    phase_llr,
    skew_llr,
    skew_population,
    skew_sd_ppm,
)
from vpnforensics.features.tcp_clock import (
    LEAST_NS,
    LEAST_PACKETS,
    LEAST_TICKS,
    RATE_TOLERANCE,
    TICK_RATES_HZ,
    SenderClock,
    sender_clock,
)
from vpnforensics.flows.grouping import runs
from vpnforensics.packets.table import PROTO_TCP

NAME = "timestamps"

_REACH_S = 2.0
"""Pairs farther from a common line than this are not listed."""
_SCALE_S = 0.005
"""Half of carried flows' least delayed timestamps lie this near to their tunnel's line, but for the tick."""
_EDGE_NS = 10_000_000_000
"""A tunnel's line is taken from so long around a flow: clocks wander."""
_SERVER_DELAY_S = 0.0005
"""Error that the server's handling adds to a tick phase."""

_ON_LINE, _BY_RATE = "timestamps on the tunnel's line", "rate and phase of the clock"


@dataclass(frozen=True, eq=False)
class _Side:
    """Senders of one side that send timestamps."""

    packets: Upstream
    tsval: Ints
    hz: Floats
    """0 where it cannot be told."""
    best: Ints
    """Least delayed packet, or the first; -1 without any."""


def score(case: Case, only: Pairs | None = None) -> EngineScores:
    """Scores of flows in tunnels over TCP."""
    over_tcp = np.array([t.transport == "tcp" for t in case.tunnels.tunnels], np.bool_)
    silence = {}
    if (~over_tcp).any():
        silence["tunnel not over TCP: its outer packets carry no timestamps"] = int((~over_tcp).sum())
    if not over_tcp.any() or not len(case.flows):
        return silent(NAME, silence)
    outer = _side(case, case.outer, outer=True)
    inner = _side(case, inner_upstream(case), outer=False)
    known = np.flatnonzero(outer.hz > 0)
    _count(silence, "tunnel over TCP without a usable timestamp clock", int(over_tcp.sum()) - len(known))
    _count(silence, "flow that is not TCP", int(np.sum(case.flows.proto != PROTO_TCP)))
    without = (case.flows.proto == PROTO_TCP) & (inner.best < 0)
    _count(silence, "TCP flow without timestamps of its client side", int(without.sum()))
    # Times count from the capture's begin, whatever tunnels and flows are compared.
    lines = _line_scores(outer, inner, known, begins_ns(case.conversations.packets.ts_ns))
    rates = _rate_scores(
        case, outer, inner, known, set(zip(lines[0].tolist(), lines[1].tolist(), strict=True))
    )
    flow, tunnel, value = (np.concatenate(both) for both in zip(lines, rates, strict=True))
    spoken = np.flatnonzero(value > 0)
    note = [_ON_LINE if i < len(lines[0]) else _BY_RATE for i in spoken.tolist()]
    flow, tunnel, value, note = _pooled(
        flow[spoken], tunnel[spoken], value[spoken], note, case.devices.device, inner
    )
    heard = len(np.unique(flow[inner.best[flow] >= 0]))
    _count(silence, "flow on no tunnel's clock line", int(np.sum(inner.best >= 0)) - heard)
    n = np.diff(inner.packets.start)[flow]
    order = np.lexsort((tunnel, flow))
    order = order if only is None else order[only.among(flow[order], tunnel[order])]
    return EngineScores(
        NAME,
        flow[order].astype(np.int32),
        tunnel[order].astype(np.int32),
        value[order],
        n[order].astype(np.int32),
        tuple(note[i] for i in order.tolist()),
        silence,
    )


def _count(silence: dict[str, int], reason: str, count: int) -> None:
    if count > 0:
        silence[reason] = count


def _side(case: Case, side: Upstream, *, outer: bool) -> _Side:
    packets = (case.conversations if outer else case.flows).packets
    stamped = (packets.has_ts[side.row] == 1) & (packets.tsval[side.row] != 0)
    side = side.keep(stamped)
    tsval = field(packets, side, "tsval")
    origin = int(side.ts_ns.min()) if len(side.ts_ns) else 0
    rates = np.array(TICK_RATES_HZ)
    hz, best = sender_offsets(
        side.start, side.ts_ns - origin, tsval, rates, RATE_TOLERANCE, float(LEAST_TICKS)
    )
    some = np.diff(side.start) > 0
    best = np.where(best >= 0, best, np.where(some, side.start[:-1], -1))
    return _Side(side, tsval, hz, best)


def _line_scores(outer: _Side, inner: _Side, tunnels: Ints, origin: int) -> tuple[Ints, Ints, Floats]:
    """Pairs near a common line, and what their distance is worth."""
    flows = np.flatnonzero(inner.best >= 0)
    none = np.zeros(0, np.int64)
    if not len(flows) or not len(tunnels):
        return none, none, np.zeros(0)
    at_ns, tsval = inner.packets.ts_ns[inner.best[flows]], inner.tsval[inner.best[flows]]
    start, ts_ns = inner.packets.start, inner.packets.ts_ns
    sure = ts_ns[start[flows + 1] - 1] - ts_ns[start[flows]] >= SURE_NS
    found: list[tuple[Ints, Ints, Floats]] = []
    for hz in sorted(set(outer.hz[tunnels].tolist())):
        # Tunnels in order of offset: only those near the flow's are looked at.
        mine = tunnels[outer.hz[tunnels] == hz]
        range_s = 2.0**32 / hz
        level = _offset_s(outer.tsval[outer.best[mine]], outer.packets.ts_ns[outer.best[mine]], hz, origin)
        order = np.argsort(level, kind="stable")
        mine, level = mine[order], level[order]
        fits = np.flatnonzero(may_tick(inner.hz[flows], sure, hz))
        offset = _offset_s(tsval[fits], at_ns[fits], hz, origin)
        # Rates may be off for as long as lies between the two that are compared.
        stands_ns = outer.packets.ts_ns[outer.best[mine]]
        apart_ns = np.maximum(at_ns[fits] - stands_ns.min(), stands_ns.max() - at_ns[fits])
        reach = _REACH_S + RATE_TOLERANCE * apart_ns * 1e-9
        pair, at = runs(
            np.searchsorted(level, offset - reach), np.searchsorted(level, offset + reach, side="right")
        )
        tunnel = mine[at]
        edge = _edges(outer, hz, origin, tunnel, at_ns[fits][pair], offset[pair])
        distance = (offset[pair] - edge + range_s / 2) % range_s - range_s / 2
        near = np.abs(distance) <= _REACH_S
        age = np.maximum(offset[pair], 1.0)
        scale = _SCALE_S + 1 / hz
        value = np.log10(age / (np.pi * scale * (1 + (distance / scale) ** 2)))
        found.append((flows[fits][pair][near], tunnel[near], value[near]))
    flow, tunnel, value = (np.concatenate(part) for part in zip(*found, strict=True))
    return flow, tunnel, value


def _offset_s(tsval: Ints, at_ns: Ints, hz: float, origin_ns: int) -> Floats:
    offset: Floats = (tsval / hz - (at_ns - origin_ns) * 1e-9) % (2.0**32 / hz)
    return offset


def _edges(outer: _Side, hz: float, origin: int, tunnel: Ints, at_ns: Ints, near_s: Floats) -> Floats:
    """Highest offset among each tunnel's packets within ten seconds, or of the packet nearest in time."""
    edge = np.full(len(tunnel), np.inf)
    ts_ns, start = outer.packets.ts_ns, outer.packets.start
    for t in np.unique(tunnel).tolist():
        pairs = np.flatnonzero(tunnel == t)
        mine = slice(int(start[t]), int(start[t + 1]))
        offset = _offset_s(outer.tsval[mine], ts_ns[mine], hz, origin)
        # Maxima of blocks as long as the reach, each with its neighbours: one look-up a pair.
        block = (ts_ns[mine] - origin) // _EDGE_NS
        blocks = np.unique(block)
        top = np.maximum.reduceat(offset, np.searchsorted(block, blocks))
        wanted = (at_ns[pairs] - origin) // _EDGE_NS
        at = np.clip(np.searchsorted(blocks, wanted), 0, len(blocks) - 1)
        before = np.maximum(at - 1, 0)
        closer = np.abs(blocks[before] - wanted) < np.abs(blocks[at] - wanted)
        chosen = np.where(closer, before, at)
        # The flow's own block may hold few packets: of the two around it the nearer edge counts.
        other = np.clip(chosen + np.where(closer, 1, -1), 0, len(blocks) - 1)
        beside = np.abs(blocks[other] - wanted) <= 1
        first, second = top[chosen], np.where(beside, top[other], top[chosen])
        nearer = np.abs(second - near_s[pairs]) < np.abs(first - near_s[pairs])
        edge[pairs] = np.where(nearer, second, first)
    return edge


def _rate_scores(
    case: Case, outer: _Side, inner: _Side, tunnels: Ints, on_line: set[tuple[int, int]]
) -> tuple[Ints, Ints, Floats]:
    """Pairs of long clocks on no common line whose rates agree within their errors."""
    clocks_in, clocks_out = _long_clocks(inner), _long_clocks(outer, set(tunnels.tolist()))
    flows, others = sorted(clocks_in), sorted(clocks_out)
    none = np.zeros(0, np.int64)
    if not flows or not others:
        return none, none, np.zeros(0)
    drift = case.alignment.drift_interval_ppm
    drift_sd = (drift[1] - drift[0]) / 4
    skew_in = np.array([clocks_in[f].skew_ppm for f in flows], np.float64)
    skew_out = np.array([clocks_out[t].skew_ppm for t in others], np.float64)
    sd_in = np.array([np.hypot(skew_sd_ppm(clocks_in[f]), drift_sd) for f in flows], np.float64)
    sd_out = np.array([skew_sd_ppm(clocks_out[t]) for t in others], np.float64)
    order = np.argsort(skew_out, kind="stable")
    widest = float(sd_out.max())
    low, high = case.alignment.offset_interval_ns
    extra = (high - low) * 1e-9 / 4 + _SERVER_DELAY_S
    flow, tunnel, value = [], [], []
    for i, f in enumerate(flows):
        reach = RATE_REACH_SD * float(np.hypot(sd_in[i], widest))
        begin = np.searchsorted(skew_out[order], skew_in[i] - reach)
        end = np.searchsorted(skew_out[order], skew_in[i] + reach, side="right")
        near = order[begin:end]
        llr = skew_llr(skew_in[i : i + 1], sd_in[i : i + 1], skew_out[near], sd_out[near], skew_population())
        for t, rate in zip(near.tolist(), llr.tolist(), strict=True):
            one, two = clocks_in[f], clocks_out[others[t]]
            if one.hz == two.hz and (f, others[t]) not in on_line:
                flow.append(f)
                tunnel.append(others[t])
                value.append(rate + phase_llr(one, two, extra))
    return np.array(flow, np.int64), np.array(tunnel, np.int64), np.array(value, np.float64)


def _long_clocks(side: _Side, only: set[int] | None = None) -> dict[int, SenderClock]:
    """Clocks with a line, of the senders that may have one."""
    start, ts_ns = side.packets.start, side.packets.ts_ns
    clocks = {}
    for k in np.flatnonzero(np.diff(start) >= LEAST_PACKETS).tolist():
        if ts_ns[start[k + 1] - 1] - ts_ns[start[k]] < LEAST_NS or (only is not None and k not in only):
            continue
        clock = sender_clock(ts_ns[start[k] : start[k + 1]], side.tsval[start[k] : start[k + 1]])
        if is_quartz(clock):
            clocks[k] = clock
    return clocks


def _pooled(
    flow: Ints, tunnel: Ints, value: Floats, note: list[str], devices: npt.NDArray[np.integer], inner: _Side
) -> tuple[Ints, Ints, Floats, list[str]]:
    """Give every flow of a device what its flow with most timestamps says of each tunnel."""
    weight = np.diff(inner.packets.start)
    best: dict[tuple[int, int], int] = {}
    for i in range(len(flow)):
        key = (int(devices[flow[i]]), int(tunnel[i]))
        if key[0] >= 0 and (key not in best or weight[flow[i]] > weight[flow[best[key]]]):
            best[key] = i
    rows = [i for i in range(len(flow)) if devices[flow[i]] < 0]
    flows, tunnels = flow[rows].tolist(), tunnel[rows].tolist()
    values, notes = value[rows].tolist(), [note[i] for i in rows]
    for (device, t), i in best.items():
        for member in np.flatnonzero(devices == device).tolist():
            flows.append(member)
            tunnels.append(t)
            values.append(float(value[i]))
            notes.append(note[i] if member == flow[i] else f"{note[i]}, by another flow of its device")
    return np.array(flows, np.int64), np.array(tunnels, np.int64), np.array(values, np.float64), notes
