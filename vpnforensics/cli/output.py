"""Where data go: standard output, or a file that appears whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vpnforensics.cli.errors import OutputError, ReaderGoneError
from vpnforensics.cli.terminal import PLAIN_WIDTH, terminal_width

if TYPE_CHECKING:
    from rich.console import RenderableType

_ANY_HEIGHT = 100


class Output:
    """The target of ``-o``: a path, or ``-`` for standard output.

    Made before the work starts, so that a place that cannot be written to is refused at once.

    Parameters
    ----------
    target : str
    inputs : iterable of str, optional
        Paths that are read, and must not be written over.

    Raises
    ------
    OutputError
        The target is a folder, lies in no folder, is an input, or may not be written to.
    """

    def __init__(self, target: str, inputs: Iterable[str] = ()) -> None:
        self.path = None if target == "-" else Path(target)
        if self.path is None and sys.stdout is None:
            raise OutputError("standard output is closed; name a file with -o FILE")
        if self.path is not None:
            _refuse_impossible(self.path, inputs)

    @property
    def width(self) -> int:
        """Columns for a table that goes here."""
        return terminal_width() if self.path is None else PLAIN_WIDTH

    def write(self, pieces: Iterable[str | bytes]) -> None:
        """Write all pieces: to a file under a name of its own first, so that no half result is left."""
        if self.path is None:
            _to_stdout(pieces)
            return
        try:
            if self.path.exists() and not self.path.is_file():  # a pipe or a device
                with self.path.open("wb") as file:
                    file.writelines(map(_bytes, pieces))
                return
            _replace(self.path, pieces)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, f"cannot be written: {error.strerror}", str(self.path)) from error

    def show(self, view: RenderableType) -> None:
        """Write what rich can render; with colours on a terminal only."""
        from rich.console import Console

        on_terminal = self.path is None and sys.stdout.isatty()
        console = Console(
            width=self.width,
            height=_ANY_HEIGHT,  # without it, rich takes a dumb terminal for one of 80 columns
            force_terminal=on_terminal,
            no_color=None if on_terminal else True,
            highlight=False,
            markup=False,
            emoji=False,
        )
        # Captured, not printed: the file or pipe may break, and that is for write to say.
        with console.capture() as captured:
            console.print(view, crop=False)  # a table may need more columns than there are
        lines = (line.rstrip() if not on_terminal else line for line in captured.get().split("\n"))
        self.write(["\n".join(lines)])

    def refuse_terminal(self, what: str) -> None:
        """Refuse to write binary data on a screen."""
        if self.path is None and sys.stdout.isatty():
            raise click.UsageError(f"{what} is binary; write it to a file with -o FILE")


def refuse_used(folder: Path) -> None:
    """Refuse a folder that is not new or empty: nothing is overwritten.

    Raises
    ------
    OutputError
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: is there already, and is no empty folder; name another one")


def _refuse_impossible(path: Path, inputs: Iterable[str]) -> None:
    try:
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; name a file in it")
        if not path.parent.is_dir():
            raise OutputError(f"{path}: cannot be written: there is no folder {path.parent}")
        for each in inputs:
            if path.is_file() and _is_read(path, each):
                raise OutputError(f"{path}: is an input; the result would destroy the evidence")
        target = path if path.exists() and not path.is_file() else path.parent
        if not os.access(target, os.W_OK) or (path.is_file() and not os.access(path, os.W_OK)):
            raise OutputError(f"{path}: cannot be written: permission denied")
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be written: {error}") from error


def _is_read(path: Path, each: str) -> bool:
    """Whether an existing file is what an input names, or one of the captures of its folder."""
    from vpnforensics.capture.rotation import capture_files
    from vpnforensics.errors import NotACaptureError
    from vpnforensics.packets.folder.layout import is_folder_of_columns

    if each == "-":
        try:
            return os.path.samestat(path.stat(), os.fstat(0))
        except OSError:  # standard input is closed, which reading it will say
            return False
    if is_folder_of_columns(each):
        return path.resolve().is_relative_to(Path(each).resolve())
    try:
        found = capture_files(each)
    except NotACaptureError:
        return False
    return any(Path(file).exists() and path.samefile(file) for file in (*found.paths, *found.copies))


def _replace(path: Path, pieces: Iterable[str | bytes]) -> None:
    path = path.resolve()  # through a symbolic link, to the file it names
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask()
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(map(_bytes, pieces))
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _to_stdout(pieces: Iterable[str | bytes]) -> None:
    try:
        sys.stdout.flush()
        for piece in pieces:
            sys.stdout.buffer.write(_bytes(piece))
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderGoneError("standard output was closed") from error


def _bytes(piece: str | bytes) -> bytes:
    return piece.encode("utf-8", "backslashreplace") if isinstance(piece, str) else piece
