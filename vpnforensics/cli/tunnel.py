"""``vpnf tunnel``: keys, up, down and show of the reference tunnel."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vpnforensics.cli.session import SuggestingGroup
from vpnforensics.errors import TunnelError

T = TypeVar("T")

_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.05


@click.group(name="tunnel", cls=SuggestingGroup)
def tunnel() -> None:
    """A real VPN, WireGuard on the wire, that writes its own ground truth."""


@tunnel.command()
def genkey() -> None:
    """Print a new private key."""
    from vpnforensics.reftunnel.keys import PrivateKey

    click.echo(PrivateKey.generate().to_text())


@tunnel.command()
def genpsk() -> None:
    """Print a new pre-shared key."""
    from vpnforensics.reftunnel.keys import PresharedKey

    click.echo(PresharedKey.generate().to_text())


@tunnel.command()
def pubkey() -> None:
    """Read a private key from standard input and print its public key."""
    from vpnforensics.reftunnel.keys import PrivateKey

    click.echo(str(_or_fail(lambda: PrivateKey.from_text(sys.stdin.read()).public)))


@tunnel.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-f", "--foreground", is_flag=True, help="Stay here until interrupted.")
@click.option("--ready-fd", type=int, hidden=True, help="Descriptor to close when traffic may flow.")
@click.option(
    "--log", "log_file", type=click.Path(path_type=Path), help="Where a background tunnel writes messages."
)
def up(file: Path, foreground: bool, ready_fd: int | None, log_file: Path | None) -> None:
    """Bring up the tunnel that FILE (wg-quick format) describes."""
    if not foreground:
        _up_in_background(file, log_file)
        return
    from vpnforensics.reftunnel.config import read_config
    from vpnforensics.reftunnel.service import run

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.raiseExceptions = False  # a full disk at the log is no reason to say more

    def ready() -> None:
        _tell_systemd()
        if ready_fd is not None:
            if stat.S_ISFIFO(os.fstat(2).st_mode):
                # The command that started us reads our errors until now, and then goes away.
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 2)
                os.close(null)
            os.close(ready_fd)

    _or_fail(lambda: run(read_config(file), ready))


@tunnel.command()
@click.argument("name")
def down(name: str) -> None:
    """Take down the tunnel NAME (an interface, or the file that it came from)."""
    from vpnforensics.reftunnel import control

    interface = Path(name).stem if name.endswith(".conf") else name
    _or_fail(lambda: control.ask(interface, "down"))
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while control.socket_path(interface).exists() and time.monotonic() < deadline:
        time.sleep(_POLL_S)


@tunnel.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, with drop counters.")
@click.option("--metrics", "as_metrics", is_flag=True, help="Prometheus' text format.")
def show(name: str | None, as_json: bool, as_metrics: bool) -> None:
    """Print the state of the tunnel NAME, or of all."""
    from vpnforensics.reftunnel import control
    from vpnforensics.reftunnel.status import metrics, render

    states = _or_fail(lambda: [control.ask(name, "show")] if name else control.ask_all("show"))
    if as_metrics:
        click.echo(metrics(states), nl=False)
    elif as_json:
        click.echo(json.dumps(states[0] if name else states))
    elif states:
        click.echo("\n\n".join(render(state) for state in states))


def _peer_options(command: Callable[..., None]) -> Callable[..., None]:
    """What `wg set` lets one say of a peer."""
    for option in (
        click.option("--preshared-key", type=click.Path(path_type=Path), help="File that holds it."),
        click.option("--keepalive", type=click.IntRange(0, 65_535), help="Seconds; 0 switches it off."),
        click.option("--endpoint", help="Address or name, and port."),
        click.option("--allowed-ips", help="Networks, by commas: all that are to be its own."),
    ):
        command = option(command)
    return command


@tunnel.command(name="add-peer")
@click.argument("name")
@click.argument("public_key")
@_peer_options
def add_peer(name: str, public_key: str, **options: Any) -> None:
    """Add a peer to the running tunnel NAME. The configuration file stays as it is."""
    _or_fail(lambda: _change(name, "add-peer", public_key, **options))


@tunnel.command(name="set")
@click.argument("name")
@click.argument("public_key")
@_peer_options
def set_peer(name: str, public_key: str, **options: Any) -> None:
    """Change a peer of the running tunnel NAME; its sessions go on. The file stays as it is."""
    _or_fail(lambda: _change(name, "set", public_key, **options))


@tunnel.command(name="remove-peer")
@click.argument("name")
@click.argument("public_key")
def remove_peer(name: str, public_key: str) -> None:
    """Remove a peer from the running tunnel NAME, and the keys shared with it."""
    _or_fail(lambda: _change(name, "remove-peer", public_key))


def _change(
    name: str,
    request: str,
    public_key: str,
    allowed_ips: str | None = None,
    endpoint: str | None = None,
    keepalive: int | None = None,
    preshared_key: Path | None = None,
) -> None:
    from vpnforensics.reftunnel import control
    from vpnforensics.reftunnel.changes import pack
    from vpnforensics.reftunnel.keys import PresharedKey, PublicKey, read_private
    from vpnforensics.reftunnel.lookup import resolve

    PublicKey.from_text(public_key)
    if endpoint is not None:  # here, because the tunnel must not wait for a resolver
        found = resolve(endpoint, control.ask(name, "show")["transport"])
        endpoint = str(found).removesuffix("/tcp")
    secret = None
    if preshared_key is not None:
        secret = PresharedKey.from_text(read_private(preshared_key).decode("ascii", "replace")).to_text()
    text = pack(
        public_key,
        None if allowed_ips is None else [part.strip() for part in allowed_ips.split(",") if part.strip()],
        endpoint,
        keepalive,
        secret,
    )
    control.ask(name, f"{request} {text}")


def _tell_systemd() -> None:
    """Tell a service manager that traffic may flow: sd_notify(3), ``Type=notify``."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)


def _up_in_background(file: Path, log_file: Path | None) -> None:
    """Start this command again, detached, and wait until it carries traffic or says why it cannot."""
    from vpnforensics.reftunnel.files import refuse_one_file_for_two

    _or_fail(lambda: refuse_one_file_for_two({"the configuration": file, "--log": log_file}))
    read_end, write_end = os.pipe()
    errors_read, errors_write = os.pipe()
    command = [
        sys.executable,
        "-m",
        "vpnforensics.reftunnel",
        "up",
        str(file),
        "-f",
        "--ready-fd",
        str(write_end),
    ]
    err = (
        errors_write if log_file is None else os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    )
    child = subprocess.Popen(  # noqa: S603 (our own program, no shell)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=err,
        pass_fds=(write_end,),
        start_new_session=True,
    )
    os.close(write_end)
    os.close(errors_write)
    os.read(read_end, 1)  # end of file: it closed the descriptor, on purpose or by dying
    try:
        status = child.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return
    message = (
        os.read(errors_read, 4096).decode(errors="replace").strip() if log_file is None else f"see {log_file}"
    )
    raise click.ClickException(message.removeprefix("Error: ") or f"it ended with status {status}")


def _or_fail(action: Callable[[], T]) -> T:
    try:
        return action()
    except TunnelError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    tunnel(prog_name="vpnf tunnel")
