"""``vpnf engines``: what each engine goes by, and when it holds its tongue."""

from __future__ import annotations

from dataclasses import asdict

import click
from click.shell_completion import CompletionItem

from vpnforensics.cli.output import Output
from vpnforensics.cli.session import Session, output_options, pass_session, talk_options
from vpnforensics.engines.plugged import all_engines, installed
from vpnforensics.engines.registry import ENGINES


def known_engines(context: click.Context, option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, if there are such engines and they work; other packages are looked into only for one of
    theirs.
    """
    for name in names:
        if name in ENGINES:
            continue
        if (broken := installed().broken.get(name)) is not None:
            raise click.BadParameter(str(broken), context, option)
        if name not in (there := all_engines()):
            raise click.BadParameter(f"{name!r} is not one of {', '.join(there)}.", context, option)
    return tuple(dict.fromkeys(names))


def completed(context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
    """Engines, for the shell."""
    return [CompletionItem(name) for name in all_engines() if name.startswith(begun)]


@click.command()
@output_options("table", "json")
@talk_options
@pass_session
def engines(session: Session, form: str, target: str) -> None:
    """List the engines: evidence, needs, when each speaks and when it is silent.

    Those that other packages bring are among them.
    """
    output = Output(target)
    for broken in installed().broken.values():
        session.talk.warn(str(broken))
    if form == "json":
        from vpnforensics.report.escaping import json_text

        output.write([json_text([asdict(engine) for engine in all_engines().values()], indent=1) + "\n"])
        return
    from rich.console import Group, RenderableType
    from rich.text import Text

    from vpnforensics.report.layout import plain_grid

    parts: list[RenderableType] = []
    for engine in all_engines().values():
        grid = plain_grid()
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        for heading, text in (
            ("evidence", engine.evidence),
            ("needs", engine.needs),
            ("speaks when", engine.speaks_when),
            ("silent when", engine.silent_when),
            ("after", engine.source),
            ("from", engine.package or ""),
        ):
            if not text:
                continue
            grid.add_row(heading, Text(text))
        parts += [Text(engine.name, style="bold"), grid, Text()]
    output.show(Group(*parts[:-1]))
