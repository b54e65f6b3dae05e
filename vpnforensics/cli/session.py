"""One run of the command line, and the options that all commands share."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, TypeVar

import click

from vpnforensics.capture.encapsulations import NAMES
from vpnforensics.cli.terminal import Talk

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """What every command of one run shares; the ``obj`` of click's context.

    Parameters
    ----------
    arguments : list of str
        The command line without the program, for the record.
    """

    def __init__(self, arguments: list[str]) -> None:
        self.argv = ["vpnf", *arguments]
        self.talk = Talk()


class SuggestingGroup(click.Group):
    """A group that names the command that was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it; a command that is not there is named with those that look like it."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = get_close_matches(name, self.list_commands(ctx))
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {' or '.join(near)}?" if near else ""))
        return super().resolve_command(ctx, args)


pass_session = click.make_pass_decorator(Session)


def talk_options(command: F) -> F:
    """``-q`` and ``-v``, which set the session's talk."""

    def quiet(context: click.Context, _: click.Parameter, value: bool) -> None:
        context.ensure_object(Session).talk.quiet |= value

    def verbose(context: click.Context, _: click.Parameter, value: int) -> None:
        context.ensure_object(Session).talk.verbosity += value

    command = click.option(
        "-v", "--verbose", count=True, expose_value=False, is_eager=True, callback=verbose,
        help="Say how long each step takes; twice: show tracebacks.",
    )(command)  # fmt: skip
    return click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, is_eager=True, callback=quiet,
        help="Say nothing but errors.",
    )(command)  # fmt: skip


def output_options(*formats: str) -> Callable[[F], F]:
    """``-f`` with these formats, the first one by default, and ``-o``."""

    def decorate(command: F) -> F:
        command = click.option(
            "-f", "--format", "form", type=click.Choice(formats), default=formats[0], show_default=True,
            help="Form of the result.",
        )(command)  # fmt: skip
        return click.option(
            "-o", "--output", "target", default="-", metavar="FILE",
            help="Where the result goes; - is standard output.",
        )(command)  # fmt: skip

    return decorate


decap_option = click.option(
    "--decap", type=click.Choice(("auto", *NAMES)), default="auto", show_default=True,
    help="Read through a tap's encapsulation; auto: where the whole capture is in it.",
)  # fmt: skip


def select_option(command: F) -> F:
    """``--select``: which packets of a capture to read."""
    return click.option(
        "--select", default="", metavar="WHICH", callback=understood,
        help="Read only these packets, as tcpdump says it: 'host 192.0.2.1 and udp port 51820'; also"
        " 'after TIME and before TIME', and 'sample 1/20' of all pairs of addresses.",
    )(command)  # fmt: skip


def understood(context: click.Context, parameter: click.Parameter, text: str) -> str:
    """A selection, if it can be understood."""
    if text:
        from vpnforensics.packets.selection import Selection

        try:
            Selection.parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error), context, parameter) from error
    return text


def reading_options(command: F) -> F:
    """``--strict`` and ``--decap``: how captures are read."""
    return click.option(
        "--strict", is_flag=True, help="Refuse a capture that lost packets to damage (exit code 4)."
    )(decap_option(command))
