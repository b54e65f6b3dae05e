"""The parts of the report that need no script: what to read first, and what to hold on to."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np

from vpnforensics.report.dataframes import plain_rows
from vpnforensics.report.escaping import json_text, visible
from vpnforensics.report.findings import findings
from vpnforensics.report.html.markup import Markup, element, facts, listed, plain_table
from vpnforensics.report.html.strings import GLOSSARY, LIMITS, METHOD, PAGE
from vpnforensics.report.provenance import made_by
from vpnforensics.report.quantities import many, utc
from vpnforensics.report.questions import grouped_by
from vpnforensics.report.result import CaseResult
from vpnforensics.report.table import clocks_text, logs_text

_MOST_CLIENTS = 12
_MOST_SITES = 3


def sections(case: CaseResult) -> Iterator[tuple[str, Markup]]:
    """Each section's name, which is its anchor, and what stands in it; empty where the script draws it."""
    yield "summary", Markup("".join(_summary(case)))
    yield "inputs", Markup("".join(_inputs(case)))
    for name in ("clocks", "timeline", "tunnels", "flows"):
        yield name, element("p", PAGE[f"{name}_text"])
    yield "method", element("ol", *(element("li", text) for text in METHOD))
    yield "limits", listed(LIMITS)
    yield "glossary", facts(GLOSSARY)
    yield "reproduce", Markup("".join(_reproduce(case)))


def _summary(case: CaseResult) -> Iterator[Markup]:
    verdicts = case.links["verdict"].value_counts()
    linked = int(verdicts.get("linked", 0))
    flows = many(len(case.endpoints), "flow")
    yield element("h3", PAGE["asked"])
    yield element("p", PAGE["asked_text"].format(tunnels=many(len(case.tunnels), "tunnel"), flows=flows))
    excerpt = case.tool["parameters"].get("excerpt")
    if excerpt:
        yield element("p", PAGE["asked_excerpt"].format(excerpt=excerpt))
    yield element("h3", PAGE["found"])
    counts = {name: f"{int(verdicts.get(name, 0)):,}" for name in ("linked", "undecided", "no_tunnel")}
    yield element("p", PAGE["found_text"].format(flows=flows, **counts), class_="found")
    if linked:
        yield from _clients(case)
    yield element("h3", PAGE["sure"])
    yield listed(_sure(case, linked))
    yield element("h3", PAGE["cannot"])
    twins = case.limit.get("twins")
    yield listed(
        [
            PAGE["cannot_who"],
            PAGE["cannot_probability"],
            PAGE["cannot_error"],
            PAGE["cannot_undecided"],
            PAGE["cannot_twins_unknown"]
            if twins is None
            else PAGE["cannot_twins"].format(twins=many(twins, "flow")),
        ]
    )
    if case.warnings:
        yield element("h3", PAGE["warnings"])
        yield listed(case.warnings)


def _clients(case: CaseResult) -> Iterator[Markup]:
    """Whose the linked flows are: a row a client."""
    by_client = grouped_by(case, "client").dropna(subset="client")
    flows = case.beside[case.beside["tunnel"].notna()]
    site = flows["names"].str.partition(" ")[0].where(flows["names"] != "", flows["dst"])
    address = flows["client"].str.rpartition(":")[0].str.strip("[]")
    rows = []
    for row in plain_rows(by_client.head(_MOST_CLIENTS)):
        sites = site[address == row["client"]].value_counts(sort=True).sort_index(kind="stable")
        frequent = sites.sort_values(ascending=False, kind="stable").index[:_MOST_SITES]
        times = [_time(ns) for ns in (row["first_ns"], row["last_ns"])]
        rows.append([row["client"], row["user"] or "–", f"{row['linked']:,}", ", ".join(frequent), *times])
    yield plain_table(PAGE["found_table"], PAGE["found_columns"].split("|"), rows)
    more = len(by_client) - len(rows)
    if more > 0:
        yield element("p", PAGE["found_more"].format(more=many(more, "client")))


def _sure(case: CaseResult, linked: int) -> Iterator[str]:
    expected = np.format_float_positional(case.expected_false_links, precision=2, fractional=False, trim="-")
    allowed = f"{case.allowed_false_links:g}"
    yield PAGE["sure_errors"].format(links=many(linked, "link"), expected=expected, allowed=allowed)
    tried = many(case.decoys["tried"], "decoy")
    yield PAGE["sure_decoys"].format(tried=tried, linked=f"{case.decoys['linked']:,}")
    bound = case.links.loc[case.links["llr_bounded"], "llr"].max()
    if bound == bound:
        nulls = many(case.null_comparisons, "comparison")
        yield PAGE["sure_bound"].format(nulls=nulls, most=f"{bound:+.1f}")
    yield PAGE["sure_clocks"].format(clocks=clocks_text(case))


def _inputs(case: CaseResult) -> Iterator[Markup]:
    yield element("p", PAGE["inputs_text"])
    rows = [[*_file(side["role"], file)] for side in case.inputs for file in side["files"]]
    if rows:
        yield plain_table(PAGE["inputs_files"], PAGE["inputs_columns"].split("|"), rows)
    yield listed(PAGE["inputs_none"].format(role=side["role"]) for side in case.inputs if not side["files"])
    yield element("h3", PAGE["inputs_health"])
    yield listed(line for side in case.inputs for line in _health(side))
    if case.usage is not None:
        yield element("h3", PAGE["logs"])
        yield element("p", logs_text(case.usage))
        yield listed(f"{file['path']}, SHA-256 {file['sha256']}" for file in case.usage["files"])


def _file(role: str, file: dict[str, Any]) -> Iterator[str | Markup]:
    yield visible(file["path"])
    yield role
    yield element("code", file["sha256"])
    yield from (f"{file[key]:,}" for key in ("bytes", "packets", "first_frame"))
    yield from ("–" if file[key] is None else _time(file[key]) for key in ("first_ns", "last_ns"))


def _health(side: dict[str, Any]) -> Iterator[str]:
    found = findings(side["health"] or {})
    for each in found:
        yield PAGE["inputs_found"].format(role=side["role"], severity=each.severity, text=each.text)
    if not found:
        yield PAGE["inputs_well"].format(role=side["role"])


def _reproduce(case: CaseResult) -> Iterator[Markup]:
    tool = case.tool
    yield element("p", PAGE["reproduce_text"])
    run = [PAGE["reproduce_digest"]]
    yield listed(run)
    if tool["argv"]:
        yield element("p", PAGE["reproduce_run"])
        yield element("pre", shlex.join(tool["argv"]))
    yield listed([PAGE["reproduce_verify"], PAGE["reproduce_hand"]])
    yield element("p", f"{PAGE['made']} {made_by(tool)}")
    for key in ("parameters", "policy"):
        rows = [
            [name, value if isinstance(value, str) else json_text(value)] for name, value in tool[key].items()
        ]
        if rows:
            yield plain_table(PAGE[key], PAGE["name_value"].split("|"), rows)


def _time(ns: int) -> str:
    """A time for a column that says of itself that it is UTC."""
    return utc(ns).removesuffix(" UTC")
