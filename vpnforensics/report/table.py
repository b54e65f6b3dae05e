"""What an analyst reads first: inputs, clocks, tunnels, links, and what the verdicts mean.

Everything is built for a width: the narrow form (80 columns) leaves out what the tables above already say.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vpnforensics.report.dataframes import plain_rows
from vpnforensics.report.escaping import visible
from vpnforensics.report.findings import findings
from vpnforensics.report.layout import Endpoint, more_line, plain_grid, plain_table
from vpnforensics.report.naming import looked_up_line, surest_names
from vpnforensics.report.provenance import made_by
from vpnforensics.report.quantities import many, ratio, seconds, size, span
from vpnforensics.report.result import VERDICTS, CaseResult

_STYLES = {"linked": "green", "undecided": "yellow", "no_tunnel": "dim"}
_SEVERITY = {"damage": ("✗", "bold red"), "warning": ("!", "yellow"), "note": ("·", "dim")}
_USUAL, _MEDIUM, _WIDE = 80, 96, 132
"""Columns from which the tables say more."""
_LABELS = 10
"""Columns that the overview's labels take."""


def case_view(case: CaseResult, *, width: int, top: int = 40, in_order: bool = False) -> RenderableType:
    """The whole report of a case.

    Parameters
    ----------
    case : CaseResult
    width : int
        Columns there are.
    top : int
        Rows of the longer tables that are shown.
    in_order : bool
        Show the flows in the case's order, and not the strongest evidence first.
    """
    parts: list[RenderableType] = [_overview(case, width), Text()]
    if len(case.tunnels):
        parts += [tunnel_view(case, width=width, top=top), Text()]
    parts += [link_view(case, width=width, top=top, in_order=in_order), Text(), _meaning(case)]
    parts.append(Text(visible(made_by(case.tool)), style="dim"))
    return Group(*parts)


def _overview(case: CaseResult, width: int) -> Table:
    grid = plain_grid()
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for row in case.inputs:
        grid.add_row(row["role"], _input_line(row, width - _LABELS))
        for finding in findings(row.get("health") or {}):
            mark, style = _SEVERITY[finding.severity]
            grid.add_row("", Text(f"{mark} {finding.text}", style=style))
    usable = case.alignment.usable
    grid.add_row("clocks", Text(clocks_text(case), style="" if usable else "bold red"))
    if case.delay_law:
        up, down = (span(ns) for ns in case.delay_law["median_ns"])
        up95, down95 = (span(ns) for ns in case.delay_law["p95_ns"])
        grid.add_row(
            "delay", f"in the server: median {up} up, {down} down; 95 % within {up95} up, {down95} down"
        )
    if case.usage is not None:
        grid.add_row("logs", Text(logs_text(case.usage)))
    if case.zeek is not None:
        rows = sum(file["matched"] for file in case.zeek["files"])
        grid.add_row("zeek", f"{many(rows, 'row')} of {many(case.zeek['flows'], 'flow')}")
    for warning in case.warnings:
        grid.add_row(Text("warning", style="bold yellow"), Text(visible(warning), style="yellow"))
    return grid


def logs_text(usage: dict[str, Any]) -> str:
    """What usage logs were joined, and how far they agree."""
    sessions, matched = (sum(file[key] for file in usage["files"]) for key in ("sessions", "matched"))
    lines = [
        f"{many(sessions, 'session')} in {many(len(usage['files']), 'file')}, {matched:,} of them tunnels"
    ]
    told = usage["translations"]
    if told is not None:
        lines.append(
            f"the server's own translations know {many(told['flows'], 'flow')}:"
            f" {many(told['agree'], 'link')} agree, {told['contradict']:,} do not"
        )
    return "; ".join(lines)


def _input_line(row: dict[str, Any], width: int) -> Text:
    """One input of the result contract, on one line if it fits and on two otherwise."""
    line = Text("(a packet table)" if row["path"] is None else visible(row["path"]), style="bold")
    form = f"{row['format']}, {'/'.join(map(visible, row['linktypes']))}, " if row["format"] else ""
    packets = many(row["packets"], "packet")
    length = f" in {span(row['last_ns'] - row['first_ns'])}" if row["packets"] else ""
    stored = f", {size(row['bytes'])}" if row["bytes"] is not None else ""
    facts = f"{form}{packets}{length}{stored}"
    fits = line.cell_len + 2 + len(facts) <= width
    return line.append(f"  {facts}" if fits else f"\n{facts}", style="default not bold")


