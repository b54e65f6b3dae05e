"""``vpnf logs``: the sessions in the usage logs of VPN servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vpnforensics.cli.output import Output
from vpnforensics.cli.session import Session, output_options, pass_session, talk_options
from vpnforensics.report.escaping import json_text, visible
from vpnforensics.report.quantities import many, size, span, utc

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vpnforensics.logs.session import LogBook, LogFile
    from vpnforensics.logs.session import Session as LoggedSession

F = TypeVar("F", bound=Callable[..., Any])
_MEDIUM, _WIDE = 96, 132


def log_time_options(command: F) -> F:
    """``--log-zone`` and ``--log-year``: what the times in logs leave out."""
    command = click.option(
        "--log-year", type=click.IntRange(1970, 2200), default=None, metavar="YEAR",
        help="Year of a log's last line, where lines leave it out.",
    )(command)  # fmt: skip
    return click.option(
        "--log-zone", default="", metavar="ZONE",
        help="Zone of times that state none: +02:00, or a name as Europe/Vienna. UTC by default.",
    )(command)  # fmt: skip


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@output_options("table", "json", "csv")
@log_time_options
@click.option(
    "--top", type=click.IntRange(1), default=40, show_default=True, metavar="N", help="Rows the table shows."
)
@talk_options
@pass_session
def logs(
    session: Session,
    files: tuple[str, ...],
    form: str,
    target: str,
    log_zone: str,
    log_year: int | None,
    top: int,
) -> None:
    """List who was connected from where, when, and how much they sent, by a VPN server's own logs.

    OpenVPN (log and status files), WireGuard (dumps of wg, kernel messages),
    strongSwan, ocserv, tinc, FreeRADIUS, sshd, conntrack -E, and the reference
    tunnel; as files, in syslog or from journalctl, mixed, plain, gzip or zstd.
    Lines that are in no known form are counted.
    """
    output = Output(target, files)
    with session.talk.progress("logs") as show:
        show("reading logs", 0.0)
        from vpnforensics.logs.read import read_logs

        book = read_logs(files, zone=log_zone, year=log_year or 0)
    if form == "json":
        output.write([json_text(book.to_dict(), indent=1) + "\n"])
    elif form == "csv":
        from vpnforensics.report.forms import csv_form

        output.write(csv_form(book.to_pandas()))
    else:
        output.show(_view(book, top, output.width))
        return
    for file in book.files:
        for note in file.notes:
            session.talk.warn(f"warning: {visible(file.path)}: {note}")


def _view(book: LogBook, top: int, width: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from vpnforensics.report.layout import Endpoint, more_line, plain_table

    parts: list[RenderableType] = [part for file in book.files for part in _file_lines(file)]
    table = plain_table(title=many(len(book.sessions), "session"))
    table.add_column("user")
    table.add_column("client")
    table.add_column("assigned")
    if width >= _MEDIUM:
        table.add_column("by", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("lasts", justify="right", no_wrap=True)
    for heading in ("received", "sent"):
        table.add_column(heading, justify="right", no_wrap=True)
    if width >= _WIDE:
        table.add_column("told in line", justify="right", no_wrap=True)
    for row in book.sessions[:top]:
        table.add_row(*_cells(row, width, Endpoint, Text))
    if book.sessions:
        parts += [Text(), table, *more_line(len(book.sessions) - top)]
    else:
        parts.append(Text("no session: what remains without a log is what the captures show", style="bold"))
    if book.translations:
        parts.append(Text(f"{many(len(book.translations), 'translated connection')} (-f json lists them)"))
    return Group(*parts)


def _cells(row: LoggedSession, width: int, endpoint: Any, text: Any) -> list[Any]:
    ends = [endpoint(row.endpoint), *(endpoint(f"→ {each}") for each in row.moved_to)]
    from rich.console import Group

    cells = [
        text(visible(row.user) or "–"),
        Group(*ends) if row.moved_to else ends[0],
        text("\n".join(row.assigned)),
    ]
    cells += [text(row.service)] if width >= _MEDIUM else []
    begin = utc(row.begin_ns)[:19] if row.begin_ns is not None else "before the log"
    if row.end_ns is not None and row.begin_ns is not None:
        lasts = span(row.end_ns - row.begin_ns)
    else:
        lasts = f"≥ {span(row.last_ns - row.first_ns)}"
    cells += [text(begin), text(lasts)]
    cells += [text("" if n is None else size(n)) for n in (row.received_bytes, row.sent_bytes)]
    cells += [text(f"{row.line:,}")] if width >= _WIDE else []
    return cells


def _file_lines(file: LogFile) -> list[RenderableType]:
    from rich.text import Text

    line = Text(visible(file.path), style="bold")
    quiet = file.lines - file.used - file.unknown
    told = (
        f"{', '.join(file.formats) or 'no known log'}, {many(file.lines, 'line')}: {file.used:,} of sessions"
    )
    line.append(f"  {told}, {quiet:,} of other things, {file.unknown:,} unknown", style="not bold")
    return [line, *(Text(f"  ! {visible(note)}", style="yellow") for note in file.notes)]
