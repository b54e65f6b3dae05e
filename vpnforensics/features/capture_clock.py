"""Whether the clock of a capture was set while it ran, from the timestamps of all its senders.

A sender's TSval against the capture's time leaps when the sender's clock leaps, and when the capture's does.
Hosts do not leap together: where the timestamps of (nearly) all senders leap by one amount between the same
two packets of the file, it was the capture's clock. Packets are taken in order of the file, which is that of
true time whatever was done to the clock.

Silent where fewer than two hosts were sending timestamps before and after. A step smaller than the queues
that packets stand in is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vpnforensics.features.tcp_clock import LEAST_TICKS, RATE_TOLERANCE, TICK_RATES_HZ
from vpnforensics.features.wraparound import signed_difference
from vpnforensics.flows.assemble import FlowTable, assemble_flows
from vpnforensics.flows.grouping import group_rows
from vpnforensics.packets.steps import ahead_ns
from vpnforensics.packets.table import PacketTable

Ints = npt.NDArray[np.int64]

_LEAST_NS = 250_000_000
"""Smaller leaps are queues."""
_RATE_ERROR = 0.05
"""Of the time between two packets of a sender: rates may be off by as much."""
_AGREE = 0.8
_LEAST_SENDERS, _LEAST_HOSTS = 3, 2
_LEAST_PACKETS = 5
_USUAL_NS = 1_000_000_000
"""Longer pauses of a sender may hide a step, and say nothing of its tick rate."""
_CANDIDATES = 16
_SHORTEST = 0.5


@dataclass(frozen=True, slots=True)
class CaptureStep:
    """The capture's clock was set."""

    row: int
    """First packet after it, row of the packet table."""
    at_ns: int
    """When that came, on the clock as it was set."""
    size_ns: int
    """By how much: forward is positive."""
    senders: int
    """That leap at once."""


def on_one_clock(packets: PacketTable, steps: Sequence[CaptureStep]) -> PacketTable:
    """The capture as if its clock had not been set: all times are on that of its longest part."""
    ahead = ahead_ns(len(packets), [s.row for s in steps], [s.size_ns for s in steps])
    return replace(packets, ts_ns=packets.ts_ns - ahead) if steps else packets


def capture_steps(packets: PacketTable) -> tuple[CaptureStep, ...]:
    """Settings of the capture's clock, in order of the file.

    Parameters
    ----------
    packets : PacketTable
    """
    gap_ns = np.diff(packets.ts_ns, prepend=packets.ts_ns[:1])
    if not (np.abs(gap_ns) > _LEAST_NS // 2).any():
        return ()
    # An idle time-out would end all conversations at a step of minutes.
    flows = assemble_flows(packets, idle_tcp_s=np.inf, idle_other_s=np.inf)
    pairs, ts_ns = _pairs(flows), packets.ts_ns
    leap_ns = pairs.leap_ns.copy()
    error_ns = _LEAST_NS // 2 + np.rint(_RATE_ERROR * np.abs(pairs.lasted_ns)).astype(np.int64)
    steps: list[CaptureStep] = []
    leaping = np.flatnonzero(np.abs(leap_ns) > 2 * error_ns)
    if len(leaping) < _LEAST_SENDERS:
        return ()
    # Where in each pair the file leaps most that way: back where senders seem to leap ahead.
    places, votes = np.unique([_place(gap_ns, pairs, i) for i in leaping.tolist()], return_counts=True)
    for row in places[np.argsort(-votes, kind="stable")][:_CANDIDATES].tolist():
        across = np.flatnonzero((pairs.before < row) & (pairs.after >= row))
        # Senders that were silent for long say little; those that were not say by how much.
        near = across[error_ns[across] <= np.quantile(error_ns[across], _SHORTEST)]
        size_ns = -int(np.median(leap_ns[near]))
        telling = across[2 * error_ns[across] <= abs(size_ns)]
        agree = telling[np.abs(leap_ns[telling] + size_ns) <= error_ns[telling]]
        seen_ns = int(gap_ns[row])
        shows = seen_ns <= size_ns // 2 if size_ns < 0 else seen_ns >= size_ns - _LEAST_NS
        hosts = len(np.unique(packets.src[pairs.before[agree]]))
        if shows and len(agree) >= max(_LEAST_SENDERS, _AGREE * len(telling)) and hosts >= _LEAST_HOSTS:
            steps.append(CaptureStep(row, int(ts_ns[row]), size_ns, len(agree)))
            leap_ns[across] += size_ns
    return tuple(sorted(steps, key=lambda step: step.row))


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Packets with timestamps that follow each other from one sender."""

    before: Ints
    after: Ints
    """Rows of the packet table."""
    leap_ns: Ints
    """By how much more the sender's clock went on than the capture's."""
    lasted_ns: Ints
    """On the sender's clock."""


def _pairs(flows: FlowTable) -> _Pairs:
    packets = flows.packets
    stamped = (packets.has_ts == 1) & (packets.tsval != 0)
    sender = np.where(stamped, 2 * flows.flow.astype(np.int64) + ~flows.up, -1)
    row, start = group_rows(sender, 2 * len(flows))
    parts: list[tuple[Ints, Ints, Ints, Ints]] = []
    for s in np.flatnonzero(np.diff(start) >= _LEAST_PACKETS).tolist():
        mine = row[start[s] : start[s + 1]].astype(np.int64)
        t_ns, tsval = packets.ts_ns[mine] - packets.ts_ns[mine[0]], packets.tsval[mine].astype(np.int64)
        ticks, passed_ns = signed_difference(tsval[1:], tsval[:-1], 32), np.diff(t_ns)
        usual = (passed_ns > 0) & (passed_ns < _USUAL_NS)
        hz = _tick_rate(int(ticks[usual].sum()), int(passed_ns[usual].sum()))
        if hz:
            lasted = np.rint(ticks * (1e9 / hz)).astype(np.int64)
            parts.append((mine[:-1], mine[1:], lasted - passed_ns, lasted))
    none = np.zeros(0, np.int64)
    return (
        _Pairs(*(np.concatenate([none, *column]) for column in zip(*parts, strict=True)))
        if parts
        else _Pairs(none, none, none, none)
    )


def _tick_rate(ticks: int, passed_ns: int) -> float:
    """The known tick rate of so many ticks in that time; 0 where none is near."""
    if ticks < LEAST_TICKS or passed_ns <= 0:
        return 0.0
    raw = ticks / passed_ns * 1e9
    nearest = min(TICK_RATES_HZ, key=lambda hz: abs(raw / hz - 1))
    return nearest if abs(raw / nearest - 1) <= RATE_TOLERANCE else 0.0


def _place(gap_ns: Ints, pairs: _Pairs, i: int) -> int:
    """Row at which the file leaps against the sender, between the two packets of a pair."""
    first, last = int(pairs.before[i]) + 1, int(pairs.after[i]) + 1
    between = gap_ns[first:last]
    return first + int(np.argmin(between) if pairs.leap_ns[i] > 0 else np.argmax(between))
