"""The comparisons that mislead most, and the packets behind them: to look at before believing a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vpnforensics.arrays import Bools, Ints
from vpnforensics.report.quantities import utc
from vpnforensics.validation.comparisons import FUSED, Comparisons
from vpnforensics.validation.trials import Trial

MOST, MOST_LINKS = 5, 20
_PACKETS = 12
"""Frames shown of a flow, at most: the first ones."""
_REACH_NS = 50_000_000
"""An outer packet further from an egress packet than this is none that could have carried it."""

Kind = Literal["link", "false", "true"]


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet of the flow, and the outer packet that may have carried it."""

    egress_frame: int
    at: str
    up: bool
    inner_bytes: int
    ingress_frame: int | None
    """Of the tunnel, of the size that the packet would have and nearest in time; None within 50 ms."""
    outer_bytes: int | None
    delay_ms: float | None


@dataclass(frozen=True, slots=True)
class Misleading:
    """A comparison and what speaks the wrong way."""

    kind: Kind
    """``link``: a wrong link; ``false``: the tunnel did not carry the flow; ``true``: it did."""
    llr: float
    error: float
    """Stated, of the flow's likeliest tunnel."""
    session: str
    ingress: str
    egress: str
    damage: str
    flow: str
    flow_ends: str
    tunnel: str
    client: str
    verdict: str
    true_tunnel: str | None
    """That carried it; None where it is none of the case's."""
    true_llr: float | None
    packets: int
    engines: dict[str, float | None]
    frames: tuple[Packet, ...]


def worst(trial: Trial, table: Comparisons) -> list[Misleading]:
    """Of one case: wrong links, false comparisons with the largest and true ones with the least ratio.

    Parameters
    ----------
    trial : Trial
    table : Comparisons
        Its own.
    """
    llr = table.values[FUSED]
    linked = trial.decision.tunnel[table.flow] == table.tunnel
    rows: list[tuple[Kind, int]] = [("link", int(row)) for row in np.flatnonzero(linked & ~table.h1)]
    for kind, of, sign in (("false", ~table.h1, -1.0), ("true", table.h1, 1.0)):
        some = np.flatnonzero(of & np.isfinite(llr))
        order = np.lexsort((table.tunnel[some], table.flow[some], sign * llr[some]))[:MOST]
        rows += [(kind, int(row)) for row in some[order]]  # type: ignore[misc]
    return [_misleading(trial, table, kind, row) for kind, row in rows]


def most_misleading(found: Sequence[Misleading]) -> dict[Kind, list[Misleading]]:
    """Of all cases; one of each flow of a session, however often it was damaged."""
    chosen: dict[Kind, list[Misleading]] = {"link": [], "false": [], "true": []}
    seen = set()
    for each in sorted(found, key=lambda m: m.llr if m.kind == "true" else -m.llr):
        key = each.kind, each.session, each.flow_ends
        if key not in seen and len(chosen[each.kind]) < (MOST_LINKS if each.kind == "link" else MOST):
            seen.add(key)
            chosen[each.kind].append(each)
    return chosen


def _misleading(trial: Trial, table: Comparisons, kind: Kind, row: int) -> Misleading:
    flow, tunnel = int(table.flow[row]), int(table.tunnel[row])
    case, said = trial.case, {name: float(values[row]) for name, values in table.values.items()}
    linked = int(trial.decision.tunnel[flow])
    true = np.flatnonzero((table.flow == flow) & table.h1)
    verdict = trial.decision.verdicts()[flow]
    return Misleading(
        kind,
        said.pop(FUSED),
        float(trial.decision.error[flow]),
        trial.session.name,
        str(trial.session.ingress),
        str(trial.session.egress),
        trial.damage.text,
        case.flows.ids[flow],
        f"{case.flows.source(flow)} {case.flows.destination(flow)}",
        case.tunnels.ids[tunnel],
        case.tunnels.tunnels[tunnel].client,
        f"{verdict} to {case.tunnels.ids[linked]}" if linked >= 0 else verdict,
        case.tunnels.ids[int(table.tunnel[true[0]])] if len(true) else None,
        float(table.values[FUSED][true[0]]) if len(true) else None,
        int(table.packets[row]),
        {name: None if np.isnan(x) else x for name, x in said.items()},
        tuple(_frames(trial, flow, tunnel)),
    )


def _frames(trial: Trial, flow: int, tunnel: int) -> list[Packet]:
    """The first packets of the flow, each with the likeliest record of the tunnel."""
    case, egress, records = trial.case, trial.case.egress, trial.case.tunnels.records
    mine = np.arange(egress.start[flow], egress.start[flow + 1])[:_PACKETS]
    number = case.map_of_tunnel[tunnel] if len(case.map_of_tunnel) else -1
    wanted = (
        case.maps[number].outer(egress.inner_bytes[mine]) if number >= 0 else np.full(len(mine), -1, np.int64)
    )
    inner, outer = case.flows.packets, case.conversations.packets
    of_tunnel = np.flatnonzero(records.tunnel == tunnel)
    found = []
    for at, size in zip(mine.tolist(), wanted.tolist(), strict=True):
        up, row = bool(egress.up[at]), int(egress.row[at])
        near = of_tunnel[_like(trial, of_tunnel, at, size)]
        apart = np.abs(records.ts_ns[near] - egress.ts_ns[at])
        record = int(near[np.argmin(apart)]) if len(near) else -1
        off = int(egress.ts_ns[at] - records.ts_ns[record]) if record >= 0 else 0
        found.append(
            Packet(
                int(inner.frame[row]),
                utc(int(inner.ts_ns[row])),
                up,
                int(egress.inner_bytes[at]),
                int(outer.frame[records.row[record]]) if record >= 0 else None,
                int(records.size[record]) if record >= 0 else None,
                round((off if up else -off) / 1e6, 4) if record >= 0 else None,
            )
        )
    return found


def _like(trial: Trial, of_tunnel: Ints, at: int, size: int) -> Bools:
    """Records that may have carried a packet: of its direction and size, near in time."""
    records, egress = trial.case.tunnels.records, trial.case.egress
    near = np.abs(records.ts_ns[of_tunnel] - egress.ts_ns[at]) <= _REACH_NS
    near &= records.up[of_tunnel] == egress.up[at]
    return np.asarray(near if size < 0 else near & (records.size[of_tunnel] == size))
