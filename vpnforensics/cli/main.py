"""``vpnf``: the command line. The only place that turns an exception into words and an exit code.

Commands are loaded when they are run, so that ``vpnf --help`` does not wait for numpy and numba.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import cast

import click

from vpnforensics._version import __version__
from vpnforensics.cli.errors import DONE, USAGE, exit_code
from vpnforensics.cli.session import Session, SuggestingGroup, talk_options

_COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "correlate": ("vpnforensics.cli.correlate:correlate", "Which tunnel carried which flow."),
        "show": ("vpnforensics.cli.saved:show", "A saved case again, whole or as an answer."),
        "verify": ("vpnforensics.cli.saved:verify", "Hold a saved case against its captures."),
        "annotate": (
            "vpnforensics.cli.annotate:annotate",
            "Both captures as one, commented for Wireshark.",
        ),
        "audit": ("vpnforensics.cli.audit:audit", "How linkable your users are, and what lowers it."),
        "info": ("vpnforensics.cli.captures:info", "What captures hold, and what is wrong with them."),
        "packets": ("vpnforensics.cli.captures:packets", "The packet table of a capture."),
        "convert": ("vpnforensics.cli.convert:convert", "Captures as columns, to be read again in part."),
        "flows": ("vpnforensics.cli.conversations:flows", "The conversations in a capture."),
        "tunnels": ("vpnforensics.cli.conversations:tunnels", "The VPN tunnels in a capture."),
        "clocks": ("vpnforensics.cli.fields:clocks", "TCP timestamp clocks: rate, skew, offset, breaks."),
        "ipids": ("vpnforensics.cli.fields:ipids", "IP ID sequences: class, scope, missing packets."),
        "devices": ("vpnforensics.cli.fields:devices", "Which flows share one operating system's stack."),
        "logs": ("vpnforensics.cli.logs:logs", "The sessions in a VPN server's usage logs."),
        "validate": ("vpnforensics.cli.validate:validate", "How good the evidence is, by known truth."),
        "train-baselines": (
            "vpnforensics.cli.train_baselines:train_baselines",
            "Train the networks that validate compares with.",
        ),
        "exercise": (
            "vpnforensics.cli.exercise:exercise",
            "Blind cases for analysts, and marks for answers.",
        ),
        "engines": ("vpnforensics.cli.engines:engines", "The engines, and when each speaks."),
        "warm-up": ("vpnforensics.cli.warm_up:warm_up", "Compile now what the first run would compile."),
        "simulate": ("vpnforensics.cli.simulate:simulate", "Make captures of both sides, with truth."),
        "lab": ("vpnforensics.cli.lab:lab", "Record real VPN software on both sides, with truth."),
        "tunnel": ("vpnforensics.cli.tunnel:tunnel", "Run the reference tunnel: WireGuard on the wire."),
    }
)
"""Where each command is, and its one line in the help."""


class _LazyGroup(SuggestingGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        return cast(click.Command, getattr(import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


@click.group(
    cls=_LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="vpnf", message="%(prog)s %(version)s")
@talk_options
@click.pass_context
def vpnf(context: click.Context) -> int | None:
    """VPN traffic-analysis forensics.

    Which encrypted tunnel carried this decrypted flow? Start with
    `vpnf correlate INGRESS EGRESS`: the capture of the client-facing side of a
    VPN server, and the one of its Internet-facing side.

    Exit codes: 0 done, 1 internal, 2 usage, 3 unreadable input, 4 damaged input
    under --strict or a case that does not verify, 130 interrupted, 141 the reader of the output closed it.
    """
    if context.invoked_subcommand is not None:
        return None
    click.echo(context.get_help(), err=True)
    return USAGE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    session = Session(arguments)
    try:
        code = vpnf.main(arguments, prog_name="vpnf", standalone_mode=False, obj=session)
        if sys.stdout is not None:  # as in `>&-`
            sys.stdout.flush()
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else DONE
    except BaseException as error:
        return exit_code(error, session.talk)
    return code if isinstance(code, int) else DONE


if __name__ == "__main__":
    sys.exit(main())
