"""``vpnf audit``: how linkable a VPN server's users are, which fields leak, and what lowers it."""

from __future__ import annotations

import click

from vpnforensics.cli.correlate import FiniteRange, read_both, sides_named
from vpnforensics.cli.output import Output
from vpnforensics.cli.session import Session, output_options, pass_session, reading_options, talk_options


@click.command()
@click.argument("ingress", metavar="[IN", required=False)
@click.argument("egress", metavar="[OUT]]", required=False)
@output_options("table", "json", "html")
@click.option(
    "--allowed", "allowed", multiple=True, type=FiniteRange(0, min_open=True), metavar="X",
    help="False links allowed in the whole case; may be given several times.  [default: 0.01, 0.1, 1]",
)  # fmt: skip
@click.option(
    "--pad-block", type=click.IntRange(16, 9000), metavar="BYTES", help="Block that lengths are padded to."
)
@click.option(
    "--batch", type=FiniteRange(0.1, 10_000), metavar="MS", help="Milliseconds that batches gather."
)
@click.option(
    "--cover", type=FiniteRange(0.1, 20_000), metavar="N", help="Datagrams a second of constant rate."
)
@click.option("--by-client", is_flag=True, help="Name the clients; otherwise the report names no user.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seeds all chance.")
@reading_options
@talk_options
@pass_session
def audit(
    session: Session,
    /,
    ingress: str | None,
    egress: str | None,
    form: str,
    target: str,
    allowed: tuple[float, ...],
    pad_block: int | None,
    batch: float | None,
    cover: float | None,
    by_client: bool,
    seed: int,
    strict: bool,
    decap: str,
) -> None:
    """Say how linkable the users of a VPN server are, and what would lower it.

    IN and OUT are captures of both sides of your own server, as for `vpnf
    correlate`. Each countermeasure is measured on a copy of them: the same
    packets with a field rewritten, lengths padded, held back in batches, or sent
    at a constant rate.
    """
    outer_files, inner_files = sides_named((ingress, egress), (), ())
    output = Output(target, [*outer_files, *inner_files])
    with session.talk.progress("correlate") as show:
        outer, inner = read_both(outer_files, inner_files, ("", ""), strict, decap, show)
        from vpnforensics.audit.linkability import ALLOWED
        from vpnforensics.audit.measures import Strength
        from vpnforensics.audit.run import audit as run

        usual = Strength()
        result = run(
            outer,
            inner,
            allowed=allowed or ALLOWED,
            strength=Strength(
                block_bytes=usual.block_bytes if pad_block is None else pad_block,
                batch_s=usual.batch_s if batch is None else batch / 1e3,
                cover_hz=usual.cover_hz if cover is None else cover,
            ),
            seed=seed,
            by_client=by_client,
            progress=show,
            argv=session.argv,
        )
    if form == "json":
        output.write([result.to_json() + "\n"])
    elif form == "html":
        from vpnforensics.audit.page import audit_page

        output.write(audit_page(result))
    else:
        from vpnforensics.audit.view import audit_view

        output.show(audit_view(result))
