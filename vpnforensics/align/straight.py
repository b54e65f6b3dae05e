"""A capture whose clock was set while it ran, put straight.

That a clock was set shows where egress packets leave one line for another (:class:`Break`); which clock it
was, and before which packet, shows in the captures themselves: a clock set back makes a packet come before
the one before it, one set forward leaves a pause at least as long. A file keeps the order in which packets
came, so times can be put straight by adding up the steps from there on. The clock of the longest part is
kept, the others are made to go on with it. What comes after need not know of steps: flows have their true
length, delays across a step are delays, and nothing has to be sorted by a time that went back.

Where a file was sorted by time after the clock had been set back, its order is not the true one any more:
then the place is known only to the length of the step, and that is said (:attr:`ClockStep.placed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment, Break, ClockPart, ClockStep, Role, Status
from vpnforensics.align.settle import Settled, settle
from vpnforensics.align.stretches import LEAST_STEP_NS
from vpnforensics.flows.assemble import FlowTable, assemble_flows
from vpnforensics.packets.steps import ahead_ns
from vpnforensics.packets.table import PacketTable
from vpnforensics.scratch import rows_where
from vpnforensics.tunnels.find import TunnelSet

_SLACK_NS = 5_000_000
"""By so much a size may be off, and packets be out of order, beside a step."""
_ROUNDS = 3
"""A part that is found late may have a step of its own."""
_ROWS_BESIDE, _LARGE_NS = (0, 50, 500), 1_000_000_000
"""Jitter blurs where a line ends: leaps are looked for also so many rows further, pauses if so long."""
_ONE_PLACE = 5  # rows
_BESIDE, _LOOKED_AT = 5, 1_000
_BACK_SHARE = 0.5
"""The first packet after a clock was set back may come so late that this share of the step is left to see."""


@dataclass(frozen=True, eq=False)
class Straight:
    """Both sides with their times put straight, and what was settled on those."""

    conversations: FlowTable
    flows: FlowTable
    settled: Settled


def settle_straight(
    conversations: FlowTable,
    tunnels: TunnelSet,
    flows: FlowTable,
    known_clock: Alignment | None,
    rng: np.random.Generator,
) -> Straight:
    """:func:`vpnforensics.align.settle.settle`, on clocks that may have been set.

    Parameters
    ----------
    conversations : FlowTable
        Of the ingress capture.
    tunnels : TunnelSet
    flows : FlowTable
        Of the egress capture.
    known_clock : Alignment or None
        The alignment, where it is known beforehand: then no step is looked for.
    rng : numpy.random.Generator
    """
    settled = settle(tunnels, flows, known_clock, rng)
    ingress, egress = conversations.packets, flows.packets
    steps: tuple[ClockStep, ...] = ()
    for _ in range(_ROUNDS):
        if not settled.alignment.breaks:
            break
        found = place_steps(
            settled.alignment.breaks,
            conversations.packets.ts_ns,
            flows.packets.ts_ns,
            tunnels.records.row,
        )
        if not found:
            settled = replace(settled, alignment=replace(settled.alignment, breaks=()))
            break
        steps = _merged((*steps, *found))
        conversations = conversations.at_times(straightened(ingress, steps, "ingress"))
        tunnels = tunnels.at_times(conversations)
        flows = _assembled_at(straightened(egress, steps, "egress"), flows)
        settled = settle(tunnels, flows, None, rng, begins_at=[step.egress_row for step in steps])
    if steps and settled.alignment.usable:
        # Where an ingress step is among the egress packets, the aligned clocks say best.
        seen_ns = settled.alignment.to_ingress(flows.packets.ts_ns)
        steps = _merged(
            [
                replace(step, egress_row=int(np.argmax(seen_ns >= conversations.packets.ts_ns[step.row])))
                if step.role == "ingress"
                else step
                for step in steps
            ]
        )
    if steps:
        alignment = as_captured(settled.alignment, steps, ingress.ts_ns, egress.ts_ns)
        settled = replace(settled, alignment=alignment)
    sides = conversations.packets.ts_ns, flows.packets.ts_ns
    if known_clock is None and any(map(goes_back, sides)):
        # A step that was not found: wherever it is, nothing may be denied for it.
        alignment = replace(settled.alignment, astray=((0, max(len(flows.packets) - 1, 0)),))
        settled = replace(settled, alignment=alignment)
    return Straight(conversations, flows, settled)


def goes_back(ts_ns: npt.NDArray[np.int64]) -> bool:
    """Whether times in order of the file go back somewhere, not for a packet or two but for good."""
    back = rows_where(len(ts_ns), lambda rows: np.diff(ts_ns[rows.start : rows.stop + 1]) < -LEAST_STEP_NS)
    back += 1
    back = back[(back >= _BESIDE) & (back <= len(ts_ns) - _BESIDE)][:_LOOKED_AT]
    around = back[:, None] + np.arange(-_BESIDE, _BESIDE)
    since_ns = ts_ns[around] - ts_ns[back][:, None]
    before, after = np.median(since_ns[:, :_BESIDE], 1), np.median(since_ns[:, _BESIDE:], 1)
    return bool((before - after > LEAST_STEP_NS / 2).any())


def put_straight(flows: FlowTable, alignment: Alignment, seen: PacketTable) -> FlowTable:
    """Flows of more packets of the egress capture than those ``seen`` by the alignment, put straight."""
    steps = rows_of(alignment, seen, flows.packets).steps
    return _assembled_at(straightened(flows.packets, steps, "egress"), flows) if steps else flows


def rows_of(alignment: Alignment, seen: PacketTable, packets: PacketTable) -> Alignment:
    """The alignment with its egress rows, which are those of ``seen``, as rows of ``packets``."""

    def row(of_seen: int, side: Literal["left", "right"] = "left") -> int:
        return int(np.searchsorted(packets.frame, seen.frame[of_seen], side))

    steps = tuple(
        replace(
            step,
            row=row(step.row) if step.role == "egress" else step.row,
            egress_row=row(step.egress_row),
        )
        for step in alignment.steps
    )
    astray = tuple((row(first), row(last, "right") - 1) for first, last in alignment.astray)
    return replace(alignment, steps=steps, astray=astray)


def _assembled_at(packets: PacketTable, before: FlowTable) -> FlowTable:
    """The flows of the same packets at other times, with the numbers that they had."""
    flows = assemble_flows(packets)
    first = flows.order[0][flows.order[1][:-1]]
    number = before.number[before.flow[first]]
    once = len(np.unique(number)) == len(number)  # an idle time-out may be real that no clock showed
    return replace(flows, number=number) if once else flows


def place_steps(
    breaks: Sequence[Break],
    ingress_ns: npt.NDArray[np.int64],
    egress_ns: npt.NDArray[np.int64],
    row_of_record: npt.NDArray[np.int32],
) -> tuple[ClockStep, ...]:
    """Which clock was set where.

    Parameters
    ----------
    breaks : sequence of Break
    ingress_ns, egress_ns : ndarray of int64
        Times of all packets, in order of the file.
    row_of_record : ndarray of int32
        Ingress row of each record.
    """
    steps = []
    for found in breaks:
        rows: dict[Role, list[int]] = {
            "egress": sorted(found.egress_rows),
            "ingress": sorted(int(row_of_record[record]) for record in found.records),
        }
        role, row, placed = _placed(found.size_ns, {"egress": egress_ns, "ingress": ingress_ns}, rows)
        steps.append(
            ClockStep(
                role,
                row,
                found.size_ns if role == "egress" else -found.size_ns,
                row if role == "egress" else rows["egress"][1],
                placed,
            )
        )
    kept = _without_detours(steps)
    # One may hide in a file that was sorted; several that no capture shows are none.
    return kept if sum(not step.placed for step in kept) <= 1 else ()


def _placed(
    size_ns: int, times: dict[Role, npt.NDArray[np.int64]], rows: dict[Role, list[int]]
) -> tuple[Role, int, bool]:
    """Which capture leaps by so much between these rows, or somewhat around them; its row, or a guess."""
    set_back: Role = "egress" if size_ns < 0 else "ingress"
    set_forward: Role = "ingress" if size_ns < 0 else "egress"
    for beside in _ROWS_BESIDE:
        zone = {role: (low - beside, high + beside) for role, (low, high) in rows.items()}
        row, leap_ns = _largest(times[set_back], zone[set_back], -1)
        if leap_ns >= _BACK_SHARE * abs(size_ns):
            return set_back, row, True
        row, leap_ns = _largest(times[set_forward], zone[set_forward], 1)
        long_enough = leap_ns >= abs(size_ns) - _SLACK_NS
        if long_enough and (not beside or leap_ns > _LARGE_NS):  # short pauses are found in any long stretch
            return set_forward, row, True
    return "egress", rows["egress"][1], False


def _merged(steps: Sequence[ClockStep]) -> tuple[ClockStep, ...]:
    """The steps in order; those of one clock at one place, the later a correction of the earlier, as one."""
    merged: list[ClockStep] = []
    for step in steps:
        same = [
            n for n, m in enumerate(merged) if m.role == step.role and abs(m.row - step.row) <= _ONE_PLACE
        ]
        if same:
            merged[same[0]] = replace(merged[same[0]], size_ns=merged[same[0]].size_ns + step.size_ns)
        else:
            merged.append(step)
    told = [step for step in merged if abs(step.size_ns) >= LEAST_STEP_NS]
    return tuple(sorted(told, key=lambda step: (step.egress_row, step.row)))


def _without_detours(steps: list[ClockStep]) -> tuple[ClockStep, ...]:
    """The steps but for those that the next undoes while no file shows a leap: packets alike in a burst."""
    kept: list[ClockStep] = []
    for step in steps:
        if kept and not kept[-1].placed and not step.placed:
            rest_ns = abs(kept[-1].change_ns + step.change_ns)
            if rest_ns < max(_SLACK_NS, abs(step.size_ns) // 100):
                kept.pop()
                continue
        kept.append(step)
    return tuple(kept)


def _largest(ts_ns: npt.NDArray[np.int64], zone: tuple[int, int], sign: int) -> tuple[int, int]:
    """Row after the largest gap (or, with a sign of -1, leap back) in a zone of rows, and its length."""
    first, last = max(zone[0], 0), min(zone[1], len(ts_ns) - 1)
    gap_ns = sign * np.diff(ts_ns[first : last + 1])
    if not len(gap_ns):
        return last, 0
    at = int(np.argmax(gap_ns))
    return first + 1 + at, int(gap_ns[at])


def shifts_ns(steps: Sequence[ClockStep], role: Role, packets: int) -> npt.NDArray[np.int64]:
    """By how much the clock of a capture was ahead of itself at each of its packets."""
    mine = [step for step in steps if step.role == role]
    return ahead_ns(packets, [step.row for step in mine], [step.size_ns for step in mine])


def straightened(packets: PacketTable, steps: Sequence[ClockStep], role: Role) -> PacketTable:
    """The capture as if its clock had not been set."""
    shift = shifts_ns(steps, role, len(packets))
    return replace(packets, ts_ns=packets.ts_ns - shift) if shift.any() else packets


def as_captured(
    alignment: Alignment,
    steps: Sequence[ClockStep],
    ingress_ns: npt.NDArray[np.int64],
    egress_ns: npt.NDArray[np.int64],
) -> Alignment:
    """The alignment of times put straight, with the steps, and its parts in times as captured.

    Parameters
    ----------
    alignment : Alignment
        With a part before, between and after the steps, in times put straight.
    steps : sequence of ClockStep
        In order of their place among the egress packets.
    ingress_ns, egress_ns : ndarray of int64
        As captured.
    """
    ahead = {
        "egress": shifts_ns(steps, "egress", len(egress_ns)),
        "ingress": shifts_ns(steps, "ingress", len(ingress_ns)),
    }
    edges = [0, *(step.egress_row for step in steps), len(egress_ns)]
    parts: list[ClockPart] = []
    ingress_row = 0
    for number, part in enumerate(alignment.parts):
        first, after = edges[number], max(edges[number + 1], edges[number] + 1)
        if number and steps[number - 1].role == "ingress":
            ingress_row = steps[number - 1].row
        change = int(ahead["egress"][min(first, len(egress_ns) - 1)] - ahead["ingress"][ingress_row])
        times = egress_ns[first:after]
        parts.append(
            replace(
                part,
                first_ns=int(times.min()),
                last_ns=int(times.max()),
                offset_ns=part.offset_ns + change,
                offset_interval_ns=(
                    part.offset_interval_ns[0] + change,
                    part.offset_interval_ns[1] + change,
                ),
                packets=len(times),
            )
        )
    when = {"egress": egress_ns, "ingress": ingress_ns}
    dated = tuple(replace(step, at_ns=int(when[step.role][step.row])) for step in steps)
    astray = list(alignment.astray)
    for step in dated:
        if not step.placed:  # packets of before and after stand among each other
            apart_ns = np.abs(egress_ns - egress_ns[step.egress_row])
            mixed = np.flatnonzero(apart_ns <= abs(step.size_ns) + _SLACK_NS)
            astray.append((int(mixed[0]), int(mixed[-1])))
    status: Status = "aligned" if alignment.usable else alignment.status  # no one clock, whatever the offset
    return replace(alignment, status=status, steps=dated, parts=tuple(parts), astray=tuple(astray))
