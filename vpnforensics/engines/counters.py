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
and stays busy for a while. So nothing speaks for a pair; what speaks against it adds up.
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

from vpnforensics.engines._field_kernels import counter_totals
from vpnforensics.engines.case import Case
from vpnforensics.engines.conservation import Conservation, conserve_advances
from vpnforensics.engines.grouped import busiest_windows, windows_covered
from vpnforensics.engines.scores import EngineScores, Pairs, every_pair, silent
from vpnforensics.flows._kernels import group_rows

NAME = "counters"

_WINDOW_NS = 250_000_000
_BLOCK_NS = 2_000_000_000
_SLACK_NS = 75_000_000
_LEAST_PACKETS = 10
_MISS = 0.03
_SPARE = 0.05
_REORDERED = 64
_JUMP = 1 << 20
_MOST_WINDOWS = 100_000
_LEAST_COUNTED = 8
_LEAST_SCORE = -6.0
"""Decimal logarithms: a burst that the capture lost whole must not outweigh all else."""


@dataclass(frozen=True, eq=False)
class Advance:
    """How far one direction of a tunnel's counter came, by time."""

    ts_ns: npt.NDArray[np.int64]
    """Of the records, ascending."""
    total: npt.NDArray[np.int64]
    """Packets sent up to and with each record, from the first on."""


def counter_advance(ts_ns: npt.NDArray[np.int64], counter: npt.NDArray[np.int64]) -> Advance:
    """The advance of a counter that may be re-ordered, have gaps, and start anew.

    Parameters
    ----------
    ts_ns, counter : ndarray of int64, shape (n,)
        One direction's records in order of time. A step back of more than a re-ordering, or an absurd leap,
        is a new key with a counter of its own, which counts its first packet only.
    """
    whole = np.array([0, len(counter)], np.int64)
    return Advance(ts_ns, np.asarray(counter_totals(counter, whole, _REORDERED, _JUMP)))


@dataclass(frozen=True, eq=False)
class Advances:
    """Of all tunnels: ``start[2 * t + up]`` is where the records of tunnel t's direction begin."""

    start: npt.NDArray[np.int64]
    ts_ns: npt.NDArray[np.int64]
    total: npt.NDArray[np.int64]

    def of(self, tunnel: int, up: bool) -> Advance | None:
        """One direction of a tunnel; ``None`` without a clear counter."""
        mine = slice(int(self.start[2 * tunnel + up]), int(self.start[2 * tunnel + up + 1]))
        return Advance(self.ts_ns[mine], self.total[mine]) if mine.stop > mine.start else None


def advances(case: Case) -> Advances:
    """The advance of every tunnel and direction that has a clear counter."""
    records, groups = case.tunnels.records, 2 * len(case.tunnels)
    row, start = group_rows(np.where(records.counter >= 0, 2 * records.tunnel + records.up, -1), groups)
    enough = np.diff(start) >= _LEAST_COUNTED
    if not enough.all():
        row = row[np.repeat(enough, np.diff(start))]
        start = np.r_[0, np.cumsum(np.where(enough, np.diff(start), 0))]
    total = counter_totals(records.counter[row], start, _REORDERED, _JUMP)
    return Advances(start, records.ts_ns[row], np.asarray(total))


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
    without = int((np.diff(found.start).reshape(-1, 2).sum(axis=1) == 0).sum())
    if without:
        silence["tunnel without a clear counter"] = without
    small = int((np.diff(case.egress.start) < _LEAST_PACKETS).sum())
    if small:
        silence["flow of fewer than 10 packets"] = small
    flows = len(case.flows)
    pairs = (every_pair(flows, len(case.tunnels)) if only is None else only).in_order()
    total, packets = np.zeros(len(pairs)), np.zeros(len(pairs), np.int64)
    for up in (True, False):
        of, begin, count = _demands(case, up)
        pair, row = _expand(np.searchsorted(of, np.arange(flows + 1)), pairs.flow)
        alive, step = _steps(found, 2 * pairs.tunnel[pair].astype(np.int64) + up, begin[row], count[row])
        total += np.bincount(pair[alive], step, len(total))
        packets += np.bincount(pair[alive], count[row][alive], len(total)).astype(np.int64)
    listed = np.flatnonzero(packets)
    if not len(listed):
        return silent(NAME, silence or {"no flow at the time of a tunnel": flows})
    return EngineScores(
        NAME,
        pairs.flow[listed],
        pairs.tunnel[listed],
        np.clip(total[listed], _LEAST_SCORE, 0.0),
        packets[listed].astype(np.int32),
        tuple(
            f"{n} packets in the busiest windows against the counter's advance"
            for n in packets[listed].tolist()
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
    if not len(found.total) or not len(egress.ts_ns):
        return None
    known = {(t, up): found.of(t, up) for up in (True, False) for t in range(len(case.tunnels))}
    return conserve_advances(
        {key: (a.ts_ns, a.total) for key, a in known.items() if a is not None},
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
    asked = np.flatnonzero(np.diff(egress.start) >= _LEAST_PACKETS)
    flow, window, count = busiest_windows(
        asked, egress.start, egress.up == up, egress.ts_ns, _WINDOW_NS, _BLOCK_NS // _WINDOW_NS
    )
    return flow, window * _WINDOW_NS, count


def _expand(
    start: npt.NDArray[np.int64], flows: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the flows' windows, and the place of their flow among ``flows``."""
    count = start[flows + 1] - start[flows]
    place = np.repeat(np.arange(len(flows)), count)
    row = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count) + start[flows][place]
    return place, row


def _steps(
    found: Advances,
    group: npt.NDArray[np.int64],
    begin: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The windows of whose time a tunnel's direction (``group``) was alive, and their log10 ratios."""
    needed = np.maximum(1, np.floor(wanted * (1 - _SPARE))).astype(np.int64)
    have, suffice, windows = windows_covered(
        group, begin, needed, found.start, found.ts_ns, found.total, _WINDOW_NS, _SLACK_NS, _MOST_WINDOWS
    )
    alive = np.flatnonzero(have >= 0)
    share = (suffice[alive] + 1.0) / (windows[alive] + 2.0)
    enough = have[alive] >= needed[alive]
    return alive, np.where(enough, np.log10((1 - _MISS) / share), np.log10(_MISS / (1 - share)))
