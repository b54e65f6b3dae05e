"""``vpnf annotate``: both captures as one pcapng, with a comment on every attributed packet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from vpnforensics.cli.output import Output
from vpnforensics.cli.session import Session, pass_session, talk_options

if TYPE_CHECKING:
    from vpnforensics.report.result import CaseResult


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="CASE.json | IN OUT")
@click.option("-w", "--write", "target", required=True, metavar="FILE", help="The pcapng to write.")
@talk_options
@pass_session
def annotate(session: Session, files: tuple[str, ...], target: str) -> None:
    """Write both captures of a case as one pcapng for Wireshark.

    Both sides are interfaces of it, in order of time on the ingress clock; where a
    clock was set in mid-capture, times go on as if it had not been. Beside
    every packet of a link stands which packet of the other side belongs to it
    (frame.comment, and the Packet comments column). A case that was made with
    other options than the default ones is saved first, by `vpnf correlate -f json`.
    """
    if len(files) > 2:
        raise click.UsageError("name a saved case, or the two captures IN and OUT")
    if "-" in files:
        raise click.UsageError("standard input cannot be read a second time; name files")
    output = Output(target, files)
    output.refuse_terminal("pcapng")
    with session.talk.progress("correlate") as show:
        case = _case(files, session.argv, show)
        inputs = [file["path"] for side in case.inputs for file in side["files"]]
        output = Output(target, [*files, *inputs])
        from vpnforensics.report.annotated import annotated

        show("writing", 0.0)
        output.write(annotated(case))


def _case(files: tuple[str, ...], argv: list[str], show: Callable[[str, float], None]) -> CaseResult:
    if len(files) == 1:
        from vpnforensics.saved import open_case

        return open_case(files[0])
    from vpnforensics.correlation import correlate

    return correlate(*files, progress=show, argv=argv)
