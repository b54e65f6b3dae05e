"""An audit as tables: the rows that the terminal and the page share, and the terminal's view of them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from vpnforensics.audit import strings
from vpnforensics.audit.result import AuditResult
from vpnforensics.report.escaping import visible
from vpnforensics.report.layout import plain_grid, plain_table
from vpnforensics.report.provenance import made_by
from vpnforensics.report.quantities import many, span

Rows = list[Sequence[str]]
_LEFT = {"field", "what is seen", "measure", "where", "line", "client"}
"""Headings of columns of words."""


def summary(result: AuditResult) -> list[tuple[str, str]]:
    """What was audited, and the first answer."""
    now, away = result.now, result.now_uninformed
    shares = (f"{_percent(now.share(i))} at {level:g}" for i, level in enumerate(result.allowed))
    told = [
        (str(row["role"]), f"{visible(row['path'] or '(a packet table)')}  {many(row['packets'], 'packet')}")
        for row in result.inputs
    ]
    told += [
        ("tunnels", f"{now.tunnels:,} ({', '.join(result.protocols)}), {many(now.flows, 'flow')}"),
        (
            "linked",
            f"{', '.join(shares)} false links allowed" + (f": {now.why_none}" if now.why_none else ""),
        ),
        ("", f"{_percent(away.share())} by who has to estimate the clocks"),
        ("tied", f"{_percent(now.tied_share)} of the flows show a device that other flows show, too"),
    ]
    return told + [("warning", visible(warning)) for warning in result.warnings]


def by_packets(result: AuditResult) -> tuple[Sequence[str], Rows]:
    """Flows linked, by their packets."""
    headings = (*strings.HEADINGS["by_packets"], *(f"at {level:g}" for level in result.allowed))
    rows: Rows = []
    for each in result.now.by_packets:
        most = "" if each.most_packets is None else str(each.most_packets)
        name = f"{each.least_packets}-{most}" if most else f"{each.least_packets} and more"
        shares = [_percent(n / each.flows) if each.flows else "–" for n in each.linked]
        rows.append((name, f"{each.flows:,}", *shares))
    return headings, rows


def leaks(result: AuditResult) -> tuple[Sequence[str], Rows]:
    """The fields."""
    rows: Rows = []
    for each in result.leaks:
        without = result.without(each)
        bits = "–" if each.bits is None else f"{each.bits:.2f} of {each.of_bits:.2f}"
        tied = "–" if each.tied is None else f"{each.tied:,}"
        share = "–" if without is None else _percent(without.share())
        rows.append((strings.FIELDS[each.field], visible(each.seen), bits, tied, share))
    return strings.HEADINGS["leaks"], rows


def ranking(result: AuditResult) -> tuple[Sequence[str], Rows]:
    """The countermeasures, the most effective first."""
    rows: Rows = [
        (
            str(rank),
            each.name,
            _percent(each.linked),
            f"{each.change_points:+.1f}",
            "–" if each.uninformed is None else _percent(each.uninformed),
            _percent(each.tied),
            f"{100 * each.more_bytes:+.0f} %",
            "–" if each.delay_ns is None else _delay(each.delay_ns),
        )
        for rank, each in enumerate(result.ranked, start=1)
    ]
    return strings.HEADINGS["ranking"], rows


def settings(result: AuditResult) -> tuple[Sequence[str], Rows]:
    """How each single countermeasure is set, in the order of the ranking."""
    of = {e.measure.name: e.measure for e in result.effects}
    rows: Rows = [
        (name, setting.where, setting.line)
        for name in (row.name for row in result.ranked)
        if len(of[name].parts) == 1
        for setting in of[name].settings
    ]
    return strings.HEADINGS["settings"], rows


def clients(result: AuditResult) -> tuple[Sequence[str], Rows]:
    """The clients, where they are named."""
    return strings.HEADINGS["clients"], [(visible(c.client), f"{c.linked:,}") for c in result.clients]


def not_copied(result: AuditResult) -> list[str]:
    """Countermeasures of which no copy could be made, with the reason."""
    return [f"{e.measure.name}: not measured: {visible(e.why_not)}" for e in result.effects if e.why_not]


def wrong_links(result: AuditResult) -> list[str]:
    """How many links are wrong, where some are known to be."""
    found = ((e.measure.name, e.informed) for e in result.effects)
    return [
        f"{name}: {many(there.wrong[0], 'more link')} would be wrong, and not counted"
        for name, there in found
        if there is not None and there.wrong[0]
    ]


def reasons(result: AuditResult) -> list[str]:
    """Why nothing is linked, where nothing is."""
    return [f"{row.name}: nothing linked: {visible(row.why_none)}" for row in result.ranked if row.why_none]


TABLES = (
    ("by_packets", by_packets),
    ("leaks", leaks),
    ("ranking", ranking),
    ("settings", settings),
    ("clients", clients),
)


def audit_view(result: AuditResult) -> RenderableType:
    """The whole report for a terminal."""
    grid = plain_grid()
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for name, told in summary(result):
        grid.add_row(name, Text(told))
    parts: list[RenderableType] = [grid, Text()]
    for name, make in TABLES:
        headings, rows = make(result)
        if rows:
            parts += [table_of(strings.PAGE[name], headings, rows), Text()]
    lines = [
        *wrong_links(result),
        *reasons(result),
        *not_copied(result),
        *strings.MEANING,
        visible(made_by(result.tool)),
    ]
    return Group(*parts, *(Text(line, style="dim") for line in lines))


def table_of(title: str, headings: Sequence[str], rows: Rows) -> RenderableType:
    """A table; columns of words to the left, numbers to the right."""
    table = plain_table(title=title)
    for heading in headings:
        words = heading in _LEFT
        table.add_column(heading, justify="left" if words else "right", no_wrap=not words)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _delay(delay_ns: int) -> str:
    return f"{'+' if delay_ns > 0 else ''}{span(delay_ns)}"
