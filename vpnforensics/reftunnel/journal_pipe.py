"""The way of full blocks to the process that writes them, behind the traffic's back."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import queue
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from vpnforensics.errors import TunnelError
from vpnforensics.extras import how_to_get
from vpnforensics.reftunnel.files import new_file, new_folder
from vpnforensics.reftunnel.journal_block import Block
from vpnforensics.reftunnel.journal_format import PARQUET, TALLY

_BLOCKS_WAITING = 8
_PIPE_BYTES = 1 << 20
_WRITER = "vpnforensics.reftunnel.journal_writer"


class WriterProcess:
    """Another process that decodes and writes blocks, and the thread that feeds it.

    In this process it would hold the interpreter's lock, and the traffic would wait for it at every system
    call.

    Parameters
    ----------
    path : Path
        The journal, which must not exist yet: a folder if it ends in ``.parquet``, else a file.

    Raises
    ------
    TunnelError
        It exists, cannot be made, or Parquet is asked for and pyarrow is missing.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix == PARQUET and find_spec("pyarrow") is None:
            raise TunnelError(f"a Parquet journal: {how_to_get('pyarrow')}")
        fd = new_folder(path, "the journal") if path.suffix == PARQUET else new_file(path, "the journal")
        tally = os.memfd_create("journal")
        os.ftruncate(tally, TALLY.size)
        self._tally = mmap.mmap(tally, TALLY.size)
        try:
            # It gets the descriptor and not the path: what has this name later is nothing of ours.
            self._process = subprocess.Popen(  # noqa: S603 (our own program, no shell)
                [sys.executable, "-m", _WRITER, path.suffix, str(fd), str(tally)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(fd, tally),
                start_new_session=True,  # a ^C is for the tunnel, which then closes the journal in order
            )
        finally:
            os.close(fd)
            os.close(tally)
        self._waiting: queue.Queue[Block | None] = queue.Queue(_BLOCKS_WAITING)
        self._broken = False
        self._given_rows = 0
        self._thread = threading.Thread(target=self._send_blocks, name="journal", daemon=True)
        self._thread.start()

    @property
    def lost_rows(self) -> int:
        """That nobody will ever read, since the writer ended early; 0 while it is at work.

        The writer counts what can be read in memory that both share: it may end in any way, and with rows in
        a Parquet file that lacks its end.
        """
        if self._process.poll() in (None, 0) and not self._broken:
            return 0
        (readable,) = TALLY.unpack(self._tally)
        return self._given_rows - int(readable)

    def send(self, block: Block) -> None:
        """Have a block written; waits while the disk cannot keep up."""
        self._given_rows += len(block.kind)
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
                f"the journal lacks {self.lost_rows} rows: "
                "its writer ended early (disk full? pyarrow missing?)"
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
