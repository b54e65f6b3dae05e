"""``vpnf warm-up``: compile now, on all cores, what the first run would compile."""

from __future__ import annotations

import time

import click

from vpnforensics import warm
from vpnforensics.cli.errors import DONE, INTERNAL
from vpnforensics.cli.session import Session, pass_session, talk_options
from vpnforensics.report.quantities import many

_LOOK_S = 0.1


@click.command()
@talk_options
@pass_session
def warm_up(session: Session) -> int:
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
    if left:
        session.talk.error(
            f"{many(len(left), 'kernel')} could not be compiled or kept, the first: {left[0].text}"
        )
        return INTERNAL
    took = f"compiled in {time.monotonic() - began_s:.0f} s" if wanted else "all compiled already"
    session.talk.warn(f"{many(len(wanted), 'kernel')} {took}" if wanted else took)
    return DONE
