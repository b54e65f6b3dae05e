"""``vpnf show`` and ``vpnf verify``: a saved case again, and whether it still holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vpnforensics.cli.answering import FORMS, answer, question_options
from vpnforensics.cli.errors import DAMAGED, DONE
from vpnforensics.cli.output import Output
from vpnforensics.cli.session import Session, output_options, pass_session, talk_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vpnforensics.saved import FoundFile

_MOST_DIFFERENCES = 20


@click.command()
@click.argument("case", metavar="CASE.json")
@output_options(*FORMS)
@question_options
@talk_options
@pass_session
def show(session: Session, /, case: str, form: str, target: str, **asked: Any) -> None:
    """Show a case that `vpnf correlate -f json` saved, or answer a question to it.

    The captures are needed for --explain, --filter and -f html only: they are
    looked for where they were, and beside CASE.json.
    """
    output = Output(target, [case])
    if form == "parquet":
        output.refuse_terminal("parquet")
        import pyarrow  # noqa: F401 - its absence should show before the work, not after
    from vpnforensics.saved import open_case

    answer(session, open_case(case), output, form, asked)


@click.command()
@click.argument("case", metavar="CASE.json")
@click.option("--ingress", multiple=True, metavar="FILE", help="Where a file of the ingress side is now.")
@click.option("--egress", multiple=True, metavar="FILE", help="Likewise of the egress side.")
@click.option("--logs", multiple=True, metavar="FILE", help="Likewise of a usage log.")
@click.option("--zeek", multiple=True, metavar="FILE", help="Likewise of a log of Zeek.")
@click.option("--digests", is_flag=True, help="Only take the digests; do not correlate anew.")
@output_options("table", "json")
@talk_options
@pass_session
def verify(
    session: Session,
    case: str,
    ingress: tuple[str, ...],
    egress: tuple[str, ...],
    logs: tuple[str, ...],
    zeek: tuple[str, ...],
    digests: bool,
    form: str,
    target: str,
) -> int:
    """Say whether a saved case still holds: its captures' digests, and its result.

    The SHA-256 of each capture and log is taken anew, and the case made again with the options
    written in it. Exit code 4 if a file is gone or changed, or the result is
    another one.
    """
    output = Output(target, [case, *ingress, *egress, *logs, *zeek])
    from vpnforensics.saved import differences, excerpt_of, found_files, open_case, recomputed

    saved = open_case(case).to_dict()
    moved = {"ingress": ingress, "egress": egress, "log": logs, "zeek": zeek}
    files = found_files(saved, Path(case).parent, moved)
    whole = bool(files) and all(file.unchanged for file in files)
    found: list[str] | None = None
    if whole and not digests:
        with session.talk.progress("correlate") as tell:
            anew = recomputed(saved, files, tell)
        found = list(differences(saved, excerpt_of(anew, saved)))
    if form == "json":
        from vpnforensics.report.escaping import json_text

        rows = [
            {**file.recorded, "role": file.role, "found": str(file.path), "state": file.state}
            for file in files
        ]
        output.write([json_text({"files": rows, "differences": found}, indent=1) + "\n"])
    else:
        output.show(_view(saved, files, found))
    return DONE if whole and not found else DAMAGED


def _view(saved: dict[str, Any], files: Sequence[FoundFile], found: list[str] | None) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from vpnforensics._version import __version__
    from vpnforensics.report.escaping import visible
    from vpnforensics.report.layout import plain_grid
    from vpnforensics.report.provenance import commit, made_by
    from vpnforensics.report.quantities import many

    grid = plain_grid()
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for file in files:
        style = "green" if file.unchanged else "bold red"
        grid.add_row(file.role, Text(visible(file.path), style="bold"))
        grid.add_row("", Text(file.state, style=style))
    if not files:
        grid.add_row("captures", Text("made from packets that were in no file", style="bold red"))
    grid.add_row("made by", Text(visible(made_by(saved["tool"]))))
    here = commit()
    if (saved["tool"]["version"], saved["tool"]["commit"]) != (__version__, here):
        grid.add_row("here", Text(f"vpnforensics {__version__}" + (f" (commit {here})" if here else "")))
    if found is None:
        said = Text("not made again", style="yellow")
    elif found:
        said = Text(f"another one: {many(len(found), 'difference')}", style="bold red")
    else:
        said = Text("the same when made again", style="green")
    grid.add_row("result", said)
    lines = [Text(f"· {visible(each)}") for each in (found or [])[:_MOST_DIFFERENCES]]
    more = len(found or []) - len(lines)
    if more > 0:
        lines.append(Text(f"… and {more:,} more (-f json has all)", style="dim"))
    return Group(grid, *lines)
