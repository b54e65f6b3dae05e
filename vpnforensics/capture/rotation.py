"""A folder of rotated captures as one capture, in the order of their first packets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from filecmp import cmp
from pathlib import Path
from typing import Any, NamedTuple

from vpnforensics.capture._kernels import NO_TIME
from vpnforensics.capture.pcapng import InterfaceNumbers
from vpnforensics.capture.records import RecordBatch
from vpnforensics.capture.stream import CaptureStream, Stored
from vpnforensics.capture.walk import RecordWalk
from vpnforensics.errors import CaptureError, NotACaptureError

_PROBE_BYTES = 1 << 16
_NEVER_NS = sys.maxsize


class CaptureFiles(NamedTuple):
    """What a path stands for."""

    files: Sequence[Stored]
    """To be read, in the order of their first packets."""
    skipped: int = 0
    """Other files of the folder: no captures."""
    copies: Sequence[str] = ()
    """Captures of the folder equal to one that is read, byte for byte."""
    folders: int = 0
    """Folders inside of the folder, not looked into: they may be other places, or the other side."""

    @property
    def paths(self) -> list[str]:
        """The files that have a name in the file system, or are standard input."""
        return [str(file) for file in self.files if isinstance(file, str | Path)]


def several(source: Stored | Sequence[Stored]) -> list[Stored]:
    """What was given as one capture, as a list.

    Raises
    ------
    TypeError
        It is nothing that a capture can be read from.
    """
    given: list[Any] = list(source) if isinstance(source, list | tuple) else [source]
    for each in given:
        if not isinstance(each, str | Path) and not hasattr(each, "readinto"):
            raise TypeError(
                "a capture is a path, an open binary file, a list of them, or a PacketTable;"
                f" not {type(each).__name__}"
            )
    if not given:
        raise ValueError("an empty list names no capture")
    return given


def capture_files(source: Stored | Sequence[Stored]) -> CaptureFiles:
    """The files to read for a capture.

    Parameters
    ----------
    source : str, Path or binary file, or a sequence of them
        A file, ``-``, or a folder; of a folder, the captures directly inside it. Of several files and
        folders, all of them.

    Raises
    ------
    NotACaptureError
        A folder without captures.
    CaptureError
        No name, a folder that cannot be listed, or a file in it that cannot be opened.
    """
    given = several(source)
    if len(given) > 1:
        return _of_several(given)
    if not isinstance(given[0], str | Path):
        return CaptureFiles(given)
    path = str(given[0])
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
    read, copies = _told_apart(captures)
    return CaptureFiles(read, len(files) - len(captures), copies, folders)


def _of_several(given: Sequence[Stored]) -> CaptureFiles:
    """Files and folders that were named one by one."""
    parts = []
    for each in given:
        if not isinstance(each, str | Path) or str(each) == "-":
            what = "standard input" if each == "-" else "an open file"
            raise CaptureError(str(each), None, f"{what} is a capture of its own, and none of several")
        parts.append(capture_files(each))
    # An empty name has been refused, and these are all paths.
    captures = [(_first_ns(file), file) for part in parts for file in part.paths]
    read, copies = _told_apart(captures)
    return CaptureFiles(
        read,
        sum(part.skipped for part in parts),
        [*copies, *(copy for part in parts for copy in part.copies)],
        sum(part.folders for part in parts),
    )


def _told_apart(captures: list[tuple[int, str]]) -> tuple[list[str], list[str]]:
    """Each content once, in order of time, and the copies: twice the same packets are no traffic that was.

    Only files of one first time and one size are compared, so that a folder without copies costs nothing.
    """
    read: list[str] = []
    copies: list[str] = []
    alike: dict[tuple[int, int], list[str]] = {}
    for first_ns, file in sorted(captures):
        try:
            others = alike.setdefault((first_ns, Path(file).stat().st_size), [])
            same = first_ns != _NEVER_NS and any(cmp(file, other, shallow=False) for other in others)
        except OSError as error:
            name = error.filename or file
            raise CaptureError(name, None, f"cannot be read: {error.strerror}") from error
        if same:
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
