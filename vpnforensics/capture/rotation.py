"""A folder of rotated captures as one capture, in the order of their first packets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from filecmp import cmp
from pathlib import Path
from typing import NamedTuple

from vpnforensics.capture._kernels import NO_TIME
from vpnforensics.capture.pcapng import InterfaceNumbers
from vpnforensics.capture.records import RecordBatch
from vpnforensics.capture.stream import CaptureStream
from vpnforensics.capture.walk import RecordWalk
from vpnforensics.errors import CaptureError, NotACaptureError

_PROBE_BYTES = 1 << 16
_NEVER_NS = sys.maxsize


class CaptureFiles(NamedTuple):
    """What a path stands for."""

    files: list[str]
    """To be read, in the order of their first packets."""
    skipped: int = 0
    """Other files of the folder: no captures."""
    copies: Sequence[str] = ()
    """Captures of the folder equal to one that is read, byte for byte."""
    folders: int = 0
    """Folders inside of the folder, not looked into: they may be other places, or the other side."""


def capture_files(path: str) -> CaptureFiles:
    """The files to read for a path.

    Parameters
    ----------
    path : str
        A file, ``-``, or a folder; of a folder, the captures directly inside it.

    Raises
    ------
    NotACaptureError
        A folder without captures.
    CaptureError
        No name, a folder that cannot be listed, or a file in it that cannot be opened.
    """
    if not path:  # the current folder, to Path
        raise CaptureError("''", None, "an empty name is no file (a variable that is not set?)")
    if path == "-" or not Path(path).is_dir():
        return CaptureFiles([path])
    try:
        entries = sorted(Path(path).iterdir())
        files = [str(entry) for entry in entries if entry.is_file()]
        folders = sum(entry.is_dir() for entry in entries)
    except OSError as error:
        raise CaptureError(path, None, f"the folder cannot be listed: {error.strerror}") from error
    captures: list[tuple[int, str]] = []
    for file in files:
        try:
            captures.append((_first_ns(file), file))
        except NotACaptureError:
            continue
    if not captures:
        held = f"none of its {len(files)} files is one" if files else "it holds no files"
        if folders:
            held += f" (it holds folders, {folders} in number, which are not looked into: name one of them)"
        raise NotACaptureError(path, None, f"a folder without pcap or pcapng captures: {held}")
    captures.sort()
    try:
        read, copies = _told_apart(captures)
    except OSError as error:
        raise CaptureError(error.filename or path, None, f"cannot be read: {error.strerror}") from error
    return CaptureFiles(read, len(files) - len(captures), copies, folders)


def _told_apart(captures: list[tuple[int, str]]) -> tuple[list[str], list[str]]:
    """Each content once, and the copies: twice the same packets are no traffic that ever was.

    Only files of one first time and one size are compared, so that a folder without copies costs nothing.
    """
    read: list[str] = []
    copies: list[str] = []
    alike: dict[tuple[int, int], list[str]] = {}
    for first_ns, file in captures:
        others = alike.setdefault((first_ns, Path(file).stat().st_size), [])
        if first_ns != _NEVER_NS and any(cmp(file, other, shallow=False) for other in others):
            copies.append(file)
        else:
            others.append(file)
            read.append(file)
    return read, copies


def _first_ns(path: str) -> int:
    """Time of the first frame that has one; later than all others where there is none."""
    with CaptureStream(path, window_bytes=_PROBE_BYTES) as stream:
        batch = RecordBatch.with_room(1)
        for _ in RecordWalk(stream, InterfaceNumbers(), batch):
            if batch.ts_ns[0] != NO_TIME:
                return int(batch.ts_ns[0])
    return _NEVER_NS  # or damaged: reading it will tell
