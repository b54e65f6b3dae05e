"""``vpnf convert``: captures as columns, for cases that are read more than once or in part."""

from __future__ import annotations

import click

from vpnforensics.cli.session import Session, decap_option, pass_session, talk_options
from vpnforensics.report.escaping import visible
from vpnforensics.report.quantities import many, size


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="CAPTURE...")
@click.option(
    "-o", "--output", "folder", required=True, metavar="DIR", help="A folder that is new, or empty."
)
@decap_option
@talk_options
@pass_session
def convert(session: Session, files: tuple[str, ...], folder: str, decap: str) -> None:
    """Write the packet table of a capture into a folder of Parquet files.

    Every command takes DIR for a capture, and says the same of it. Several files
    are one capture, as with `vpnf correlate --ingress`. DuckDB, pandas, Polars and
    others open DIR/packets/*.parquet. A conversion that was killed goes on where
    it stopped when it is started again; nothing is written over.

    The files are kept by their path and digest: names in the payloads and records
    of TCP tunnels are read out of them again, as long as they are there.
    """
    with session.talk.progress("info") as show:
        from vpnforensics.packets.folder.write import convert as run

        show("converting", 0.0)
        told = run(
            files if len(files) > 1 else files[0],
            folder,
            decap=decap,
            progress=lambda done, total: show("converting", done / total if total else 0.0),
        )
    packets, stored = told["source"]["packets"], sum(part["bytes"] for part in told["parts"])
    each = f", {stored / packets:.1f} bytes a packet" if packets else ""
    session.talk.warn(
        f"{visible(folder)}: {many(packets, 'packet')} in {many(len(told['parts']), 'part')},"
        f" {size(stored)}{each}"
    )
