"""Man pages of ``vpnf`` and each of its commands: ``python docs/generate/man.py FOLDER``.

Their date is that of SOURCE_DATE_EPOCH where that is set, so that a distribution's build repeats.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from click_man.core import write_man_pages

from vpnforensics import __version__
from vpnforensics.cli.main import vpnf


def write(folder: Path) -> int:
    """Write a page a command into ``folder``, and say how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    context = click.Context(vpnf)
    for name in vpnf.list_commands(context):  # loaded when run, and click-man wants them all
        if command := vpnf.get_command(context, name):
            vpnf.add_command(command, name)
    at = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())), UTC)
    write_man_pages("vpnf", vpnf, version=__version__, target_dir=str(folder), date=f"{at:%Y-%m-%d}")
    return len(list(folder.glob("vpnf*.1")))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{write(Path(sys.argv[1]))} man pages in {sys.argv[1]}")
