"""Where compiled kernels lie on the disk, and how processes that need the same one take turns.

The folder is ``vpnforensics`` in what ``NUMBA_CACHE_DIR`` or ``XDG_CACHE_HOME`` names, or in ``~/.cache``;
where none of them can be written, one of the user's own below the temporary one. A folder of another user, or
one that others may write to, is not used: code in it would be run.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import pickle
import stat
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba.core import config

_settings: Any = config
_log = logging.getLogger(__name__)
_PACKAGE = __name__.partition(".")[0]
_LIMIT_BYTES = 200_000_000
"""Kept code above which the longest unused is deleted: some twenty versions of all kernels."""
_MARK_BYTES = 16
"""Of a digest in front of what is kept: a file that was cut is no code."""
_DAY_S = 86_400
"""A file's time says when it was last used, to the day: not every run has to write it."""
_LONGEST_WAIT_S = 60.0
"""For another process that compiles the same kernel; after that both do."""
_WAIT_STEP_S = 0.01


def places() -> tuple[Path, Path]:
    """The folder that the user's settings name, and the one to use where that cannot be written."""
    # Not tempfile's own answer: it writes a file to find out, and most runs never need the place.
    spare = Path(os.environ.get("TMPDIR") or "/tmp") / f"{_PACKAGE}-{os.geteuid()}"  # noqa: S108
    named = _settings.CACHE_DIR or os.environ.get("XDG_CACHE_HOME", "")
    try:
        usual = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return spare, spare
    return usual / _PACKAGE, spare


def is_ours(place: Path) -> bool:
    """Whether nobody but this user, or root, can have put code here."""
    try:
        status = place.lstat()
    except OSError:
        return False
    safe = stat.S_ISDIR(status.st_mode) and status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022
    return safe and os.access(place, os.R_OK | os.X_OK, effective_ids=True)  # root's may be root's alone


@cache
def place_to_write() -> Path | None:
    """The first place that can be written, made if need be."""
    usual, spare = places()
    for place in (usual, spare):
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if is_ours(place):
                tempfile.TemporaryFile(dir=place).close()
                if place != usual:
                    _log.warning("%s cannot be written: compiled kernels are kept in %s", usual, place)
                return place
        except OSError:
            continue
    _log.warning("neither %s nor %s can be written: kernels are compiled in every run", usual, spare)
    return None


def load(name: str) -> Any:
    """What was kept under a name; None where nothing was."""
    for place in filter(is_ours, places()):
        payload = _read(place / name)
        if payload is not None:
            return payload
    return None


def _read(file: Path) -> Any:
    """What was kept in a file; None where there is none, or it is damaged."""
    try:
        with file.open("rb") as opened:
            mark, body = opened.read(_MARK_BYTES), opened.read()
            if os.fstat(opened.fileno()).st_mtime < time.time() - _DAY_S:
                with suppress(PermissionError):  # of root's, which nobody prunes
                    os.utime(file)  # it is still in use
    except OSError:
        return None
    if mark != hashlib.blake2b(body, digest_size=_MARK_BYTES).digest():
        return None
    return pickle.loads(body)  # noqa: S301 - from a folder that only this user can write to


def save(name: str, body: bytes) -> None:
    """Keep code under a name, if there is a place for it."""
    place = place_to_write()
    if place is None:
        return
    try:
        handle, path = tempfile.mkstemp(dir=place)
        try:
            with os.fdopen(handle, "wb") as opened:
                opened.write(hashlib.blake2b(body, digest_size=_MARK_BYTES).digest() + body)
            Path(path).replace(place / name)
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise
        _prune(place)
    except OSError:
        return  # a full disk costs the next run some seconds, not this one its result


_claims: dict[str, int] = {}
"""Open lock files of what this process is compiling; the system unlocks them when it ends."""


def claim(name: str, *, wait: bool) -> bool:
    """Whether this process may now compile what a file is to hold; without ``wait``, not if another does."""
    place = place_to_write()
    if place is None or name in _claims:
        return True
    try:
        lock = os.open(place / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:
        return True
    until_s = time.monotonic() + (_LONGEST_WAIT_S if wait else 0.0)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() >= until_s:
                os.close(lock)
                return wait
            time.sleep(_WAIT_STEP_S)
    _claims[name] = lock
    return True


def release(name: str) -> None:
    """Let others compile it, or take what was made of it."""
    lock, place = _claims.pop(name, None), place_to_write()
    if lock is not None and place is not None:
        (place / f"{name}.lock").unlink(missing_ok=True)
        os.close(lock)


@cache  # once in a process
def _prune(place: Path) -> None:
    """Delete what was longest not used, where all together is too much."""
    files = []
    for file in place.iterdir():
        with suppress(FileNotFoundError):  # another process prunes, too
            status = file.stat()
            files.append((status.st_mtime, status.st_size, file))
    excess = sum(size for _, size, _ in files) - _LIMIT_BYTES
    for _, size, file in sorted(files):
        if excess <= 0:
            return
        excess -= size
        file.unlink(missing_ok=True)
