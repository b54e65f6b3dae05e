"""``vpnf correlate``: which tunnel of one capture carried which flow of the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import click

from vpnforensics.cli.answering import FORMS, answer, question_options
from vpnforensics.cli.engines import completed, known_engines
from vpnforensics.cli.logs import log_time_options
from vpnforensics.cli.memory import MemorySize, within
from vpnforensics.cli.output import Output
from vpnforensics.cli.reading import read
from vpnforensics.cli.session import (
    Session,
    output_options,
    pass_session,
    reading_options,
    talk_options,
    understood,
)
from vpnforensics.engines.registry import ENGINES

if TYPE_CHECKING:
    from vpnforensics.packets.table import PacketTable
    from vpnforensics.scratch import Scratch
    from vpnforensics.sides import Progress


class FiniteRange(click.FloatRange):
    """A range that has neither infinity nor NaN, which compares as inside any."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click does it."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


@click.command()
@click.argument("ingress", metavar="[IN", required=False)
@click.argument("egress", metavar="[OUT]]", required=False)
@click.option(
    "--ingress",
    "ingresses",
    multiple=True,
    metavar="FILE",
    help="A file of the ingress side; several are one capture.",
)
@click.option("--egress", "egresses", multiple=True, metavar="FILE", help="Likewise of the egress side.")
@output_options(*FORMS)
@click.option(
    "--engine", "engines", multiple=True, metavar=f"[{'|'.join(ENGINES)}]",
    callback=known_engines, shell_complete=completed,
    help="Use only this engine; may be given several times. `vpnf engines` lists them.",
)  # fmt: skip
@click.option(
    "--expected-false-links", type=FiniteRange(0, min_open=True), default=0.01, show_default=True,
    metavar="X", help="False links to expect in the whole case: the level at which flows are linked.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seeds all sampling.")
@click.option("--same-clock", is_flag=True, help="One clock stamped both captures: estimate no offset.")
@click.option(
    "--logs", multiple=True, metavar="FILE",
    help="A usage log of the server, as `vpnf logs` reads it; may be given several times.",
)  # fmt: skip
@log_time_options
@click.option(
    "--zeek", multiple=True, metavar="FILE",
    help="A log that Zeek made of OUT (conn, ssl, dns, http, quic), for names and uids; may be given several"
    " times.",
)  # fmt: skip
@click.option(
    "--select-in",
    default="",
    metavar="WHICH",
    callback=understood,
    help="Read only these packets of IN, as `vpnf flows --select` takes it. What is left out may have carried"
    " any flow: none is denied then.",
)
@click.option(
    "--select-out",
    default="",
    metavar="WHICH",
    callback=understood,
    help="Likewise of OUT, on its own clock.",
)
@click.option(
    "--server", default="", metavar="WHERE",
    help="Read only packets to and from this server of IN: an address, or addr:port.",
)  # fmt: skip
@click.option(
    "--memory",
    type=MemorySize(),
    metavar="SIZE",
    help="Take no more memory than this, as 4GiB: packets and what is derived from them go to files; a case"
    " that needs more is refused.",
)  # fmt: skip
@click.option(
    "--scheduler",
    default="",
    metavar="ADDRESS",
    help="Have the workers of this Dask scheduler, as tcp://10.0.0.1:8786, compute what can be computed part"
    " by part; the result is the same.",
)
@click.option(
    "--scratch", type=click.Path(exists=True, file_okay=False, writable=True), metavar="DIR",
    help="Where packets go with --memory or --scheduler: a folder on a disk, which all workers see under this"
    " name; that of temporary files unless named.",
)  # fmt: skip
@question_options
@reading_options
@talk_options
@pass_session
def correlate(
    session: Session,
    /,
    ingress: str | None,
    egress: str | None,
    ingresses: tuple[str, ...],
    egresses: tuple[str, ...],
    form: str,
    target: str,
    engines: tuple[str, ...],
    expected_false_links: float,
    seed: int,
    same_clock: bool,
    logs: tuple[str, ...],
    log_zone: str,
    log_year: int | None,
    zeek: tuple[str, ...],
    select_in: str,
    select_out: str,
    server: str,
    memory: int | None,
    scratch: str | None,
    scheduler: str,
    strict: bool,
    decap: str,
    **asked: Any,
) -> None:
    """Say which tunnel of IN carried which flow of OUT.

    IN is a capture of the client-facing side of a VPN server (encrypted), OUT
    one of its Internet-facing side (decrypted, NATed); their clocks may differ.
    Each is a pcap or pcapng file, plain, gzip or zstd; a folder of rotated
    captures; or - for standard input (one of them). Without OUT, IN is a capture
    of both sides. Instead of IN and OUT, --ingress and --egress name several
    files of a side, read as one capture in the order of their first packets.
    Usage logs of the server say whose the tunnels are; what does not agree with
    them is a warning.

    Options from --client to --by say what to show of the case, and change nothing
    in it; `vpnf show case.json` takes them for a saved one. --select-in,
    --select-out and --server say what to read, and change the case: packets that
    are not read are no evidence, for or against anything.
    """
    outer_files, inner_files = sides_named((ingress, egress), ingresses, egresses)
    if (*logs, *zeek, *outer_files, *inner_files).count("-") > 1:
        raise click.UsageError("only one input can be standard input")
    output = Output(target, [*outer_files, *inner_files, *logs, *zeek])
    if form == "parquet":
        output.refuse_terminal("parquet")
        import pyarrow  # noqa: F401 - its absence should show before the work, not after
    if scratch and memory is None and not scheduler:
        raise click.UsageError("--scratch is for --memory and --scheduler")
    files = scratch or gettempdir() if memory is not None or scheduler else None
    with within(memory):
        with (
            session.talk.progress("correlate") as talk,
            _place(scheduler, files, session, talk) as (place, show),
        ):
            how = {"strict": strict, "decap": decap, "show": show, "scratch": place}
            select = _with_server(select_in, server), select_out
            from vpnforensics.correlation import correlate as run

            case = run(
                *read_both(outer_files, inner_files, select, how),
                use_up=True,
                expected_false_links=expected_false_links,
                seed=seed,
                same_clock=same_clock,
                logs=logs,
                log_zone=log_zone,
                log_year=log_year or 0,
                zeek=zeek,
                progress=show,
                argv=session.argv,
                engines=engines or None,
            )
        answer(session, case, output, form, asked)