def clocks_text(case: CaseResult) -> str:
    """How the clocks of the two captures stand to each other."""
    found = case.alignment
    if not found.usable:
        return f"cannot be aligned: {visible(found.reason)}"
    low, high = found.offset_interval_ns
    if found.status == "same_clock" and low == high:
        return f"one clock: {visible(found.reason)}" if found.reason else "one clock"
    either = max(high - found.offset_ns, found.offset_ns - low)
    slow, fast = found.drift_interval_ppm
    ahead = "ahead of" if found.offset_ns >= 0 else "behind"
    told = f"egress is {seconds(abs(found.offset_ns))} {ahead} ingress (± {span(either)}),"
    told += f" drifting {found.drift_ppm:+.2f} ppm ({slow:+.2f} to {fast:+.2f})" if found.drift_known else ""
    told += "" if found.drift_known else f" {visible(found.reason)}"
    if found.status == "same_clock":
        told = f"one clock, as far as can be told: {told}"
    if found.pairs:
        told += f"; from {many(found.pairs, 'packet pair')}"
    return told


def tunnel_view(case: CaseResult, *, width: int, top: int) -> RenderableType:
    """The tunnels, with how much of each the linked flows explain."""
    linked = case.links["tunnel"].value_counts()
    tunnels = case.tunnels
    if "excerpt" in case.tool["parameters"] and len(linked):  # those that its flows are in
        tunnels = tunnels[tunnels["id"].isin(linked.index)]
    servers = case.tunnels["server"].unique().tolist()
    readable = bool((case.tunnels["protocol"] == "plain").all())
    one_server = readable or len(servers) == 1
    title = Text(many(len(case.tunnels), "client" if readable else "tunnel"), style="bold")
    if len(tunnels) < len(case.tunnels):
        title = Text(f"{len(tunnels):,} of ", style="bold") + title
    if readable:
        title.append(": the ingress capture is readable, so they take the place of tunnels", style="not bold")
    elif one_server:
        title.append(f" to {visible(servers[0])}", style="not bold")
    table = plain_table(title=title)
    table.add_column("tunnel", no_wrap=True)
    table.add_column("client")
    if not one_server:
        table.add_column("server")
    table.add_column("protocol", no_wrap=True)
    users = width >= _USUAL and case.tunnels["user"].notna().any()
    if users:
        table.add_column("user")
    if width >= _WIDE:
        table.add_column("outer length", no_wrap=True)
    for heading in ("up", "down", "flows", "explained"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = plain_rows(tunnels.head(top))
    for row in shown:
        share = row["explained_share"]
        client = row["client"].removesuffix(":0") if readable else row["client"]
        ends = [Endpoint(client)] if one_server else [Endpoint(client), Endpoint(row["server"])]
        cells = [row["protocol"], *([visible(row["user"] or "–")] if users else [])]
        if width >= _WIDE:
            cells += [row["length_map_formula"] or row["write_law_formula"] or "–"]
        cells += [f"{row['packets_up']:,}", f"{row['packets_down']:,}", f"{linked.get(row['id'], 0):,}"]
        told = _share(share) if share is not None else Text("–", style="dim")
        table.add_row(row["id"], *ends, *map(Text, cells), told)
    return Group(table, *more_line(len(tunnels) - len(shown), "-f csv --table tunnels"))


def _share(share: float) -> Text:
    """A share with a bar of five cells."""
    eighths = round(share * 40)
    full, rest = divmod(eighths, 8)
    bar = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
    text = Text(f"{share:6.1%} ")
    text.append(bar.ljust(5, "·"), style="cyan")
    return text


def link_view(case: CaseResult, *, width: int, top: int, in_order: bool = False) -> RenderableType:
    """The links, strongest evidence first or in the case's order."""
    verdicts = case.links["verdict"].value_counts()
    rows = (case.beside if in_order else case.summary).head(top)
    sources = _one_address(case.endpoints["src"])
    table = plain_table(title=_title(verdicts, len(case.links), sources))
    table.add_column("flow", no_wrap=True)
    table.add_column("tunnel", no_wrap=True)
    if width >= _WIDE:
        table.add_column("client")
    table.add_column("proto", no_wrap=True)
    table.add_column("from", justify="right" if sources else "left")
    table.add_column("to")
    shown = case.lists.endpoints["id"].isin(rows["flow"])
    names = surest_names(case.lists.endpoints[shown]) if width >= _MEDIUM else {}
    if names:
        table.add_column("name")
    table.add_column("packets", justify="right", no_wrap=True)
    if width >= _WIDE:
        table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("LLR", justify="right", no_wrap=True)
    if width >= _MEDIUM:
        table.add_column("support", no_wrap=True)
    beside = _beside(case, rows) if width >= _WIDE else {}
    if beside:
        table.add_column("engines")
    for row in plain_rows(rows):
        said = [Text(beside.get(row["flow"], ""), style="dim")] if beside else []
        name = names.get(row["flow"], "") if names else None
        table.add_row(*_link_cells(row, sources, width, name), *said)
    return Group(table, *more_line(len(case.links) - len(rows)), *looked_up_line(names))


def _beside(case: CaseResult, rows: pd.DataFrame) -> dict[str, str]:
    """What each engine said of the links shown, where more than one spoke."""
    linked = rows[rows["tunnel"].notna()]
    wanted = set(zip(linked["flow"], linked["tunnel"], strict=True))
    found = {}
    for row in case.scores_of(set(linked["flow"])):
        if (row["flow"], row["tunnel"]) in wanted:
            heard = [(name, e["llr"]) for name, e in row["engines"].items() if e["llr"] is not None]
            if len(heard) > 1:
                found[row["flow"]] = " ".join(f"{name} {llr:+.1f}" for name, llr in heard)
    return found


def _title(verdicts: pd.Series[int], flows: int, source: str) -> Text:
    title = Text(many(flows, "flow"), style="bold")
    if source:
        title.append(f" from {visible(source)}", style="not bold")
    separator = ": "
    for verdict in VERDICTS:
        if verdicts.get(verdict, 0):
            title.append(separator, style="not bold")
            title.append(f"{verdicts[verdict]:,} {_said(verdict)}", style=f"not bold {_STYLES[verdict]}")
            separator = ", "
    return title


def _link_cells(row: dict[str, Any], sources: str, width: int, name: str | None) -> list[RenderableType]:
    style = _STYLES[row["verdict"]]
    linked = row["verdict"] == "linked"
    cells: list[RenderableType] = [
        Text(row["flow"]),
        Text(row["tunnel"] if linked else _said(row["verdict"]), style=style),
    ]
    if width >= _WIDE:
        cells.append(Endpoint(row["client"]) if linked else Text("–", style="dim"))
    src = row["src"].removeprefix(sources) if sources else row["src"]
    cells += [Text(row["proto"]), Endpoint(src), Endpoint(row["dst"])]
    cells += [Text(name)] if name is not None else []
    cells.append(Text(f"{row['packets']:,}"))
    if width >= _WIDE:
        cells.append(Text(size(row["bytes"])))
    known = row["llr"] is not None
    cells.append(Text(ratio(row["llr"], row["llr_bounded"]) if known else "–", style=style))
    if width >= _MEDIUM:
        cells.append(_support(row["verbal"]) if known else Text("nothing to compare", style="dim"))
    return cells


def _support(verbal: str) -> Text:
    """The verbal scale, short: its column says that it is about support."""
    if verbal.startswith("no support"):
        return Text("for neither", style="dim")
    return Text(verbal.replace(" support for", " for"))


def _said(verdict: str) -> str:
    return "no tunnel" if verdict == "no_tunnel" else verdict


def _one_address(endpoints: pd.Series[str]) -> str:
    """The address of all endpoints, if it is one: it goes into the heading."""
    addresses = endpoints.str.rpartition(":")[0].unique()
    return str(addresses[0]) if len(addresses) == 1 else ""


def _meaning(case: CaseResult) -> Group:
    linked = int((case.links["verdict"] == "linked").sum())
    false = np.format_float_positional(case.expected_false_links, precision=2, fractional=False, trim="-")
    said = Text(
        f"{many(case.comparisons, 'comparison')} of a flow with a tunnel made;"
        f" among the {many(linked, 'link')}, {false} false ones are expected"
        f" ({case.allowed_false_links:g} allowed). Of {many(case.decoys['tried'], 'decoy')}, copies of the"
        f" flows turned in time, {case.decoys['linked']:,} would have been linked."
    )
    if twins := case.limit["twins"]:
        said.append(
            f" {many(twins, 'flow has', 'flows have')} a twin, a like flow of another tunnel so near in time"
            " that lengths and times do not tell them apart."
        )
    meaning = Text(
        "LLR is the decimal logarithm of how much likelier the evidence is if the tunnel carried the flow"
        " (H1) than if another tunnel, or none in the capture, did (H2); ≥ marks the most that the"
        f" {many(case.null_comparisons, 'comparison')} known to be false allow. It is not a probability that"
        " they belong together. undecided: the evidence does not reach the level; no tunnel: no tunnel in"
        " this capture could have carried the flow.",
        style="dim",
    )
    return Group(said, meaning)
