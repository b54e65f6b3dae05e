"""The files that a tunnel writes: private, and never over something that was there.

They tell of people, so only their owner can open them. A symbolic link, or what somebody else put in their
place, is refused and not followed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from vpnforensics.errors import TunnelError

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700
START = "{start}"
"""In the name of a journal: when it began, so that each start of a tunnel has one of its own."""


def started(path: Path, wall_ns: int) -> Path:
    """A path with `START` replaced by a time, as in ``20261129T004042Z``."""
    text = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall_ns // 1_000_000_000))
    return Path(str(path).replace(START, text))


def check_new(path: Path, what: str) -> None:
    """Find out before anything is done what `new_file` and `new_folder` would say.

    Raises
    ------
    TunnelError
        Something of this name exists, or there is no folder for it.
    """
    try:
        path.parent.stat()
        if os.path.lexists(path):
            raise FileExistsError
    except OSError as error:
        raise _error(path, what, error) from None


def new_file(path: Path, what: str, folder: int | None = None) -> int:
    """Descriptor of a new file, to be written; in a folder that is open, or by its whole path.

    Raises
    ------
    TunnelError
        Something of this name exists, a link that leads nowhere included, or it cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, _PRIVATE_FILE, dir_fd=folder)
    except OSError as error:
        raise _error(path, what, error) from None


def new_folder(path: Path, what: str) -> int:
    """Descriptor of a new, empty folder.

    Raises
    ------
    TunnelError
        Something of this name exists, or it cannot be made.
    """
    try:
        path.mkdir(_PRIVATE_FOLDER)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _error(path, what, error) from None


def log_file(path: Path, what: str, begins_with: bytes) -> int:
    """Descriptor of a file to append to: a new one, or one of ours.

    Raises
    ------
    TunnelError
        It is a link or a device, others can open it, it begins with something else than ours do, or it cannot
        be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, _PRIVATE_FILE)
    except OSError as error:
        raise _error(path, what, error) from None
    found = os.fstat(fd)
    mode = stat.S_IMODE(found.st_mode)
    beginning = os.pread(fd, len(begins_with), 0) if stat.S_ISREG(found.st_mode) else b""
    if not stat.S_ISREG(found.st_mode):
        problem = "it is no ordinary file"
    elif beginning not in (b"", begins_with):
        problem = "it is another kind of file, and not to be written to"
    elif mode & 0o077:
        problem = f"its mode is {mode:04o}: others can open it (repair: chmod 600 {path})"
    else:
        return fd
    os.close(fd)
    raise TunnelError(f"cannot write {what} {path}: {problem}")


def refuse_one_file_for_two(paths: Mapping[str, Path | None]) -> None:
    """Check that what is written is not what is read, nor written twice, under whatever name.

    Parameters
    ----------
    paths : mapping of str to Path or None
        What each is, for the message -> where it is; None for what there is not.

    Raises
    ------
    TunnelError
        Two are one file.
    """
    given = [(what, path) for what, path in paths.items() if path is not None]
    for (what, path), (other, other_path) in itertools.combinations(given, 2):
        same = os.path.realpath(path) == os.path.realpath(other_path)
        with contextlib.suppress(OSError):  # what does not exist yet is not another's
            same = same or path.samefile(other_path)
        if same:
            raise TunnelError(f"{what} and {other} are one file, {other_path}")


def _error(path: Path, what: str, error: OSError) -> TunnelError:
    if isinstance(error, FileExistsError):
        return TunnelError(
            f"cannot write {what} {path}: it exists, and nothing is overwritten (repair: move it away, or "
            f"have {START} in its name, which becomes the time of each start)"
        )
    return TunnelError(f"cannot write {what} {path}: {error.strerror}")
