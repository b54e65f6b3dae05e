"""How well it does under each condition: packets of a flow, jitter, loss, clients, protocol and the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Floats, Int32s
from vpnforensics.validation.binomial import interval
from vpnforensics.validation.comparisons import FUSED, Comparisons
from vpnforensics.validation.facts import Facts
from vpnforensics.validation.metrics import cost, cost_parts
from vpnforensics.validation.outcomes import Outcomes
from vpnforensics.validation.splits import design_effect
from vpnforensics.validation.tally import tally

PACKETS = (1, 2, 5, 10, 30, 100, 300, 900)
_CLIENTS = (1, 4, 10, 30, 100, 300)
_ALIGNMENT_MS = (0.0, 0.05, 0.2, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Condition:
    """Flows and comparisons under one condition."""

    condition: str
    value: str
    sessions: int
    cases: int
    carried: int
    """Flows that a tunnel of their case carried."""
    linked: int
    """Of them, to that tunnel."""
    linked_interval: tuple[float, float]
    """95 %, of their share, at what the flows are worth."""
    absent: int
    """Flows that no tunnel of their case carried."""
    wrong: int
    """Links to a tunnel that did not carry the flow, of both."""
    cllr: float
    cllr_min: float
    cost_share: float
    """Of the whole Cllr, what the comparisons under this condition make of it; with each kind's number taken
    from all. A condition's values share the whole between them."""


def conditions(
    flows: Outcomes, table: Comparisons, facts: Sequence[Facts], method: str = FUSED
) -> list[Condition]:
    """All conditions, each in order of its values.

    Parameters
    ----------
    flows : Outcomes
    table : Comparisons
    facts : sequence of Facts
        Of each case, by its number.
    method : str
        Whose likelihood ratios.
    """
    parts = cost_parts(table.values[method], table.h1)
    part = parts / max(parts.sum(), np.finfo(float).tiny)
    rows = [
        _row("packets", text, flows, table, method, part, of_flows, of_table)
        for (text, of_flows), (_, of_table) in zip(
            by_packets(flows.packets), by_packets(table.packets), strict=True
        )
    ]
    for name, value in _OF_CASES.items():
        of = [value(each) for each in facts]
        for _, text in sorted(set(of)):
            numbers = [number for number, (_, mine) in enumerate(of) if mine == text]
            rows.append(
                _row(
                    name, text, flows, table, method, part,
                    np.isin(flows.trial, numbers), np.isin(table.trial, numbers),
                )
            )  # fmt: skip
    return [row for row in rows if row.carried or row.absent]


@dataclass(frozen=True, slots=True)
class Share:
    """What one capture session makes of the whole Cllr."""

    session: str
    true: int
    false: int
    """Comparisons that the method speaks of."""
    cost_share: float
    of_true: float
    """Of that, what its true comparisons make."""


def by_session(table: Comparisons, names: Mapping[int, str], method: str = FUSED) -> list[Share]:
    """All sessions, those that make most of the cost first.

    Parameters
    ----------
    table : Comparisons
    names : mapping of int to str
        Of the sessions, by number.
    method : str
    """
    llr = table.values[method]
    parts, spoken = cost_parts(llr, table.h1), ~np.isnan(llr)
    whole = max(parts.sum(), np.finfo(float).tiny)
    rows = []
    for number, name in names.items():
        mine = spoken & (table.session == number)
        true = mine & table.h1
        rows.append(
            Share(
                name,
                int(true.sum()),
                int((mine & ~table.h1).sum()),
                float(parts[mine].sum() / whole),
                float(parts[true].sum() / whole),
            )
        )
    return sorted(rows, key=lambda row: (-row.cost_share, row.session))


def _row(
    condition: str,
    value: str,
    flows: Outcomes,
    table: Comparisons,
    method: str,
    part: Floats,
    of_flows: Bools,
    of_table: Bools,
) -> Condition:
    mine = flows.take(of_flows)
    there = mine.take(mine.there)
    effect = design_effect(there.right, there.identity)
    linked = int(there.right.sum())
    llr = table.values[method]
    worth = cost(tally(llr[of_table], table.h1[of_table]))
    return Condition(
        condition,
        value,
        len(np.unique(mine.session)),
        len(np.unique(mine.trial)),
        len(there),
        linked,
        interval(linked / effect, len(there) / effect),
        int((~mine.there).sum()),
        int((mine.linked & mine.wrong).sum()),
        worth.cllr,
        worth.cllr_min,
        float(part[of_table].sum()),
    )


def by_packets(packets: Int32s) -> list[tuple[str, Bools]]:
    """The ranges of packets of a flow, in words, and which rows are in each."""
    return [(_range(n, PACKETS), _in(packets, n)) for n in range(len(PACKETS))]


def _in(packets: Int32s, number: int) -> Bools:
    above = PACKETS[number + 1] if number + 1 < len(PACKETS) else np.inf
    return np.asarray((packets >= PACKETS[number]) & (packets < above))


def _range(number: int, edges: Sequence[float]) -> str:
    """Of whole numbers, as in ``5-9`` or ``900+``."""
    if number + 1 == len(edges):
        return f"{edges[number]:g}+"
    last = edges[number + 1] - 1
    return f"{edges[number]:g}" if last == edges[number] else f"{edges[number]:g}-{last:g}"


Ordered = tuple[float, str]
"""What a value is sorted by, and its text."""


def _clients(facts: Facts) -> Ordered:
    number = int(np.searchsorted(_CLIENTS, max(facts.clients, 1), side="right")) - 1
    return number, _range(number, _CLIENTS)


def _snap(facts: Facts) -> Ordered:
    if facts.snap_bytes is None:
        return -1, "not noted"
    return (facts.snap_bytes, f"{facts.snap_bytes} bytes") if facts.snap_bytes else (1e9, "whole frames")


def _alignment(facts: Facts) -> Ordered:
    if facts.alignment == "not_identifiable":
        return 1e9, "not identifiable"
    if facts.alignment_error_ms is None:
        return 1e10, "truth not noted"
    off = abs(facts.alignment_error_ms)
    number = int(np.searchsorted(_ALIGNMENT_MS, off, side="right")) - 1
    if number + 1 == len(_ALIGNMENT_MS):
        return number, f"{_ALIGNMENT_MS[number]:g} ms and more"
    return number, f"{_ALIGNMENT_MS[number]:g} to {_ALIGNMENT_MS[number + 1]:g} ms"


_CARRIERS = {
    "udp": "datagrams",
    "esp": "datagrams",
    "gre": "datagrams",
    "tcp": "records in a TCP stream",
    "stream": "writes of a relay",
}


def _carrier(facts: Facts) -> Ordered:
    """What an engine has to go by: packets' records, whole or padded, or the writes of a relay."""
    name = _CARRIERS.get(facts.transport, facts.transport)
    return 0, name if facts.padding in ("none", "unknown") else f"{name}, padded ({facts.padding})"


_OF_CASES: dict[str, Callable[[Facts], Ordered]] = {
    "jitter": lambda facts: (facts.jitter_ms, f"{facts.jitter_ms:g} ms"),
    "loss": lambda facts: (facts.loss, f"{facts.loss:.2g}"),
    "clients": _clients,
    "snap length": _snap,
    "padding": lambda facts: (0, facts.padding),
    "alignment error": _alignment,
    "carried in": _carrier,
    "protocol": lambda facts: (0, facts.protocol),
    "made by": lambda facts: (0, facts.made_by),
    "client missing at ingress": lambda facts: (
        facts.missing_client,
        "yes" if facts.missing_client else "no",
    ),
}
