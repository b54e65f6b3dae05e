"""Flows whose timestamps lie on one line: connections of a host with one counter.

Theory of operation
-------------------
Where a stack has one timestamp counter for all connections, or one for each pair of addresses, TSval/Hz -
t of its flows is one number but for delays and for the slow slope of the rate error; among hosts it is
spread over the counter's range, 50 days at 1000 Hz. Flows are sorted by this offset and cut where
neighbours are a second apart; each cluster is then resolved into lines (offset against time, by a vote
over the slopes of pairs), or taken whole as one clock whose rate wanders (old macOS) if the offset moves
smoothly. What remains stands alone.

How much a common line is worth: a chance host falls within the line's width w as often as w goes into the
age of the counter: log10(age / w), the age at most the range. The density of boot times is taken to fall
off with age.

Bellovin's strings for time stamps: Bursztein 2007, *TsCounter*; Wicherski, Weingarten & Meyer 2013.

Fails where two hosts were booted within a second of each other and their lines cannot be told apart in the
time of the capture: such clusters are left unresolved. A flow of few packets through a long queue falls
off its line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.features._kernels import sender_offsets
from vpnforensics.features.clock_fit import theil_sen
from vpnforensics.features.senders import Senders
from vpnforensics.features.tcp_clock import LEAST_TICKS, RATE_TOLERANCE, TICK_RATES_HZ
from vpnforensics.features.wraparound import signed_difference
from vpnforensics.scratch import beside, rows_where

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CLUSTER_GAP_S = 1.0
SURE_NS = 10_000_000_000
NEARBY = 0.3
TOLERANCE_S = 0.025
"""A flow lies on a line within this, besides a tick: its least delayed packet may still have queued."""
_STEEPEST = 0.05
_TRIALS = 200
_MOST_LINES = 8
_MOST_PAIRED = 400
_WANDER = 0.005
_CLOSE_S = 20.0
_SMOOTH_SHARE = 0.95
_SINGLE, _EXPLAINED, _LEAST_ON_LINE = 0.9, 0.6, 3


@dataclass(frozen=True, eq=False)
class FlowOffsets:
    """The least delayed timestamp of each sender that has one."""

    sender: Ints
    hz: Floats
    """0 where too few ticks passed to tell."""
    sure: npt.NDArray[np.bool_]
    """Whether the time was long enough to tell neighbouring rates apart."""
    at_ns: Ints
    tsval: Ints

    def offset_s(self, hz: float, at: npt.NDArray[np.intp], origin_ns: int) -> Floats:
        """TSval/Hz - t, modulo the counter's range."""
        offset: Floats = (self.tsval[at] / hz - (self.at_ns[at] - origin_ns) * 1e-9) % (2.0**32 / hz)
        return offset

    def of(self, senders: Ints) -> FlowOffsets:
        """Those of some senders, as far as they have one."""
        first, stop = (np.searchsorted(self.sender, senders, side=side) for side in ("left", "right"))
        at = first[first < stop]
        return FlowOffsets(self.sender[at], self.hz[at], self.sure[at], self.at_ns[at], self.tsval[at])


@dataclass(frozen=True, eq=False)
class ClockLineGroup:
    """Senders on one line."""

    hz: float
    sender: Ints
    residual_s: Floats
    """Distance of each sender from the line."""
    slope: float
    width_s: float
    llr: float
    """log10 likelihood ratio that a sender on the line shares its clock, against chance."""
    origin_ns: int
    offset_s: float
    """Of the line at ``origin_ns``."""


@dataclass(frozen=True, eq=False)
class ClockLines:
    """Lines, and senders in clusters that could not be resolved."""

    lines: tuple[ClockLineGroup, ...]
    unresolved: Ints
    offsets: FlowOffsets


