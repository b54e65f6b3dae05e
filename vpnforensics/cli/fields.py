"""``vpnf clocks``, ``vpnf ipids`` and ``vpnf devices``: what the header fields of one capture say."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from vpnforensics.report.escaping import json_text, visible
from vpnforensics.report.findings import clock_set
from vpnforensics.report.quantities import many

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from rich.console import RenderableType

    from vpnforensics.cli.terminal import Talk
    from vpnforensics.features.clock_table import ClockTable
    from vpnforensics.features.senders import Senders
    from vpnforensics.packets.table import PacketTable

_NUMERIC = {"packets", "seconds", "Hz", "skew, ppm", "95 %", "steps of 1", "missing", "zero", "flows"}
_ENDS = {"sender", "to"}
"""Columns of the tables, by what stands in them."""
_top = click.option(
    "--top", type=click.IntRange(1), default=40, show_default=True, metavar="N", help="Rows the table shows."
)


@click.command()
@click.argument("file")
@output_options("table", "json", "csv")
@click.option("--plot", "picture", metavar="FILE.png", help="Draw the clocks, too.")
@_top
@select_option
@reading_options
@talk_options
@pass_session
def clocks(
    session: Session,
    file: str,
    form: str,
    target: str,
    picture: str | None,
    top: int,
    strict: bool,
    decap: str,
    select: str,
) -> None:
    """Tick rate, rate error and leaps of each sender's TCP timestamp clock.

    The skew is against the clock of the capture. A line needs a minute and 20
    packets; the reason stands where there is none.
    """
    output = Output(target, [file])
    drawing = _Drawing(picture, file, target) if picture is not None else None
    with session.talk.progress("correlate") as show:
        packets = read(file, strict=strict, decap=decap, select=select, show=show)
        from vpnforensics.features.capture_clock import capture_steps, on_one_clock
        from vpnforensics.features.clock_table import clock_table

        steps = capture_steps(packets)  # what all senders share is none of theirs
        senders = _senders(on_one_clock(packets, steps), show)
        show("reading clocks", 0.0)
        table = clock_table(senders)
        frame = table.to_pandas()
    if drawing is not None:
        drawing.write(table, session.talk)
    for step in steps:
        leap = f"{clock_set(step.at_ns, step.size_ns)}: {step.senders} senders leap at once"
        session.talk.warn(f"{leap}; their clocks are read as if it had not been")
    if form != "table":
        _write(output, frame, form)
        return
    frame = frame.sort_values(["skew_ppm", "packets"], ascending=[True, False], kind="stable")
    rows = [
        {
            "sender": row["sender"],
            "to": row["peer"],
            "packets": f"{row['packets']:,}",
            "seconds": f"{row['seconds']:.0f}",
            "Hz": _number(row["hz"], "g"),
            "skew, ppm": _number(row["skew_ppm"], "+.2f"),
            "95 %": "" if row["skew_ppm"] is None else _interval(row["low_ppm"], row["high_ppm"]),
            "agree": {True: "yes", False: "no"}.get(row["agree"], ""),
            "remarks": row["breaks"] or row["reason"],
        }
        for row in _plain(frame.head(top))
    ]
    title = (
        f"{many(len(frame), 'sender')} with timestamps, {int(frame['skew_ppm'].notna().sum())} with a line"
    )
    output.show(_view(title, rows, len(frame) - top, table.silence))


class _Drawing:
    """The target of ``--plot``, checked before the work starts, as that of ``-o`` is."""

    def __init__(self, picture: str, file: str, target: str) -> None:
        from matplotlib.backend_bases import FigureCanvasBase

        self.form = Path(picture).suffix[1:].lower()
        if self.form not in FigureCanvasBase.get_supported_filetypes():
            raise click.UsageError(f"--plot: no kind of picture is named {visible(picture)}; .png is one")
        if target != "-" and Path(picture).resolve() == Path(target).resolve():
            raise click.UsageError(f"--plot and -o both name {visible(target)}")
        self.output = Output(picture, [file])

    def write(self, clocks: ClockTable, talk: Talk) -> None:
        """Draw, whole or not at all; a capture without a clock is no error, its table says why."""
        try:
            figure = clocks.plot().ax.figure
        except ValueError as error:
            talk.warn(f"{self.output.path}: not drawn: {error}")
            return
        drawn = BytesIO()
        figure.savefig(drawn, format=self.form, dpi=150)  # type: ignore[union-attr]
        self.output.write([drawn.getvalue()])


@click.command()
@click.argument("file")
@output_options("table", "json", "csv")
@_top
@select_option
@reading_options
@talk_options
@pass_session
def ipids(
    session: Session, file: str, form: str, target: str, top: int, strict: bool, decap: str, select: str
) -> None:
    """What each address counts in its IPv4 ID field: nothing, all packets, those to one host, one flow's.

    Behind a NAT an address is several hosts: see `vpnf devices`.
    """
    output = Output(target, [file])
    with session.talk.progress("correlate") as show:
        senders = _senders(read(file, strict=strict, decap=decap, select=select, show=show), show)
        from vpnforensics.features.ip_id import ip_id_table

        show("reading IP IDs", 0.0)
        frame = ip_id_table(senders).to_pandas()
    if form != "table":
        _write(output, frame, form)
        return
    if len(frame):
        frame = frame.sort_values("packets", ascending=False, kind="stable")
    rows = [
        {
            "address": row["address"],
            "packets": f"{row['packets']:,}",
            "of": row["kind"],
            "class": row["class"],
            "scope": row["scope"] or "",
            "steps of 1": _number(row["increments"], ".1%"),
            "missing": _number(row["missing"], ",.0f"),
            "zero": _number(row["zero_share"], ".0%"),
            "remarks": row["reason"],
        }
        for row in _plain(frame.head(top))
    ]
    output.show(_view(f"{many(len(frame), 'sender')} of IP IDs", rows, len(frame) - top, {}))


@click.command()
@click.argument("file")
@output_options("table", "json", "csv")
@_top
@select_option
@reading_options
@talk_options
@pass_session
def devices(
    session: Session, file: str, form: str, target: str, top: int, strict: bool, decap: str, select: str
) -> None:
    """Group flows by the operating system that sent them: common clocks and counters.

    A flow that nothing ties to another is not told; it may belong to any
    device. Two groups may be one device.
    """
    output = Output(target, [file])
    with session.talk.progress("correlate") as show:
        senders = _senders(read(file, strict=strict, decap=decap, select=select, show=show), show)
        from vpnforensics.features.devices import find_devices

        show("grouping flows", 0.0)
        found = find_devices(senders)
        frame = found.to_pandas()
    if form != "table":
        _write(output, frame, form)
        return
    told = frame[frame["device"].notna()]
    rows = [
        {
            "device": str(name),
            "flows": f"{len(members):,}",
            "packets": f"{int(members['packets'].sum()):,}",
            "address": ", ".join(sorted({s.rpartition(":")[0] for s in members["src"]})[:3]),
            "clock offset": ", ".join(sorted({s for s in members["scope"] if isinstance(s, str)})),
            "first flows": ", ".join(members["flow"].head(6)),
        }
        for name, members in told.groupby("device", sort=False)
    ]
    title = f"{many(found.count, 'group')}: {len(told):,} of {many(len(frame), 'flow')} told"
    remarks = found.silence | dict.fromkeys(found.notes, 0)
    output.show(_view(title, rows[:top], len(rows) - top, remarks))


def _senders(packets: PacketTable, show: Callable[[str, float], None]) -> Senders:
    from vpnforensics.features.senders import find_senders
    from vpnforensics.flows.assemble import assemble_flows

    show("assembling flows", 0.0)
    return find_senders(assemble_flows(packets))


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    from vpnforensics.report.dataframes import plain_rows

    return plain_rows(frame)


def _write(output: Output, frame: pd.DataFrame, form: str) -> None:
    from vpnforensics.report.forms import csv_form

    if form == "csv":
        output.write(csv_form(frame))
    else:
        output.write([json_text(_plain(frame), indent=1) + "\n"])


def _interval(low_ppm: float, high_ppm: float) -> str:
    """An interval; a bound at which the search ended is none."""
    from vpnforensics.features.clock_fit import WIDEST_PPM

    low, high = (f"{x:+.2f}" if abs(x) < WIDEST_PPM else "" for x in (low_ppm, high_ppm))
    if low and high:
        return f"{low} … {high}"
    return f"at least {low}" if low else f"at most {high}" if high else "not bounded"


def _number(value: float | None, form: str) -> str:
    return "" if value is None or value != value else format(value, form)


def _view(title: str, rows: list[dict[str, str]], rest: int, silence: dict[str, int]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from vpnforensics.report.layout import Endpoint, more_line, plain_table

    parts: list[RenderableType] = [Text(title, style="bold")]
    if rows:  # a table without columns would show no title
        table = plain_table(title=title)
        for name in rows[0]:
            table.add_column(name, justify="right" if name in _NUMERIC else "left", no_wrap=name in _NUMERIC)
        for row in rows:
            cells = row.items()
            table.add_row(*(Endpoint(c) if name in _ENDS else Text(visible(c)) for name, c in cells))
        parts = [table]
    parts += more_line(rest)
    parts += [
        Text(f"{count:,} × {reason}" if count else reason, style="dim")
        for reason, count in silence.items()
        if count or reason
    ]
    return Group(*parts)
