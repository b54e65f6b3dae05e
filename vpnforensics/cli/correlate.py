"""``vpnf correlate``: which tunnel of one capture carried which flow of the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from vpnforensics.cli.logs import log_time_options
from vpnforensics.cli.output import Output
from vpnforensics.cli.reading import read
from vpnforensics.cli.session import Session, output_options, pass_session, reading_options, talk_options
from vpnforensics.engines.registry import ENGINES

if TYPE_CHECKING:
    import pandas as pd

    from vpnforensics.packets.table import PacketTable
    from vpnforensics.report.result import CaseResult


class _FiniteRange(click.FloatRange):
    """A range that has neither infinity nor NaN, which compares as inside any."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


@click.command()
@click.argument("ingress", metavar="IN")
@click.argument("egress", metavar="[OUT]", required=False)
@output_options("table", "json", "jsonl", "csv", "parquet")
@click.option(
    "--engine", "engines", multiple=True, type=click.Choice(list(ENGINES)),
    help="Use only this engine; may be given several times. `vpnf engines` lists them.",
)  # fmt: skip
@click.option(
    "--expected-false-links", type=_FiniteRange(0, min_open=True), default=0.01, show_default=True,
    metavar="X", help="False links to expect in the whole case: the level at which flows are linked.",
)  # fmt: skip
@click.option(
    "--top", type=click.IntRange(1), default=40, show_default=True, metavar="N", help="Rows the table shows."
)
@click.option(
    "--explain", metavar="FLOW",
    help="Show one flow packet by packet: f12, a Community ID, or addr:port of its source.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seeds all sampling.")
@click.option("--same-clock", is_flag=True, help="One clock stamped both captures: estimate no offset.")
@click.option(
    "--logs", multiple=True, metavar="FILE",
    help="A usage log of the server, as `vpnf logs` reads it; may be given several times.",
)  # fmt: skip
@log_time_options
@reading_options
@talk_options
@pass_session
def correlate(
    session: Session,
    ingress: str,
    egress: str | None,
    form: str,
    target: str,
    engines: tuple[str, ...],
    expected_false_links: float,
    top: int,
    explain: str | None,
    seed: int,
    same_clock: bool,
    logs: tuple[str, ...],
    log_zone: str,
    log_year: int | None,
    strict: bool,
    decap: str,
) -> None:
    """Say which tunnel of IN carried which flow of OUT.

    IN is a capture of the client-facing side of a VPN server (encrypted), OUT
    one of its Internet-facing side (decrypted, NATed); their clocks may differ.
    Each is a pcap or pcapng file, plain, gzip or zstd; a folder of rotated
    captures; or - for standard input (one of them). Without OUT, IN is a capture
    of both sides. Usage logs of the server say whose the tunnels are; what does
    not agree with them is a warning.
    """
    if ingress == "-" and egress == "-":
        raise click.UsageError("only one of IN and OUT can be standard input")
    if "-" in logs and "-" in (ingress, egress):
        raise click.UsageError("only one input can be standard input")
    output = Output(target, [path for path in (ingress, egress, *logs) if path is not None])
    if form == "parquet":
        output.refuse_terminal("parquet")
        import pyarrow  # noqa: F401 - its absence should show before the work, not after
    with session.talk.progress("correlate") as show:
        outer, inner = _read_both(ingress, egress, strict, decap, show)
        from vpnforensics.correlation import correlate as run

        case = run(
            outer,
            inner,
            expected_false_links=expected_false_links,
            seed=seed,
            same_clock=same_clock,
            logs=logs,
            log_zone=log_zone,
            log_year=log_year or 0,
            progress=show,
            argv=session.argv,
            engines=tuple(dict.fromkeys(engines)) or tuple(ENGINES),
        )
    if form != "table":
        for warning in case.warnings:
            session.talk.warn(f"warning: {warning}")
    if explain is not None:
        _explain(session, case, explain, form, output)
    elif form == "table":
        from vpnforensics.report.table import case_view

        output.show(case_view(case, width=output.width, top=top))
    else:
        output.write(_written(case, form))


def _read_both(
    ingress: str, egress: str | None, strict: bool, decap: str, show: Callable[[str, float], None]
) -> tuple[PacketTable, PacketTable]:
    """Both captures; twice the same table where one name is given."""
    outer = read(ingress, strict=strict, decap=decap, show=show, step="reading ingress")
    if egress is None or egress == ingress:
        return outer, outer
    return outer, read(egress, strict=strict, decap=decap, show=show, step="reading egress")


def _written(case: CaseResult, form: str) -> Iterator[str | bytes]:
    from vpnforensics.report import forms

    if form == "json":
        yield case.to_json() + "\n"
    elif form == "jsonl":
        yield from forms.jsonl(case)
    else:
        yield from _table_written(forms.link_table(case), form)


def _table_written(table: pd.DataFrame, form: str) -> Iterator[str | bytes]:
    from vpnforensics.report import forms

    if form == "csv":
        yield from forms.csv_form(table)
    elif form == "parquet":
        yield forms.parquet_form(table)
    elif form == "jsonl":
        yield from forms.jsonl_rows(table)
    else:
        from vpnforensics.report.dataframes import plain_rows
        from vpnforensics.report.escaping import json_text

        yield json_text(plain_rows(table), indent=1) + "\n"


def _explain(session: Session, case: CaseResult, name: str, form: str, output: Output) -> None:
    from vpnforensics.report.explanation import explanation_table, explanation_view, flows_named, why_no_rows

    flows = flows_named(case, name)
    if not flows:
        known = f"f1 to f{len(case.endpoints)}" if len(case.endpoints) > 1 else "f1"
        raise click.UsageError(
            f"--explain: no flow {name!r}; name one as {known}, by Community ID, or by the addr:port of its"
            " source, as in `vpnf flows OUT`"
        )
    if form == "table":
        from rich.console import Group
        from rich.text import Text

        views = [part for flow in flows for part in (explanation_view(case, flow), Text())]
        output.show(Group(*views[:-1]))
    else:
        for why in filter(None, (why_no_rows(case, flow) for flow in flows)):
            session.talk.warn(why)
        output.write(_table_written(explanation_table(case, flows), form))
