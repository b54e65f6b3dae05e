"""``vpnf validate``: how good the evidence is, on captures whose truth is known."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vpnforensics.cli.errors import OutputError
from vpnforensics.cli.output import Output, refuse_used
from vpnforensics.cli.session import Session, pass_session, talk_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vpnforensics.validation.baselines.table import Timed
    from vpnforensics.validation.damage import Damage
    from vpnforensics.validation.sessions import Session as Recorded

OTHER_CLOCK = (4393.217, 40.0)
"""Seconds that a damaged egress clock is ahead, and ppm that it drifts."""
_FORMS = {"report.json": "json", "report.html": "html", "report.txt": "table"}


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option(
    "-f", "--format", "form", type=click.Choice(("table", "json", "html")), default="table",
    show_default=True, help="Form of the report, where -o names no folder.",
)  # fmt: skip
@click.option(
    "-o", "--output", "target", default="-", metavar="WHERE",
    help="An empty or new folder for all forms and pictures (SVG); else a file; - is standard output.",
)  # fmt: skip
@click.option(
    "--jitter", "jitters", multiple=True, type=click.FloatRange(0), metavar="MS",
    help="Each session damaged, too: another clock, loss, jitter of this standard deviation at egress;"
    " may be given several times.",
)  # fmt: skip
@click.option(
    "--loss", type=click.FloatRange(0, 0.9), default=0.01, show_default=True, metavar="SHARE",
    help="Of either side's packets, in damaged cases.",
)  # fmt: skip
@click.option("--missing", is_flag=True, help="Each case once more with one client's packets not at ingress.")
@click.option(
    "--repeat", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Of each damage."
)
@click.option(
    "--expected-false-links", type=click.FloatRange(0, min_open=True, max=1e6), default=0.01,
    show_default=True, metavar="X", help="As `vpnf correlate` takes it, in each case.",
)  # fmt: skip
@click.option(
    "--baselines", "compared", is_flag=True,
    help="Beside it, what others do: RAPTOR's Spearman, binned volume, counts, header fields.",
)  # fmt: skip
@click.option(
    "--networks", metavar="FILE", type=click.Path(path_type=Path),
    help="With --baselines, also networks that `vpnf train-baselines` trained.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seeds all sampling.")
@talk_options
@pass_session
def validate(
    session: Session,
    folders: tuple[Path, ...],
    form: str,
    target: str,
    jitters: tuple[float, ...],
    loss: float,
    missing: bool,
    repeat: int,
    expected_false_links: float,
    compared: bool,
    networks: Path | None,
    seed: int,
) -> None:
    """Hold the evidence against captures whose truth is known.

    DIR is a folder with ingress, egress and truth.json (from `vpnf lab`, `vpnf
    simulate`, the samples, or your own in that form), or a folder of such. The
    report says for each engine, and fused, what its likelihood ratios are worth:
    Cllr and its parts, Tippett, DET, reliability, ECE and NBE curves, misleading
    evidence, hits at stated false positive rates, all by condition; stated beside
    observed errors; and the comparisons that mislead most with their packets.

    Copies of one recording are one session. Intervals go over sessions, and a
    false positive rate that the comparisons cannot support is refused.
    """
    folder = _folder(target) if target != "-" and not Path(target).suffix else None
    output = None if folder is not None else Output(target)
    if folder is not None or form == "html":
        import matplotlib  # noqa: F401 - its absence should show before the work, not after
    with session.talk.progress("correlate") as show:
        from vpnforensics.options import Options
        from vpnforensics.validation.baselines.table import all_timed
        from vpnforensics.validation.report import gather, report
        from vpnforensics.validation.sessions import open_sessions
        from vpnforensics.validation.trials import every

        options = Options(expected_false_links=expected_false_links, seed=seed)
        sessions = open_sessions(folders)
        plan = every(sessions, _damages(jitters, loss, missing, repeat))
        baselines = all_timed() if compared or networks else {}
        if networks is not None:
            baselines |= _trained(networks, sessions)
        began = time.perf_counter()
        material = gather(plan, options, show, baselines)
        case_s = time.perf_counter() - began - sum(each.took_s for each in baselines.values())
        show("reckoning", 1.0)
        document = report(material, options, session.argv, baselines, case_s)
    if folder is not None:
        _write_all(folder, document)
        session.talk.warn(f"{folder}: {', '.join(_FORMS)} and pictures")
        return
    assert output is not None
    _write(output, form, document)


def _trained(path: Path, sessions: Sequence[Recorded]) -> dict[str, Timed]:
    import jax  # noqa: F401 - its absence should show before the work, not after

    from vpnforensics.validation.baselines.networks.training import refuse_trained_on, timed
    from vpnforensics.validation.baselines.networks.weights import load

    networks = load(path)
    refuse_trained_on(networks, sessions)
    return timed(networks)


def _damages(jitters: tuple[float, ...], loss: float, missing: bool, repeat: int) -> list[Damage]:
    from dataclasses import replace

    from vpnforensics.validation.damage import Damage

    offset_s, drift_ppm = OTHER_CLOCK
    damages = [Damage()]
    damages += [
        Damage(jitter, loss, offset_s, drift_ppm, seed=seed)
        for jitter in jitters
        for seed in range(1, repeat + 1)
    ]
    return damages + [replace(each, without="*") for each in damages if missing]


def _folder(target: str) -> Path:
    """A folder that is new or empty."""
    folder = Path(target)
    refuse_used(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from error
    return folder


def _write_all(folder: Path, document: Mapping[str, Any]) -> None:
    from vpnforensics.validation.plots import pictures

    for name, form in _FORMS.items():
        _write(Output(str(folder / name)), form, document)
    for name, drawn in pictures(document).items():
        Output(str(folder / f"{name}.svg")).write([drawn])


def _write(output: Output, form: str, document: Mapping[str, Any]) -> None:
    if form == "json":
        from vpnforensics.report.escaping import json_text

        output.write([json_text(document, indent=1) + "\n"])
    elif form == "html":
        from vpnforensics.validation.html import html_form

        output.write(html_form(document))
    else:
        output.show(_view(document))


def _view(document: Mapping[str, Any]) -> RenderableType:
    """The tables as rich renders them."""
    from rich.console import Group
    from rich.text import Text

    from vpnforensics.report.escaping import visible
    from vpnforensics.report.layout import plain_table, whole_line
    from vpnforensics.validation.misleading import misleading_tables
    from vpnforensics.validation.tables import tables

    parts: list[RenderableType] = []
    for warning in document["warnings"]:
        parts += [whole_line(Text(f"! {warning}")), Text()]
    for table in (*tables(document), *misleading_tables(document)):
        made = plain_table(title=Text(visible(table.caption)))
        for heading in table.headings:
            made.add_column(heading)
        for row in table.rows:
            made.add_row(*(Text(visible(cell)) for cell in row))
        parts += [made, whole_line(Text(visible(table.note), style="dim")), Text()]
    return Group(*parts)