def flow_offsets(senders: Senders, which: Ints) -> FlowOffsets:
    """Tick rate and least delayed timestamp of the senders ``which``; values of 0 are left out."""
    packets = senders.flows.packets
    wanted = np.zeros(len(senders), np.bool_)
    wanted[which] = True
    scratch, of_sender = beside(senders.row), senders.row
    of_wanted = scratch.repeated(wanted, senders.start)

    def usable(rows: slice) -> npt.NDArray[np.bool_]:
        row = of_sender[rows]
        stamped = (packets.has_ts[row] == 1) & (packets.tsval[row] != 0)
        return np.asarray(of_wanted[rows] & stamped)

    place = rows_where(len(of_sender), usable)
    counts = np.diff(np.searchsorted(place, senders.start))
    present = np.flatnonzero(counts)
    start = np.r_[0, np.cumsum(counts[present])].astype(np.int64)
    row = scratch.taken(of_sender, place)
    t = scratch.taken(packets.ts_ns, row)
    tsval = scratch.filled(len(row), np.int64, lambda rows: packets.tsval[row[rows]])
    origin = int(t[0]) if len(t) else 0
    since = scratch.filled(len(row), np.int64, lambda rows: t[rows] - origin)
    hz, best = sender_offsets(
        start, since, tsval, np.array(TICK_RATES_HZ), RATE_TOLERANCE, float(LEAST_TICKS)
    )
    best = np.where(best >= 0, best, start[:-1])
    sure = t[start[1:] - 1] - t[start[:-1]] >= SURE_NS
    return FlowOffsets(present.astype(np.int64), hz, sure, t[best], tsval[best])


def may_tick(found_hz: Floats, sure: npt.NDArray[np.bool_], hz: float) -> npt.NDArray[np.bool_]:
    """Whether a sender may tick at ``hz``: found to, not found at all, or found nearby in a short time."""
    nearby = ~sure & (np.abs(found_hz / hz - 1) <= NEARBY)
    may: npt.NDArray[np.bool_] = (found_hz == hz) | (found_hz == 0) | nearby
    return may


def clock_lines(offsets: FlowOffsets) -> ClockLines:
    """Group senders by clock line.

    Parameters
    ----------
    offsets : FlowOffsets

    Returns
    -------
    ClockLines
    """
    lines: list[ClockLineGroup] = []
    unresolved: list[Ints] = []
    origin = int(offsets.at_ns.min()) if len(offsets.sender) else 0
    for hz in sorted({h for h in offsets.hz.tolist() if h > 0}):
        # Senders of few ticks may be on a line of any rate; alone they make none.
        mine = np.flatnonzero(may_tick(offsets.hz, offsets.sure, hz))
        offset = offsets.offset_s(hz, mine, origin)
        order = np.argsort(offset, kind="stable")
        at_s = (offsets.at_ns[mine[order]] - origin).astype(np.float64) * 1e-9
        allowed = CLUSTER_GAP_S + _STEEPEST * np.abs(np.diff(at_s))
        cuts = np.flatnonzero(np.diff(offset[order]) > allowed) + 1
        for cluster in np.split(order, cuts):
            if len(cluster) < 2 or not (offsets.hz[mine[cluster]] == hz).any():
                continue
            t = (offsets.at_ns[mine[cluster]] - origin).astype(np.float64) * 1e-9
            found, left = _resolve(t, offset[cluster], 1 / hz)
            for members, slope, level, residual in found:
                if not (offsets.hz[mine[cluster[members]]] == hz).any():
                    continue
                width = 2 * max(TOLERANCE_S + 1 / hz, float(np.ptp(residual)))
                age = max(level % (2.0**32 / hz), width)
                lines.append(
                    ClockLineGroup(
                        hz,
                        offsets.sender[mine[cluster[members]]],
                        residual,
                        slope,
                        width,
                        float(np.log10(age / width)),
                        origin,
                        level,
                    )
                )
            if len(left) > 1:
                unresolved.append(offsets.sender[mine[cluster[left]]])
    lines = _without_doubles(lines, offsets)
    apart = np.unique(np.concatenate(unresolved)) if unresolved else np.zeros(0, np.int64)
    return ClockLines(tuple(lines), apart, offsets)


