"""``vpnf info`` and ``vpnf packets``: what is in a capture, before any judgement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from vpnforensics.capture.encapsulations import NAMES, TITLES
from vpnforensics.capture.health import CaptureHealth
from vpnforensics.cli.errors import DAMAGED, DONE, UNREADABLE, DamagedInputError
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
from vpnforensics.errors import CaptureError
from vpnforensics.report.escaping import json_text, visible
from vpnforensics.report.findings import findings
from vpnforensics.report.quantities import many, size, span, utc

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from vpnforensics.packets.table import PacketTable

_SHOWN = 40
"""Packets in a table on a screen, unless asked for more."""
_CSV_COLUMNS = (
    "path",
    "sha256",
    "bytes",
    "format",
    "linktypes",
    "decap",
    "packets",
    "first_ns",
    "last_ns",
    "ip_bytes",
    "duration_ns",
    "packets_per_s",
    "bits_per_s",
    *(count.name for count in fields(CaptureHealth)),
)
"""Columns of ``info -f csv``; the header stands even where no file can be read."""


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@output_options("table", "json", "csv")
@select_option
@reading_options
@talk_options
@pass_session
def info(
    session: Session, files: tuple[str, ...], form: str, target: str, strict: bool, decap: str, select: str
) -> int:
    """Say what each capture holds: format, link types, span, rates, health, digest.

    A FILE that cannot be read, or that --strict refuses, is named on standard
    error; the others are shown, and the exit code is 3, or 4 if all can be read.
    """
    output = Output(target, files)
    rows, code = [], DONE
    with session.talk.progress("info") as show:
        for path in files:
            try:
                rows.append(
                    _info_row(
                        read(
                            path, strict=strict, decap=decap, select=select, show=show, step=f"reading {path}"
                        )
                    )
                )
            except CaptureError as error:
                session.talk.error(str(error))
                code = UNREADABLE
            except DamagedInputError as error:
                session.talk.error(str(error))
                code = code or DAMAGED
    if form == "json":
        output.write([json_text(rows, indent=1) + "\n"])
    elif form == "csv":
        output.write(_flat_csv(rows))
    elif rows:
        output.show(_info_view(rows))
    return code


def _info_row(packets: PacketTable) -> dict[str, Any]:
    """One capture as in the result contract, with its rates."""
    from vpnforensics.report.inputs import input_row

    row = input_row("", packets)
    del row["role"]
    length_ns = row["last_ns"] - row["first_ns"] if row["packets"] else 0
    ip_bytes = int(packets.ip_len_bytes.sum())
    row["ip_bytes"] = ip_bytes
    row["duration_ns"] = length_ns
    row["packets_per_s"] = round(len(packets) * 1e9 / length_ns, 3) if length_ns else None
    row["bits_per_s"] = round(ip_bytes * 8e9 / length_ns, 3) if length_ns else None
    return row


def _flat_csv(rows: list[dict[str, Any]]) -> Iterator[str]:
    import pandas as pd

    from vpnforensics.report.forms import csv_form

    flat = []
    for row in rows:
        health = row["health"] or {}
        flat.append({**row, "linktypes": " ".join(row["linktypes"]), **health})
        del flat[-1]["health"]
    # As objects: a name that is no UTF-8 is no string for pandas.
    return csv_form(pd.DataFrame(flat, columns=list(_CSV_COLUMNS), dtype=object))


def _info_view(rows: list[dict[str, Any]]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from vpnforensics.report.layout import plain_grid

    parts: list[RenderableType] = []
    for row in rows:
        grid = plain_grid()
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        linktypes = "/".join(map(visible, row["linktypes"])) or "no link type"
        wrapping = TITLES[NAMES.index(row["decap"])] if row["health"]["unwrapped"] else ""
        grid.add_row(
            "format", f"{row['format']}, {linktypes}" + (f", read out of {wrapping}" if wrapping else "")
        )
        grid.add_row("stored", f"{size(row['bytes'])} ({row['bytes']:,} bytes)")
        grid.add_row("packets", f"{row['packets']:,} IP, {size(row['ip_bytes'])}")
        if chosen := row["selection"]:
            grid.add_row("of", f"{chosen['of']:,} IP packets captured: {visible(chosen['which'])}")
        if row["packets"]:
            grid.add_row("first", utc(row["first_ns"]))
            grid.add_row("last", f"{utc(row['last_ns'])} ({span(row['duration_ns'])} later)")
        if row["packets_per_s"] is not None:
            grid.add_row(
                "rate", f"{row['packets_per_s']:,.1f} packets/s, {row['bits_per_s'] / 1e6:,.3f} Mbit/s"
            )
        grid.add_row("sha256", row["sha256"])
        styles = {"damage": "bold red", "warning": "yellow", "note": ""}
        found = findings(row["health"] or {})
        grid.add_row("health", Text("nothing amiss", style="green") if not found else "")
        for finding in found:
            grid.add_row("", Text(finding.text, style=styles[finding.severity]))
        parts += [Text(visible(row["path"]), style="bold"), grid, Text()]
    return Group(*parts[:-1])


@click.command()
@click.argument("file")
@click.option("-n", "--number", type=click.IntRange(1), metavar="N", help="Only the first N packets.")
@output_options("table", "csv", "jsonl", "parquet")
@select_option
@reading_options
@talk_options
@pass_session
def packets(
    session: Session,
    file: str,
    number: int | None,
    form: str,
    target: str,
    strict: bool,
    decap: str,
    select: str,
) -> None:
    """Print the packet table of a capture.

    csv, jsonl and parquet have every column and packet; the table shows the
    first 40 packets, or as many as -n says.
    """
    output = Output(target, [file])
    if form == "parquet":
        output.refuse_terminal("parquet")
        import pyarrow  # noqa: F401 - its absence should show before the work, not after
    with session.talk.progress("info") as show:
        table = read(file, strict=strict, decap=decap, select=select, show=show)
    count = number if number is not None else _SHOWN if form == "table" else len(table)
    first = table.take(slice(0, count))
    if form == "table":
        output.show(_packets_view(first, len(table)))
        return
    from vpnforensics.report import forms

    frame = _printable(first)
    if form == "csv":
        output.write(forms.csv_form(frame))
    elif form == "jsonl":
        output.write(forms.jsonl_rows(frame))
    else:
        output.write([forms.parquet_form(frame)])


def _printable(packets: PacketTable) -> pd.DataFrame:
    """All columns; addresses as text, the payload's head as hex."""
    frame = packets.to_pandas()
    for column in ("src", "dst"):
        frame[column] = frame[column].astype(str).astype("string")
    frame["head"] = [row.hex() for row in frame["head"]]
    return frame


