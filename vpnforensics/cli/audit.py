"""``vpnf audit``: how linkable a VPN server's users are, which fields leak, and what lowers it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vpnforensics.cli.correlate import FiniteRange, read_both, sides_named
from vpnforensics.cli.output import Output
from vpnforensics.cli.session import Session, output_options, pass_session, reading_options, talk_options

if TYPE_CHECKING:
    from vpnforensics.audit.measures import Strength


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
@click.option(
    "--countermeasures", "lab", is_flag=True,
    help="Instead of captures: record the reference tunnel with each countermeasure (root), and hold"
    " the predictions of the recording without any against that.",
)  # fmt: skip
@click.option(
    "--scenario", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="With --countermeasures: what to record instead of the usual scenario.",
)  # fmt: skip
@click.option(
    "--measure", "names", multiple=True, metavar="NAME[+NAME]",
    help="With --countermeasures: only this; may be given several times.  [default: each, and every pair]",
)  # fmt: skip
@click.option(
    "--seeds", default="31", show_default=True, metavar="N[,N...]",
    help="With --countermeasures: of the recordings.",
)  # fmt: skip
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="With --countermeasures: keep the recordings, and use again those that are there.",
)  # fmt: skip
@click.option(
    "--seconds", type=FiniteRange(1), metavar="S",
    help="With --countermeasures: look at the first S seconds of each recording only.",
)  # fmt: skip
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
    lab: bool,
    scenario: Path | None,
    names: tuple[str, ...],
    seeds: str,
    keep: Path | None,
    seconds: float | None,
    strict: bool,
    decap: str,
) -> None:
    """Say how linkable the users of a VPN server are, and what would lower it.

    IN and OUT are captures of both sides of your own server, as for `vpnf
    correlate`. Each countermeasure is measured on a copy of them: the same
    packets with a field rewritten, lengths padded, held back in batches, or sent
    at a constant rate.

    With --countermeasures there are no captures: the lab records the reference
    tunnel with each switch, and pairs of them, and says how far the predictions
    from the recording without them hold.
    """
    from vpnforensics.audit.measures import Strength

    usual = Strength()
    strength = Strength(
        block_bytes=usual.block_bytes if pad_block is None else pad_block,
        batch_s=usual.batch_s if batch is None else batch / 1e3,
        cover_hz=usual.cover_hz if cover is None else cover,
    )
    if lab:
        if ingress is not None or form == "html":
            raise click.UsageError("--countermeasures takes no captures, and is a table or JSON")
        _compare(session, Output(target), form, strength, scenario, names, seeds, keep, seconds or 0.0)
        return
    if scenario is not None or names or keep is not None or seconds is not None:
        raise click.UsageError("--scenario, --measure, --keep and --seconds are for --countermeasures")
    outer_files, inner_files = sides_named((ingress, egress), (), ())
    output = Output(target, [*outer_files, *inner_files])
    with session.talk.progress("correlate") as show:
        outer, inner = read_both(
            outer_files, inner_files, ("", ""), {"strict": strict, "decap": decap, "show": show}
        )
        from vpnforensics.audit.linkability import ALLOWED
        from vpnforensics.audit.run import audit as run

        result = run(
            outer,
            inner,
            allowed=allowed or ALLOWED,
            strength=strength,
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


def _compare(
    session: Session,
    output: Output,
    form: str,
    strength: Strength,
    scenario: Path | None,
    names: tuple[str, ...],
    seeds: str,
    keep: Path | None,
    seconds: float,
) -> None:
    """Record, measure and show the countermeasures of the reference tunnel."""
    from vpnforensics.audit.comparison import comparison_view
    from vpnforensics.cli.countermeasures import SCENARIO, compare, wanted

    try:
        chosen = wanted(strength, names)
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with session.talk.progress("correlate") as show:
        found = compare(
            scenario or SCENARIO,
            strength,
            chosen,
            numbers,
            keep,
            seconds=seconds,
            progress=show,
            argv=session.argv,
        )
    if form == "json":
        output.write([found.to_json() + "\n"])
    else:
        output.show(comparison_view(found))
