"""From exceptions to one message and one exit code."""

from __future__ import annotations

import os
import stat
import sys
import traceback

import click

from vpnforensics.cli.terminal import Talk
from vpnforensics.errors import (
    CaptureError,
    CaseError,
    ConversionError,
    LogError,
    SavedCaseError,
    ScenarioError,
    VpnForensicsError,
)
from vpnforensics.extras import EXTRAS, how_to_get
from vpnforensics.report.escaping import visible

DONE = 0
INTERNAL = 1
USAGE = 2
UNREADABLE = 3
DAMAGED = 4
INTERRUPTED = 130
"""128 + SIGINT, as shells count."""
BROKEN_PIPE = 141
"""128 + SIGPIPE: whoever read our output had enough."""


class DamagedInputError(VpnForensicsError):
    """A capture lost packets to damage, and ``--strict`` was asked for."""


class MemoryLimitError(VpnForensicsError):
    """A command needs more memory than it was allowed."""


class ReaderGoneError(VpnForensicsError):
    """Whoever read standard output closed it; a class of its own, as click makes 1 of a broken pipe."""


class OutputError(VpnForensicsError):
    """The result cannot be written where it was asked for."""


def exit_code(error: BaseException, talk: Talk) -> int:
    """Say what went wrong, and return what the process exits with."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        talk.say("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError | ReaderGoneError):
        _forget_stdout()
        return BROKEN_PIPE
    if talk.debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, click.UsageError):
        if error.ctx is not None:
            talk.say(error.ctx.get_usage())
            talk.say(f"Try '{error.ctx.command_path} --help' for help.")
        talk.error(error.format_message() + _standard_input_meant(error))
        return USAGE
    if isinstance(error, click.ClickException):
        talk.error(error.format_message())
        return error.exit_code
    code, message = _judged(error)
    talk.error(message)
    if code == INTERNAL and not isinstance(error, VpnForensicsError | OSError | MemoryError):
        talk.say(
            "This is a fault of vpnforensics, not of your files. Please report it with the traceback that"
            " VPNF_DEBUG=1 shows (it holds no packet contents, but paths and addresses may appear)."
        )
    return code


def _standard_input_meant(error: click.UsageError) -> str:
    """How to say what was probably meant, where a capture is missing and standard input is one."""
    if not isinstance(error, click.MissingParameter) or error.ctx is None:
        return ""
    if "decap" not in {param.name for param in error.ctx.command.params}:  # it reads no captures
        return ""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # closed, or a stand-in without a descriptor
        return ""
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        return ""
    return f" To read standard input, name it: {error.ctx.command_path} -"


def _judged(error: BaseException) -> tuple[int, str]:
    if isinstance(error, DamagedInputError):
        return DAMAGED, str(error)
    if isinstance(error, CaptureError | CaseError | LogError | SavedCaseError):
        return UNREADABLE, str(error)
    if isinstance(error, ConversionError | OutputError | ScenarioError):
        return USAGE, str(error)
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").partition(".")[0]
        if missing in EXTRAS:
            return USAGE, how_to_get(missing)
    if isinstance(error, VpnForensicsError):
        return INTERNAL, str(error)
    if isinstance(error, MemoryError):
        return INTERNAL, "not enough memory for this capture"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return INTERNAL, f"{where}{error.strerror or error}"
    return INTERNAL, f"internal error: {type(error).__name__}: {visible(str(error))[:300]}"


def _forget_stdout() -> None:
    """Let the interpreter flush into nothing at exit instead of failing once more."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):  # a stand-in for standard output has no descriptor
        pass
