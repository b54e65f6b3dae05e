"""The process that decodes and writes a journal: blocks come on standard input until it ends.

``python -m vpnforensics.reftunnel.journal_writer PATH``, started by ``journal`` and by nothing else.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.journal_block import Block
from vpnforensics.reftunnel.journal_format import open_writer


def main(path: Path) -> int:
    """Write blocks until there are no more; the exit status is 1 if something could not be written."""
    # Whoever ends the tunnel may end its whole group: the journal ends when the tunnel has closed it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        writer = open_writer(path)
        while (block := Block.receive(sys.stdin.buffer)) is not None:
            writer.write(block)
        writer.close()
    except (OSError, TunnelError):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
