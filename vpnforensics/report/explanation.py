"""One flow, packet by packet: the outer packet that carried each of its packets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from vpnforensics.report.dataframes import plain, plain_rows
from vpnforensics.report.endpoints import pattern
from vpnforensics.report.escaping import visible
from vpnforensics.report.layout import plain_table, whole_line
from vpnforensics.report.quantities import many, ratio, span, utc
from vpnforensics.report.questions import far_sides
from vpnforensics.report.result import CaseResult

_MOST_PACKETS = 1000
"""Packets shown on a screen; more are for CSV."""


def flows_named(case: CaseResult, name: str) -> list[str]:
    """Flows that a user may mean by a name.

    Parameters
    ----------
    case : CaseResult
    name : str
        ``f12``, a Community ID, an endpoint or address of either side or of the tunnel's client, or a name of
        the far side.

    Returns
    -------
    list of str
        Their ids, in the case's order: none, one, or several.
    """
    table = case.beside
    community = case.endpoints["community_id"].to_numpy()
    found = (table["flow"] == name).to_numpy() | (community == name)
    if not found.any():
        try:
            meant = pattern(name)
        except ValueError:
            return []
        ends = {end for column in ("src", "client") for end in table[column].dropna().unique()}
        ends = {end for end in ends if meant.has_endpoint(end)}
        found = table["src"].isin(ends).to_numpy() | table["client"].isin(ends).to_numpy()
        found |= far_sides(case, [meant])
    return [str(flow) for flow in table.loc[found, "flow"]]


def explanation_table(case: CaseResult, flows: list[str]) -> pd.DataFrame:
    """The packets of the flows as one table, for CSV and the like; a flow that is not linked has no rows."""
    parts = []
    for flow in flows:
        part = case.explain(flow)
        part.insert(0, "flow", flow)
        part.insert(1, "tunnel", _only(case.links, "flow", flow)["tunnel"])
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def why_no_rows(case: CaseResult, flow: str) -> str:
    """Why a flow has no rows in :func:`explanation_table`; empty for a linked one."""
    link = _only(case.links, "flow", flow)
    if link["verdict"] == "linked":
        return ""
    scores = [row for row in _candidates(case, flow) if row["llr"] is not None]
    if scores:
        best = scores[0]
        reason = f"its best candidate, {best['tunnel']}, has LLR {ratio(best['llr'], best['llr_bounded'])}"
    else:
        reason = _nothing_to_compare(case)
    return f"{flow} is not linked; {_unattributed(link)} ({reason}); {link['why']}"


def explanation_view(case: CaseResult, flow: str) -> RenderableType:
    """One flow's packets beside the outer packets that carried them."""
    link = _only(case.links, "flow", flow)
    row = _only(case.endpoints, "id", flow)
    head = Text(f"{flow}  ", style="bold")
    head.append(f"{row['proto']} {visible(row['src'])} → {visible(row['dst'])}", style="not bold")
    head.append(f"  {row['community_id']}", style="not bold dim")
    packets = case.explain(flow)
    if link["verdict"] != "linked":
        return Group(whole_line(head), *_unlinked(case, flow, link))
    tunnel = _only(case.tunnels, "id", link["tunnel"])
    writes = tunnel["write_law_formula"]
    formula = writes or tunnel["length_map_formula"] or "as the inner one"
    found = int(packets["ingress_frame"].notna().sum())
    by = Text(f"linked to {link['tunnel']}", style="green")
    by.append(
        f" ({tunnel['protocol']}, client {visible(tunnel['client'])}),"
        f" LLR {ratio(link['llr'], link['llr_bounded'])}:",
        style="default",
    )
    by.append(f" {link['verbal']}", style="default")
    if link["llr_bounded"]:
        by.append(
            f", the most that {many(case.null_comparisons, 'comparison')} known to be false allow",
            style="default",
        )
    basis = Text(
        f"{found} of {many(len(packets), 'write' if writes else 'packet')} found in the tunnel;"
        f" outer length {formula}, {'n' if writes else 'L'} the inner one; delay on the ingress clock,"
        " towards the far side",
        style="dim",
    )
    mine = [row for row in case.scores_of({flow}) if row["tunnel"] == link["tunnel"]]
    return Group(whole_line(head), by, basis, Text(), _engine_table(mine), Text(), _packet_table(packets))