def _without_doubles(lines: list[ClockLineGroup], offsets: FlowOffsets) -> list[ClockLineGroup]:
    """Lines less those at a neighbouring rate, made of short flows that a surer line holds already."""
    sure = set(zip(offsets.sender[offsets.sure].tolist(), offsets.hz[offsets.sure].tolist(), strict=True))
    firm = [any((s, line.hz) in sure for s in line.sender.tolist()) for line in lines]
    held = {s for line, is_firm in zip(lines, firm, strict=True) if is_firm for s in line.sender.tolist()}
    return [
        line
        for line, is_firm in zip(lines, firm, strict=True)
        if is_firm or not held.issuperset(line.sender.tolist())
    ]


def _resolve(
    t: Floats, offset: Floats, tick_s: float
) -> tuple[list[tuple[npt.NDArray[np.intp], float, float, Floats]], npt.NDArray[np.intp]]:
    """Lines of one cluster as (members, slope, level at 0, residuals), and who is on none."""
    tolerance = TOLERANCE_S + tick_s
    left = np.arange(len(t))
    found: list[tuple[npt.NDArray[np.intp], float, float, Floats]] = []
    while len(left) >= 2 and len(found) < _MOST_LINES:
        slope, level = _vote(t[left], offset[left], tolerance)
        residual = offset[left] - level - slope * t[left]
        on = np.abs(residual) <= tolerance
        if on.sum() < 2:
            break
        found.append((left[on], slope, level, residual[on]))
        left = left[~on]
    explained = sum(len(members) for members, *_ in found)
    if found and len(found[0][0]) >= _SINGLE * len(t):
        return found[:1], left
    order = np.argsort(t, kind="stable")
    slope = 0.0
    if len(t) <= _MOST_PAIRED:
        # A microsecond apart, so that no slope is infinite.
        median = theil_sen(t[order] + 1e-6 * np.arange(len(t)), offset[order])[0]
        slope = float(np.clip(median, -_STEEPEST, _STEEPEST))
    residual = offset - slope * t
    steps, gaps = np.diff(residual[order]), np.diff(t[order])
    close = gaps < _CLOSE_S
    smooth = np.abs(steps[close]) <= tolerance + _WANDER * gaps[close]
    if close.any() and np.mean(smooth) >= _SMOOTH_SHARE:
        level = float(np.median(residual))
        return [(np.arange(len(t)), slope, level, residual - level)], np.zeros(0, np.intp)
    # What queued longer than the tolerance falls off its line; the line stands without it.
    found = [line for line in found if len(line[0]) >= _LEAST_ON_LINE]
    if found and explained >= _EXPLAINED * len(t):
        on = np.concatenate([members for members, *_ in found])
        return found, np.setdiff1d(np.arange(len(t)), on)
    return [], np.arange(len(t))


def _vote(t: Floats, offset: Floats, tolerance: float) -> tuple[float, float]:
    """The line with most points within the tolerance, by a vote over lines through pairs."""
    n = len(t)
    order = np.argsort(t, kind="stable")
    best, line = -1.0, (0.0, float(np.median(offset)))
    strides = [s for s in (n // 2, n // 3, n // 5, 3, 1) if 0 < s < n]
    pairs = [(order[i], order[i + s]) for s in dict.fromkeys(strides) for i in range(n - s)]
    step = max(1, len(pairs) // _TRIALS)
    for a, b in pairs[::step]:
        apart = t[b] - t[a]
        for slope in (0.0, float((offset[b] - offset[a]) / apart) if apart > 1.0 else 0.0):
            if abs(slope) > _STEEPEST:
                continue
            level = float(offset[b] - slope * t[b])
            distance = np.abs(offset - level - slope * t) / tolerance
            vote = float(np.maximum(0.0, 1 - distance**2).sum())
            if vote > best:
                best, line = vote, (slope, level)
    return line


def on_line(line: ClockLineGroup, at_ns: Ints, tsval: Ints) -> Floats:
    """Distance in seconds of timestamps from a line, modulo the counter's range."""
    predicted_s = line.offset_s + (1 + line.slope) * ((at_ns - line.origin_ns) * 1e-9)
    predicted = np.rint(predicted_s * line.hz).astype(np.int64)
    distance: Floats = signed_difference(tsval, predicted, 32) / line.hz
    return distance
