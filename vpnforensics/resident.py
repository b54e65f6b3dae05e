"""A bound on what a process has resident: pages of scratch files are let go of before it is reached.

The kernel keeps mapped pages in a process until somebody wants the memory. On a machine that has much, a case
in files would so be in memory after all, and a limit that counts what is resident (that of a container) would
end the process. A second thread looks at what is resident, and lets go of it in time; what is looked at again
is mapped again, most often without the disk.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from vpnforensics.scratch import release_all

_STATM = Path("/proc/self/statm")
"""Of Linux; elsewhere nothing is watched."""
_EVERY_S = 0.05
_SHARE = 0.7
"""Of the bound: what is read in from the disk while nobody looks fits into the rest."""
_WORTHWHILE = 1 / 16
"""Of the bound: where pages of files are less, letting go of them again and again would only cost time."""


@contextmanager
def resident_at_most(limit_bytes: int) -> Iterator[None]:
    """Let go of scratch files' pages while this process has about as much resident as it may.

    Parameters
    ----------
    limit_bytes : int
        Of memory of its own and pages of files together.
    """
    if not _STATM.exists():
        yield
        return
    done = Event()
    watcher = Thread(target=_watch, args=(limit_bytes, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(limit_bytes: int, done: Event) -> None:
    while not done.wait(_EVERY_S):
        resident, of_files = resident_bytes()
        if resident > _SHARE * limit_bytes and of_files > _WORTHWHILE * limit_bytes:
            release_all()


def resident_bytes() -> tuple[int, int]:
    """What this process has resident, and what of it are pages of files."""
    _, resident, of_files, *_ = map(int, _STATM.read_text().split())
    return resident * mmap.PAGESIZE, of_files * mmap.PAGESIZE
