"""``vpnf warm-up``: compile now, on all cores, what the first run would compile."""

from __future__ import annotations

import time

import click

from vpnforensics import warm
from vpnforensics.cli.session import Session, pass_session, talk_options
from vpnforensics.report.quantities import many

_LOOK_S = 0.1


@click.command()
@talk_options
@pass_session
def warm_up(session: Session) -> None:
    """Compile now, on all cores, what commands on captures would compile in their first run.

    What is compiled already is left as it is. The code is kept in the user's
    cache folder, for this version, this Python and this processor.
    """
    began_s = time.monotonic()
    wanted = left = warm.missing(warm.entries())
    with (
        session.talk.progress() as show,
        warm.helpers(warm.SECTIONS[-1], len(wanted[: warm.cores() - 1])) as running,
    ):
        show(f"compiling {many(len(wanted), 'kernel')}", 0.0)
        for entry in wanted:
            warm.make([entry])
            left = warm.missing(left)
            show("compiling", 1 - len(left) / len(wanted))
        while left and any(process.poll() is None for process in running):
            time.sleep(_LOOK_S)
            left = warm.missing(left)
    made = len(wanted) - len(left)
    took = f"{many(made, 'kernel')} compiled in {time.monotonic() - began_s:.0f} s" if made else ""
    odd = f"{len(left)} of the list could not be" if left else ""
    session.talk.warn("; ".join(filter(None, (took, odd))) or "all is compiled")
