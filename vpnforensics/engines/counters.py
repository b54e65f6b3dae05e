"""Conservation: a tunnel's clear counter advances by one for every inner packet, seen or not.

Theory of operation
-------------------
WireGuard, OpenVPN with an AEAD cipher, ESP, DTLS, nebula and TLS 1.2 with GCM number their packets in clear.
The counter's advance over a stretch of time is the number of packets the tunnel carried in it, also of those
the ingress capture lost. Two things follow:

*For a pair.* A flow cannot be in a tunnel that carried fewer packets than the flow has in some window
(:func:`score`). Of each block of 2 s the flow's busiest window of 0.25 s is asked for; the step is ``log((1
- miss) / F)`` where the tunnel's advance suffices and ``log(miss / (1 - F))`` where not, F the share of the
tunnel's own windows that would suffice. That is an upper bound only: a busy tunnel has room for every flow,
and stays busy for a while, so what speaks for a pair is capped at a hint and what speaks against it adds up.
It does not go by lengths: padding does not hide it, nor does a lossy ingress capture.

*For the case.* What all tunnels carried must come out at egress (:func:`conserve`). Advance against records
tells what the ingress capture lost; advance against egress packets what the egress capture lost; and as
every tunnel advances in its own rhythm, least squares over windows tell whose packets are missing, before
any flow is linked.

Assumptions: one count a packet; keep-alives are few; clocks aligned to better than a window.

Silent on tunnels without a clear counter, on flows of fewer than 10 packets, and without alignment.

Known weaknesses: fragments at egress count twice; packets to the VPN server itself never come out; the
server's own traffic comes out without a tunnel (it shows as more egress than advance).

References: RFC 4303, 2.2 (ESP); https://www.wireguard.com/protocol/; RFC 5288, 3 (the explicit nonce of GCM).
Counting in and out is the packet counting attack of Serjantov & Sewell 2003 ("Passive attack analysis for
connection-based anonymity systems"), on counters instead of connections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import Case
from vpnforensics.engines.conservation import Conservation, conserve_advances
from vpnforensics.engines.scores import EngineScores, Pairs, every_pair, silent

NAME = "counters"
CITATION = "counter conservation; packet counting: Serjantov & Sewell 2003; RFC 4303, RFC 5288"

_WINDOW_NS = 250_000_000
_BLOCK_NS = 2_000_000_000
_SLACK_NS = 75_000_000
_LEAST_PACKETS = 10
_MISS = 0.03
_SPARE = 0.05
_REORDERED = 64
_JUMP = 1 << 20
_AROUND = 5
_MOST_WINDOWS = 100_000
_LEAST_COUNTED = 8
_LEAST_SCORE, _MOST_SCORE = -6.0, 0.5


@dataclass(frozen=True, eq=False)
class Advance:
    """How far one direction of a tunnel's counter came, by time."""

    ts_ns: npt.NDArray[np.int64]
    """Of the records, ascending."""
    total: npt.NDArray[np.int64]
    """Packets sent up to and with each record, from the first on."""

    def between(
        self, first_ns: npt.NDArray[np.int64], last_ns: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Advance in windows [first, last)."""
        padded = np.r_[0, self.total]
        low = np.searchsorted(self.ts_ns, first_ns, side="left")
        high = np.searchsorted(self.ts_ns, last_ns, side="left")
        return np.asarray(padded[high] - padded[low])


def counter_advance(ts_ns: npt.NDArray[np.int64], counter: npt.NDArray[np.int64]) -> Advance:
    """The advance of a counter that may be re-ordered, have gaps, and start anew.

    Parameters
    ----------
    ts_ns, counter : ndarray of int64, shape (n,)
        One direction's records in order of time. A step back of more than a re-ordering, or an absurd leap,
        is a new key with a counter of its own, which counts its first packet only.
    """
    if not len(counter):
        return Advance(ts_ns, np.zeros(0, np.int64))
    counter = _without_strays(counter)
    step = np.diff(counter)
    anew = np.flatnonzero((step < -_REORDERED) | (step > _JUMP)) + 1
    # Lift each key's counts above those before it, so that one running maximum serves all.
    lift = np.zeros(len(counter), np.int64)
    lift[0] = 1 - counter[0]
    starts = np.r_[0, anew]
    highest = np.maximum.reduceat(counter, starts) - counter[starts] + 1
    lift[anew] = np.cumsum(highest)[:-1] + 1 - counter[anew]
    of_key = np.repeat(lift[starts], np.diff(np.r_[starts, len(counter)]))
    total = np.maximum.accumulate(np.maximum(counter + of_key, 0))
    return Advance(ts_ns, total)


def _without_strays(counter: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts far off those around them, as of the old key while the new one is in use, put among them."""
    if len(counter) < _AROUND:
        return counter
    around = np.lib.stride_tricks.sliding_window_view(np.pad(counter, _AROUND // 2, mode="edge"), _AROUND)
    usual = np.partition(around, _AROUND // 2, axis=1)[:, _AROUND // 2]
    return np.where(np.abs(counter - usual) > _REORDERED, usual, counter)


def advances(case: Case) -> dict[tuple[int, bool], Advance]:
    """The advance of every tunnel and direction (True: up) that has a clear counter."""
    records = case.tunnels.records
    counted = np.flatnonzero(records.counter >= 0)
    group = records.tunnel[counted].astype(np.int64) * 2 + records.up[counted]
    order = counted[np.argsort(group, kind="stable")]
    bounds = np.searchsorted(np.sort(group), np.arange(2 * len(case.tunnels) + 1))
    found: dict[tuple[int, bool], Advance] = {}
    for g in range(2 * len(case.tunnels)):
        mine = order[bounds[g] : bounds[g + 1]]
        if len(mine) >= _LEAST_COUNTED:
            found[g >> 1, bool(g & 1)] = counter_advance(records.ts_ns[mine], records.counter[mine])
    return found


def score(case: Case, only: Pairs | None = None) -> EngineScores:
    """How well each tunnel's advance covers each flow's packets.

    Parameters
    ----------
    case : Case
    only : Pairs, optional
        The pairs to compare; without, all.

    Returns
    -------
    EngineScores
        Pairs of flows of 10 or more packets and tunnels with a counter, alive at some time of the flow.
    """
    if not case.alignment.usable:
        return silent(NAME, {"the two clocks cannot be aligned": len(case.flows)})
    found = advances(case)
    silence: dict[str, int] = {}
    without = sum((t, True) not in found and (t, False) not in found for t in range(len(case.tunnels)))
    if without:
        silence["tunnel without a clear counter"] = without
    small = int((np.diff(case.egress.start) < _LEAST_PACKETS).sum())
    if small:
        silence["flow of fewer than 10 packets"] = small
    flows = len(case.flows)
    parts: list[tuple[npt.NDArray[np.int64], int, npt.NDArray[np.float64], npt.NDArray[np.int64]]] = []
    demands = {up: _demands(case, up) for up in (True, False)}
    starts = {up: np.searchsorted(demands[up][0], np.arange(flows + 1)) for up in demands}
    wanted = (every_pair(flows, len(case.tunnels)) if only is None else only).by_tunnel(len(case.tunnels))
    for t in range(len(case.tunnels)):
        total, packets = np.zeros(len(wanted[t])), np.zeros(len(wanted[t]), np.int64)
        for up in (True, False):
            if (t, up) not in found:
                continue
            place, row = _expand(starts[up], wanted[t])
            _, begin, count = demands[up]
            step, alive = _steps(found[t, up], begin[row], count[row])
            total += np.bincount(place[alive], step, len(total))
            packets += np.bincount(place[alive], count[row][alive], len(total)).astype(np.int64)
        listed = np.flatnonzero(packets)
        parts.append(
            (wanted[t][listed], t, np.clip(total[listed], _LEAST_SCORE, _MOST_SCORE), packets[listed])
        )
    if not any(len(p[0]) for p in parts):
        return silent(NAME, silence or {"no flow at the time of a tunnel": flows})
    flow_column = np.concatenate([p[0] for p in parts]).astype(np.int32)
    packets_column = np.concatenate([p[3] for p in parts]).astype(np.int32)
    return EngineScores(
        NAME,
        flow_column,
        np.concatenate([np.full(len(p[0]), p[1], np.int32) for p in parts]),
        np.concatenate([p[2] for p in parts]),
        packets_column,
        tuple(
            f"{n} packets in the busiest windows against the counter's advance"
            for n in packets_column.tolist()
        ),
        silence,
    )


def conserve(case: Case, *, window_s: float = 1.0) -> Conservation | None:
    """What went in against what came out, for the whole case, by tunnel and direction.

    Needs no links. ``None`` without alignment, without counters, or where the captures do not overlap.
    """
    if not case.alignment.usable:
        return None
    found = advances(case)
    records = case.tunnels.records
    egress = case.egress
    if not found or not len(egress.ts_ns):
        return None
    return conserve_advances(
        {key: (a.ts_ns, a.total) for key, a in found.items()},
        records.ts_ns,
        egress.ts_ns,
        egress.up,
        tuple(t.client for t in case.tunnels.tunnels),
        window_ns=int(window_s * 1e9),
    )


def _demands(
    case: Case, up: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Flow, begin and packets of the busiest window of each block of each flow, one direction."""
    egress = case.egress
    sizes = np.diff(egress.start)
    flow = np.repeat(np.arange(len(sizes)), sizes)
    used = (egress.up == up) & (sizes[flow] >= _LEAST_PACKETS)
    flow, window = flow[used], egress.ts_ns[used] // _WINDOW_NS
    if not len(flow):
        none = np.zeros(0, np.int64)
        return none, none, none
    # A flow's packets stand together, in the order of the file, which need not be that of time.
    if ((np.diff(window) < 0) & (np.diff(flow) == 0)).any():
        order = np.lexsort((window, flow))
        flow, window = flow[order], window[order]
    begins = np.flatnonzero(np.r_[True, (np.diff(flow) != 0) | (np.diff(window) != 0)])
    counts = np.diff(np.r_[begins, len(flow)])
    flow, window = flow[begins], window[begins]
    block = window // (_BLOCK_NS // _WINDOW_NS)
    order = np.lexsort((-counts, block, flow))
    first = np.r_[True, (np.diff(flow[order]) != 0) | (np.diff(block[order]) != 0)]
    busiest = order[first]
    return flow[busiest], window[busiest] * _WINDOW_NS, counts[busiest].astype(np.int64)


def _expand(
    start: npt.NDArray[np.int64], flows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the flows' windows, and the place of their flow among ``flows``."""
    count = start[flows + 1] - start[flows]
    place = np.repeat(np.arange(len(flows)), count)
    row = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count) + start[flows][place]
    return place, row


def _steps(
    advance: Advance, begin: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Log10 ratio of each window of which the tunnel was alive, and which those are."""
    first, last = int(advance.ts_ns[0]), int(advance.ts_ns[-1])
    alive = (begin >= first) & (begin + _WINDOW_NS <= last)
    begin, wanted = begin[alive], wanted[alive]
    have = advance.between(begin - _SLACK_NS, begin + _WINDOW_NS + _SLACK_NS)
    # Time stamps of a capture may be anything: its span must not size the work.
    every_ns = max(_WINDOW_NS, (last - first) // _MOST_WINDOWS)
    grid = np.arange(first, max(last - _WINDOW_NS, first + 1), every_ns, dtype=np.int64)
    usual = np.sort(advance.between(grid - _SLACK_NS, grid + _WINDOW_NS + _SLACK_NS))
    needed = np.maximum(1, np.floor(wanted * (1 - _SPARE))).astype(np.int64)
    suffices = len(usual) - np.searchsorted(usual, needed, side="left")
    share = (suffices + 1.0) / (len(usual) + 2.0)
    step = np.where(have >= needed, np.log10((1 - _MISS) / share), np.log10(_MISS / (1 - share)))
    return step, alive
