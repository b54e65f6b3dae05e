"""``vpnf engines``: what each engine goes by, and when it holds its tongue."""

from __future__ import annotations

from dataclasses import asdict

import click

from vpnforensics.cli.output import Output
from vpnforensics.cli.session import output_options, talk_options
from vpnforensics.engines.registry import ENGINES


@click.command()
@output_options("table", "json")
@talk_options
def engines(form: str, target: str) -> None:
    """List the engines: evidence, needs, when each speaks and when it is silent."""
    output = Output(target)
    if form == "json":
        from vpnforensics.report.escaping import json_text

        output.write([json_text([asdict(engine) for engine in ENGINES.values()], indent=1) + "\n"])
        return
    from rich.console import Group, RenderableType
    from rich.text import Text

    from vpnforensics.report.layout import plain_grid

    parts: list[RenderableType] = []
    for engine in ENGINES.values():
        grid = plain_grid()
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        for heading, text in (
            ("evidence", engine.evidence),
            ("needs", engine.needs),
            ("speaks when", engine.speaks_when),
            ("silent when", engine.silent_when),
            ("after", engine.source),
        ):
            grid.add_row(heading, Text(text))
        parts += [Text(engine.name, style="bold"), grid, Text()]
    output.show(Group(*parts[:-1]))
