"""The way of full blocks to the process that writes them, behind the traffic's back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.journal_block import Block
from vpnforensics.reftunnel.keys import open_private

_BLOCKS_WAITING = 8
_PIPE_BYTES = 1 << 20


class WriterProcess:
    """Another process that decodes and writes blocks, and the thread that feeds it.

    In this process it would hold the interpreter's lock, and the traffic would wait for it at every system
    call.

    Parameters
    ----------
    path : Path
        The journal.

    Raises
    ------
    TunnelError
        The journal cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            os.close(open_private(path, os.O_TRUNC))
        except OSError as error:
            raise TunnelError(f"cannot write the journal {path}: {error.strerror}") from None
        self._process = subprocess.Popen(  # noqa: S603 (our own program, no shell)
            [sys.executable, "-m", "vpnforensics.reftunnel.journal_writer", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a ^C is for the tunnel, which then closes the journal in order
        )
        self._waiting: queue.Queue[Block | None] = queue.Queue(_BLOCKS_WAITING)
        self._broken = False
        self._thread = threading.Thread(target=self._send_blocks, name="journal", daemon=True)
        self._thread.start()

    def send(self, block: Block) -> None:
        """Have a block written; waits while the disk cannot keep up."""
        self._waiting.put(block)

    def is_behind(self) -> bool:
        """Whether `send` would wait."""
        return self._waiting.full()

    def close(self) -> None:
        """Wait until all is written.

        Raises
        ------
        TunnelError
            Something could not be written; the journal is then not whole.
        """
        self._waiting.put(None)
        self._thread.join()
        status = self._process.wait()
        if self._broken or status:
            raise TunnelError(
                "the journal is not whole: its writer ended early (disk full? pyarrow missing?)"
            )

    def _send_blocks(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        while (block := self._waiting.get()) is not None:
            if not self._broken:
                try:
                    block.send(pipe.fileno())
                except OSError:
                    self._broken = True
        with contextlib.suppress(OSError):
            pipe.close()