def _packets_view(first: PacketTable, total: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from vpnforensics.report.layout import Endpoint, plain_table
    from vpnforensics.report.rows import PROTOCOL_NAMES

    table = plain_table()
    table.add_column("frame", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("source")
    table.add_column("destination")
    table.add_column("proto", no_wrap=True)
    table.add_column("length", justify="right", no_wrap=True)
    table.add_column("ttl", justify="right", no_wrap=True)
    table.add_column("flags", no_wrap=True)
    start = int(first.ts_ns[0]) if len(first) else 0
    ends = first.addresses.endpoint
    for i in range(len(first)):
        proto = int(first.proto[i])
        table.add_row(
            str(first.frame[i]),
            f"{(int(first.ts_ns[i]) - start) / 1e9:+.6f}",
            Endpoint(ends(int(first.src[i]), int(first.sport[i]))),
            Endpoint(ends(int(first.dst[i]), int(first.dport[i]))),
            PROTOCOL_NAMES.get(proto, str(proto)),
            str(first.ip_len_bytes[i]),
            str(first.ttl[i]),
            _flags(int(first.tcp_flags[i])),
        )
    head = f"{many(total, 'IP packet')}; seconds from {utc(start)}" if len(first) else "no IP packets"
    rest = total - len(first)
    more = [Text(f"… and {rest:,} more (-n N shows more, -f csv all)", style="dim")] if rest else []
    return Group(Text(head, style="bold"), table, *more)


def _flags(flags: int) -> str:
    """TCP flags, one letter each, as tcpdump writes them."""
    return "".join(letter for bit, letter in enumerate("FSRP.UEWe") if flags >> bit & 1)