@contextmanager
def _place(
    scheduler: str, files: str | None, session: Session, show: Progress
) -> Iterator[tuple[str | Scratch | None, Progress]]:
    """Where packets go, and how progress is told there."""
    if not scheduler or files is None:
        yield files, show
        return
    from vpnforensics.workers import workers_at

    show("asking for workers", 0.0)
    with workers_at(scheduler, files, show) as workers:
        if workers.dashboard and session.talk.verbosity:
            session.talk.warn(f"{workers.dashboard} shows what the workers do")
        yield workers, workers.tell


def sides_named(
    named: tuple[str | None, str | None], ingresses: tuple[str, ...], egresses: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files of each side, however they were named; none at egress where ingress is both."""
    ingress, egress = named
    if (ingress is not None and ingresses) or (egress is not None and (egresses or ingresses)):
        raise click.UsageError("name the sides as IN and OUT, or by --ingress and --egress, not both")
    outer = (ingress,) if ingress is not None else ingresses
    inner = (egress,) if egress is not None else egresses
    if not outer:
        raise click.MissingParameter(param_hint="'IN' (or --ingress)", param_type="argument")
    if (*outer, *inner).count("-") > 1:
        raise click.UsageError("only one of IN and OUT can be standard input")
    return outer, inner


def _with_server(select: str, server: str) -> str:
    """A selection of the ingress side, narrowed to one server."""
    if not server:
        return select
    from vpnforensics.packets.selection import Selection

    address, port = server, ""
    if server.count(":") == 1 or "]:" in server:
        address, _, port = server.rpartition(":")
    of_server = f"host {address.strip('[]')}" + (f" and port {port}" if port else "")
    try:
        Selection.parse(of_server)
    except ValueError as error:
        raise click.BadParameter(f"{server!r} is no address or addr:port", param_hint="--server") from error
    return f"{of_server} and ({select})" if select else of_server


def read_both(
    ingress: tuple[str, ...], egress: tuple[str, ...], select: tuple[str, str], how: dict[str, Any]
) -> tuple[PacketTable, PacketTable]:
    """Both captures, read ``how`` :func:`vpnforensics.cli.reading.read` can; twice the same where one name is
    given.
    """
    outer = read(ingress, step="reading ingress", select=select[0], **how)
    if select[0] == select[1] and (not egress or egress == ingress):
        return outer, outer
    return outer, read(egress or ingress, step="reading egress", select=select[1], **how)