def _packet_table(packets: pd.DataFrame) -> RenderableType:
    table = plain_table()
    for heading in ("egress frame", "time", "", "inner", "ingress frame", "outer", "counter", "delay"):
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
    egress, ingress = _frame_names(packets, "egress"), _frame_names(packets, "ingress")
    first = utc(int(packets["egress_ns"].iloc[0])) if len(packets) else ""
    start = int(packets["egress_ns"].iloc[0]) if len(packets) else 0
    for n, row in enumerate(plain_rows(packets.head(_MOST_PACKETS))):
        found = row["ingress_frame"] is not None
        direction = Text("↑ up", style="blue") if row["up"] else Text("↓ down", style="magenta")
        cells: list[Text] = [
            Text(egress[n]),
            Text(f"{(row['egress_ns'] - start) / 1e9:+.6f} s"),
            direction,
            Text(f"{row['inner_bytes']} B"),
        ]
        if found:
            counted = row["counter"] >= 0
            cells += [
                Text(ingress[n]),
                Text(f"{row['outer_bytes']} B"),
                Text(f"{row['counter']}" if counted else "–", style="" if counted else "dim"),
                Text(span(row["delay_ns"])),
            ]
        else:
            cells += [Text("none", style="yellow"), Text("–"), Text("–"), Text("–")]
        table.add_row(*cells)
    parts: list[RenderableType] = [Text(f"time from {first} (egress clock)", style="dim"), table]
    if len(packets) > _MOST_PACKETS:
        rest = many(len(packets) - _MOST_PACKETS, "more packet")
        parts.append(Text(f"… and {rest} (-f csv shows all)", style="dim"))
    return Group(*parts)


def _frame_names(packets: pd.DataFrame, role: str) -> list[str]:
    """What to call the frames of a side: their numbers, behind the file's name where there are several."""
    shown = packets.head(_MOST_PACKETS)
    numbers = [str(number) for number in plain(shown[f"{role}_frame"])]
    if packets[f"{role}_file"].nunique() < 2:
        return numbers
    files = [visible(Path(file).name) if file else "" for file in plain(shown[f"{role}_file"])]
    return [f"{file}:{number}" for file, number in zip(files, numbers, strict=True)]


def _unlinked(case: CaseResult, flow: str, link: dict[str, Any]) -> list[RenderableType]:
    """What there is to say of a flow that no tunnel was given."""
    lines: list[RenderableType] = [Text(_unattributed(link), style="yellow")]
    if link["why"]:
        lines.append(Text(visible(link["why"])))
    scores = _candidates(case, flow)
    if not scores:
        return [*lines, Text(_nothing_to_compare(case))]
    return [*lines, Text(), _engine_table(scores)]


def _unattributed(link: dict[str, Any]) -> str:
    said = "in no tunnel of this capture" if link["verdict"] == "no_tunnel" else link["verdict"]
    return f"{said}: no outer packets are attributed to it"


def _candidates(case: CaseResult, flow: str) -> list[dict[str, Any]]:
    """Scores of a flow, the largest likelihood ratio first and those without one last."""
    return sorted(case.scores_of({flow}), key=lambda row: (row["llr"] is None, -(row["llr"] or 0.0)))


def _nothing_to_compare(case: CaseResult) -> str:
    if not case.alignment.usable:
        return "the clocks are not aligned"
    return "no tunnel had a packet of its sizes near its times"


def _engine_table(scores: list[dict[str, Any]]) -> RenderableType:
    """What each engine said of a flow's candidates, and what it comes to."""
    table = plain_table(title="candidates, each judged alone" if len(scores) > 1 else "what each engine says")
    for heading in ("tunnel", "engine", "LLR", "score"):
        table.add_column(
            heading, justify="left" if heading in ("tunnel", "engine") else "right", no_wrap=True
        )
    table.add_column("")
    for row in scores:
        for name, engine in row["engines"].items():
            spoken = engine["llr"] is not None
            table.add_row(
                row["tunnel"],
                name,
                f"{engine['llr']:+.1f}" if spoken else "–",
                f"{engine['score']:+.1f}" if engine["score"] is not None else "–",
                Text(visible(engine["note"] or ""), style="dim"),
            )
        if len(row["engines"]) > 1 and row["llr"] is not None:
            fused = Text("together, what they share counted once", style="dim")
            table.add_row(row["tunnel"], "fused", ratio(row["llr"], row["llr_bounded"]), "", fused)
    return table


def _only(table: pd.DataFrame, column: str, value: str) -> dict[str, Any]:
    """The row where a column that identifies it has this value."""
    return plain_rows(table.loc[table[column] == value])[0]
