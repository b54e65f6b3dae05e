"""Talk: everything that goes to standard error, and how wide a terminal is."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vpnforensics.report.escaping import visible
from vpnforensics.warm import first_run

PLAIN_WIDTH = 100
"""Columns of a table that goes to a file or a pipe."""


class Talk:
    """What a command says beside its data: messages, progress, errors.

    One is made by ``main`` for each run; ``-q`` and ``-v`` set it.
    """

    def __init__(self) -> None:
        self.quiet = False
        self.verbosity = 0

    @property
    def debug(self) -> bool:
        """True where tracebacks are wanted."""
        return self.verbosity > 1 or os.environ.get("VPNF_DEBUG", "") not in ("", "0")

    def say(self, text: str) -> None:
        """One or more lines on standard error."""
        for line in text.splitlines():
            self._line(line)

    def error(self, text: str) -> None:
        """What went wrong, on one line, whatever names are in it; always shown."""
        self._line(f"vpnf: error: {text}")

    def warn(self, text: str) -> None:
        """What the user should know; not with ``-q``."""
        if not self.quiet:
            self._line(f"vpnf: {text}")

    def _line(self, text: str) -> None:
        if sys.stderr is not None:  # closed: print would take standard output
            print(visible(text), file=sys.stderr)

    @contextmanager
    def progress(self, section: str = "") -> Iterator[Callable[[str, float], None]]:
        """A callback for steps and their share done: a bar on a terminal, timed lines with ``-v``.

        ``section`` is the part of the list of kernels that the steps need (see :mod:`vpnforensics.warm`);
        that they are being compiled is said, too.
        """
        with self._steps() as show:
            if not section:
                yield show
                return
            said = False

            def tell(number: int, total: int) -> None:
                nonlocal said
                show(f"compiling, first run only: {number} of {total}", number / total)
                if not said and not self._on_terminal():
                    self.warn("compiling, first run only")
                said = True

            with first_run(section, tell):
                yield show

    def _on_terminal(self) -> bool:
        return not self.quiet and sys.stderr is not None and sys.stderr.isatty()

    @contextmanager
    def _steps(self) -> Iterator[Callable[[str, float], None]]:
        if self.verbosity and not self.quiet:
            steps = _TimedSteps(self)
            yield steps
            steps("", 0.0)
            return
        if not self._on_terminal():
            yield lambda step, share: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(30),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)

            def show(step: str, share: float) -> None:
                bar.update(task, description=visible(step), total=1.0 if share > 0 else None, completed=share)

            yield show


class _TimedSteps:
    """Progress as lines: each step with the time it took."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.step = ""
        self.since = time.monotonic()

    def __call__(self, step: str, share: float) -> None:
        if step == self.step:
            return
        now = time.monotonic()
        if self.step:
            self.talk.warn(f"{self.step}: {now - self.since:.2f} s")
        self.step, self.since = step, now


def terminal_width() -> int:
    """Columns of standard output: the terminal's, else ``COLUMNS``, else a fixed number."""
    if sys.stdout.isatty():
        return max(40, shutil.get_terminal_size().columns)
    asked = os.environ.get("COLUMNS", "")
    return max(40, int(asked)) if asked.isdigit() else PLAIN_WIDTH
