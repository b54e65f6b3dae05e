"""Sums of a case by client, site or time, as a table to read."""

from __future__ import annotations

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from vpnforensics.report.dataframes import plain_rows
from vpnforensics.report.escaping import visible
from vpnforensics.report.layout import more_line, plain_table
from vpnforensics.report.quantities import many, size, span, utc

_COUNTS = ("flows", "linked", "clients", "sites", "packets")


def group_view(table: pd.DataFrame, *, top: int) -> RenderableType:
    """The groups of :func:`vpnforensics.report.questions.grouped_by`.

    Parameters
    ----------
    table : DataFrame
    top : int
        Rows that are shown.
    """
    key = next(name for name in ("client", "site", "from") if name in table.columns)
    title = "by time, UTC" if key == "from" else many(int(table[key].notna().sum()), key)
    shown = plain_table(title=Text(title, style="bold"))
    shown.add_column(key, no_wrap=True)
    with_users = "user" in table.columns and table["user"].notna().any()
    if with_users:
        shown.add_column("user", no_wrap=True)
    counts = [name for name in _COUNTS if name in table.columns]
    for name in (*counts, "bytes"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("first", no_wrap=True)
    shown.add_column("lasts", justify="right", no_wrap=True)
    for row in plain_rows(table.head(top)):
        cells = [_name(row[key])]
        if with_users:
            cells.append(Text(visible(row["user"] or "–")))
        cells += [Text(f"{row[name]:,}") for name in counts]
        cells += [Text(size(row["bytes"])), Text(utc(row["first_ns"])[11:19])]
        cells.append(Text(span(row["last_ns"] - row["first_ns"])))
        shown.add_row(*cells)
    return Group(shown, *more_line(len(table) - top))


def _name(value: str | None) -> Text:
    return Text("not linked", style="dim") if value is None else Text(visible(value))
