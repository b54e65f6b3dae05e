"""The process that decodes and writes a journal: blocks come on standard input until it ends.

``python -m vpnforensics.reftunnel.journal_writer SUFFIX FD TALLY_FD``, started by ``journal_pipe`` alone.
"""

from __future__ import annotations

import mmap
import select
import signal
import sys

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.journal_block import Block
from vpnforensics.reftunnel.journal_format import TALLY, make_writer


def main(suffix: str, fd: int, tally_fd: int) -> int:
    """Write blocks until there are no more; the exit status is 1 if something could not be written."""
    # Whoever ends the tunnel may end its whole group: the journal ends when the tunnel has closed it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        tally = mmap.mmap(tally_fd, TALLY.size)
        writer = make_writer(suffix, fd, lambda rows: TALLY.pack_into(tally, 0, rows))
        # Unbuffered: what waits is then in the pipe, where `select` sees it.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stream:
            while True:
                while not select.select([stream], [], [], writer.due_s())[0]:
                    writer.tick()
                block = Block.receive(stream)
                if block is None:
                    break
                writer.write(block)
        writer.close()
    except (OSError, TunnelError):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
