"""A case for whoever asked: filtered, sorted, summed up or explained, in the form that was asked for.

``vpnf correlate`` and ``vpnf show`` share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vpnforensics.cli.output import Output
from vpnforensics.cli.session import Session

if TYPE_CHECKING:
    import pandas as pd

    from vpnforensics.report.result import CaseResult

_WHOLE = ("timesketch", "case", "zeek", "html")
"""Forms of a whole case or an excerpt."""
FORMS = ("table", "json", "jsonl", "csv", "parquet", *_WHOLE)
_SORTS = ("evidence", "packets", "bytes", "time", "error", "client", "dst")
_GROUPS = ("client", "site", "time")
_TABLES = ("links", "tunnels", "flows", "scores", "packets")
_VERDICTS = ("linked", "undecided", "no_tunnel")
F = TypeVar("F", bound=Callable[..., Any])


def question_options(command: F) -> F:
    """What to show of a case; given to :func:`answer` as keyword arguments."""
    for option in reversed(
        (
            click.option(
                "--client", multiple=True, metavar="WHO",
                help="Only flows of this client: an address, network, addr:port or user.",
            ),
            click.option("--tunnel", multiple=True, metavar="ID", help="Only flows linked to this tunnel."),
            click.option(
                "--dst", multiple=True, metavar="WHERE",
                help="Only flows to this address, network, :port, addr:port or name.",
            ),
            click.option(
                "--from", "since", default="", metavar="TIME",
                help="Only flows that end at or after a time: 2026-11-22T11:02, or 11:02 (UTC).",
            ),
            click.option("--to", "until", default="", metavar="TIME", help="Only flows that begin by then."),
            click.option(
                "--verdict", multiple=True, type=click.Choice(_VERDICTS), help="Only flows with this verdict."
            ),
            click.option(
                "--min-packets", type=click.IntRange(0), default=0, metavar="N",
                help="Only flows as long as this.",
            ),
            click.option("--sort", type=click.Choice(_SORTS), help="Order of the flows."),
            click.option("--by", type=click.Choice(_GROUPS), help="Sums instead of single flows."),
            click.option(
                "--explain", metavar="FLOW",
                help="Show flows packet by packet: f12, a Community ID, an endpoint or a name.",
            ),
            click.option(
                "--filter", "display_filter", metavar="FLOW",
                help="Print Wireshark display filters for the packets of flows.",
            ),
            click.option(
                "--top", type=click.IntRange(1), default=40, show_default=True, metavar="N",
                help="Rows the table shows.",
            ),
            click.option(
                "--table", type=click.Choice(_TABLES), default="links", show_default=True,
                help="Which table CSV and Parquet hold.",
            ),
            click.option(
                "--provenance", is_flag=True,
                help="Begin CSV with comment lines that say what it was made of, by what and when.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def answer(session: Session, case: CaseResult, output: Output, form: str, asked: dict[str, Any]) -> None:
    """Write what was asked of a case.

    Parameters
    ----------
    session : Session
    case : CaseResult
    output : Output
    form : str
        One of :data:`FORMS`.
    asked : dict
        The values of :func:`question_options`.

    Raises
    ------
    click.UsageError
        The question names what the case does not have, or cannot be understood.
    """
    from vpnforensics.report.questions import Question, grouped_by, sorted_by
    from vpnforensics.report.questions import asked as excerpt

    alone = [name for name in ("display_filter", "explain", "by") if asked[name]]
    if form in _WHOLE and alone:
        raise click.UsageError(f"-f {form} is of a whole case or an excerpt")
    if asked["table"] != "links" and form not in ("csv", "parquet"):
        raise click.UsageError("--table is for -f csv and -f parquet")
    keys = ("client", "tunnel", "dst", "since", "until", "verdict", "min_packets")
    whole = case
    try:
        case = excerpt(case, Question(**{key: asked[key] for key in keys}))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if asked["sort"]:
        case = sorted_by(case, asked["sort"])
    if form != "table":
        for warning in case.warnings:
            session.talk.warn(f"warning: {warning}")
    if asked["display_filter"] is not None:
        _filters(session, case, whole, asked, form, output)
    elif asked["explain"] is not None:
        _explain(session, case, whole, asked, form, output)
    elif asked["by"]:
        table = grouped_by(case, asked["by"])
        if form == "table":
            from vpnforensics.report.groups import group_view

            output.show(group_view(table, top=asked["top"]))
        else:
            output.write(_table_written(case, table, form, asked["provenance"]))
    elif form == "table":
        from vpnforensics.report.table import case_view

        output.show(case_view(case, width=output.width, top=asked["top"], in_order=bool(asked["sort"])))
    else:
        if form == "html":
            from vpnforensics.report.html.data import why_no_packets

            if why := why_no_packets(case):
                session.talk.warn(f"warning: the report has no packets: {why}")
        output.write(_written(case, form, asked))


def _written(case: CaseResult, form: str, asked: dict[str, Any]) -> Iterator[str | bytes]:
    from vpnforensics.report import forms

    if form == "json":
        yield from case.json_pieces()
        yield "\n"
    elif form == "jsonl":
        yield from forms.jsonl(case)
    elif form == "timesketch":
        from vpnforensics.report.timesketch import timesketch

        yield from timesketch(case)
    elif form == "case":
        from vpnforensics.report.case_uco import case_uco

        yield from case_uco(case)
    elif form == "zeek":
        from vpnforensics.report.zeek_log import conn_log

        yield from conn_log(case)
    elif form == "html":
        from vpnforensics.report.html.document import html_form

        yield from html_form(case)
    else:
        yield from _table_written(case, forms.table_of(case, asked["table"]), form, asked["provenance"])


def _table_written(
    case: CaseResult, table: pd.DataFrame, form: str, provenance: bool
) -> Iterator[str | bytes]:
    from vpnforensics.report import forms

    if form == "csv":
        if provenance:
            yield from forms.csv_comments(case)
        yield from forms.csv_form(table)
    elif form == "parquet":
        yield forms.parquet_form(table, case)
    elif form == "jsonl":
        yield from forms.jsonl_rows(table)
    else:
        from vpnforensics.report.dataframes import plain_rows
        from vpnforensics.report.escaping import json_text

        yield json_text(plain_rows(table), indent=1) + "\n"


def _filters(
    session: Session, case: CaseResult, whole: CaseResult, asked: dict[str, Any], form: str, output: Output
) -> None:
    from vpnforensics.report.wireshark import display_filters, filter_text

    flows = _named(case, whole, "--filter", asked["display_filter"])
    filters = [each for flow in flows for each in display_filters(case, flow)]
    if form == "table":
        output.write([filter_text(filters)])
    else:
        import pandas as pd

        table = pd.DataFrame([asdict(each) for each in filters])
        output.write(_table_written(case, table, form, asked["provenance"]))


def _named(case: CaseResult, whole: CaseResult, option: str, name: str) -> list[str]:
    from vpnforensics.report.explanation import flows_named

    flows = flows_named(case, name)
    if not flows:
        known = f"f1 to f{len(whole.endpoints)}" if len(whole.endpoints) > 1 else "f1"
        raise click.UsageError(
            f"{option}: no flow {name!r}; name one as {known}, by Community ID, by an endpoint or address of"
            " either side, or by the name of its far side"
        )
    return flows


def _explain(
    session: Session, case: CaseResult, whole: CaseResult, asked: dict[str, Any], form: str, output: Output
) -> None:
    from vpnforensics.report.explanation import explanation_table, explanation_view, why_no_rows

    top = asked["top"]
    flows = _named(case, whole, "--explain", asked["explain"])
    if form == "table":
        from rich.console import Group
        from rich.text import Text

        from vpnforensics.report.layout import more_line

        views = [part for flow in flows[:top] for part in (explanation_view(case, flow), Text())]
        output.show(Group(*views[:-1], *more_line(len(flows) - top)))
    else:
        for why in filter(None, (why_no_rows(case, flow) for flow in flows)):
            session.talk.warn(why)
        output.write(_table_written(case, explanation_table(case, flows), form, asked["provenance"]))
