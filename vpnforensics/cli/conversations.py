"""``vpnf flows`` and ``vpnf tunnels``: the conversations of one capture, and which of them are tunnels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vpnforensics.cli.output import Output
from vpnforensics.cli.reading import read
from vpnforensics.cli.session import (
    Session,
    output_options,
    pass_session,
    reading_options,
    select_option,
    talk_options,
)
from vpnforensics.report.escaping import json_text
from vpnforensics.report.quantities import many, size, span

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

_WIDE = 120
"""Columns from which tables say more."""
_top = click.option(
    "--top", type=click.IntRange(1), default=40, show_default=True, metavar="N", help="Rows the table shows."
)


@click.command()
@click.argument("file")
@output_options("table", "json", "csv")
@_top
@select_option
@reading_options
@talk_options
@pass_session
def flows(
    session: Session, file: str, form: str, target: str, top: int, strict: bool, decap: str, select: str
) -> None:
    """List the conversations in a capture: bidirectional five-tuples, split on reuse and silence.

    Flow ids are those of `vpnf correlate IN FILE`. Names are those that flows of
    a decrypted capture say, and those that lookups in it gave their addresses.
    """
    output = Output(target, [file])
    with session.talk.progress("flows") as show:
        packets = read(file, strict=strict, decap=decap, select=select, show=show)
        import numpy as np
        import pandas as pd

        from vpnforensics.features.names.find import find_names
        from vpnforensics.features.names.lookups import name_rows, unread_names
        from vpnforensics.flows.assemble import assemble_flows
        from vpnforensics.flows.copies import without_copies
        from vpnforensics.report.rows import PROTOCOL_NAMES

        show("assembling flows", 0.0)
        conversations = assemble_flows(without_copies(packets).packets)
        frame = conversations.to_pandas()
        show("reading names", 0.0)
        names = find_names(conversations)
        one_client = np.zeros(len(conversations), np.int64)
        frame["names"] = pd.Series(name_rows(conversations, names, one_client), dtype=object)
    for said in unread_names(names, file):
        session.talk.warn(f"warning: {said}")
    frame["proto"] = [PROTOCOL_NAMES.get(p, str(p)) for p in frame["proto"].tolist()]
    if form == "table":
        output.show(_flows_view(frame, top, output.width))
        return
    if form == "csv":
        frame["names"] = [" ".join(row["name"] for row in told) for told in frame["names"]]
    _write(output, frame, form)


@click.command()
@click.argument("file")
@output_options("table", "json", "csv")
@_top
@select_option
@reading_options
@talk_options
@pass_session
def tunnels(
    session: Session, file: str, form: str, target: str, top: int, strict: bool, decap: str, select: str
) -> None:
    """List the VPN tunnels and relays in a capture, and conversations that may be one.

    A candidate (confidence below 0.5) becomes a tunnel only where `vpnf
    correlate` finds traffic that it carried.
    """
    output = Output(target, [file])
    with session.talk.progress("tunnels") as show:
        packets = read(file, strict=strict, decap=decap, select=select, show=show)
        import numpy as np

        from vpnforensics.flows.assemble import assemble_flows
        from vpnforensics.flows.copies import without_copies
        from vpnforensics.tunnels.carriers import list_tunnels

        show("finding tunnels", 0.0)
        packets = without_copies(packets).packets
        found = list_tunnels(assemble_flows(packets, idle_tcp_s=np.inf, idle_other_s=np.inf))
        frame = found.to_pandas()
    for broken in found.unheard:
        session.talk.warn(broken)
    if form == "table":
        output.show(_tunnels_view(frame, top, output.width))
    else:
        _write(output, frame, form)


def _write(output: Output, frame: pd.DataFrame, form: str) -> None:
    from vpnforensics.report.dataframes import plain_rows
    from vpnforensics.report.forms import csv_form

    if form == "csv":
        output.write(csv_form(frame))
    else:
        output.write([json_text(plain_rows(frame), indent=1) + "\n"])


def _flows_view(frame: pd.DataFrame, top: int, width: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from vpnforensics.report.dataframes import plain_rows
    from vpnforensics.report.layout import Endpoint, more_line, plain_table
    from vpnforensics.report.naming import looked_up_line, surest_names

    table = plain_table(title=many(len(frame), "flow"))
    table.add_column("flow", no_wrap=True)
    table.add_column("proto", no_wrap=True)
    table.add_column("source")
    table.add_column("destination")
    names = surest_names(frame.head(top)) if width >= _WIDE else {}
    if names:
        table.add_column("name")
    for heading in ("up", "down", "bytes", "lasts"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in plain_rows(frame.head(top)):
        table.add_row(
            row["id"],
            row["proto"],
            Endpoint(row["src"]),
            Endpoint(row["dst"]),
            *([Text(names.get(row["id"], ""))] if names else []),
            f"{row['packets_up']:,}",
            f"{row['packets_down']:,}",
            size(row["bytes"]),
            span(row["last_ns"] - row["first_ns"]),
        )
    return Group(table, *more_line(len(frame) - top), *looked_up_line(names))


def _tunnels_view(frame: pd.DataFrame, top: int, width: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from vpnforensics.report.dataframes import plain_rows
    from vpnforensics.report.layout import Endpoint, more_line, plain_table

    sure = frame["confidence"] >= 0.5
    candidates = int((~sure).sum())
    title = many(int(sure.sum()), "tunnel")
    if candidates:
        title += f", {many(candidates, 'candidate')}"
    table = plain_table(title=title)
    table.add_column("tunnel", no_wrap=True)
    table.add_column("client")
    table.add_column("server")
    table.add_column("protocol")
    for heading in ("sure", "up", "down", "lasts"):
        table.add_column(heading, justify="right", no_wrap=True)
    if width >= _WIDE:
        table.add_column("outer length", no_wrap=True)
    for row in plain_rows(frame.head(top)):
        name = f"{row['protocol']} {row['variant']}".strip()
        cells = [
            name,
            f"{row['confidence']:.2f}",
            f"{row['packets_up']:,}",
            f"{row['packets_down']:,}",
            span(row["last_ns"] - row["first_ns"]),
        ]
        cells += [row["length_map"]] if width >= 120 else []
        ends = Endpoint(row["client"]), Endpoint(row["server"])
        table.add_row(row["id"], *ends, *map(Text, cells), style="" if row["confidence"] >= 0.5 else "dim")
    return Group(table, *more_line(len(frame) - top))
