"""``vpnf lab``: real VPN software in network namespaces, recorded on both sides of the server."""

from __future__ import annotations

from pathlib import Path

import click

from vpnforensics.cli.output import Output
from vpnforensics.cli.session import Session, SuggestingGroup, output_options, pass_session, talk_options

_out = click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
    help="Where the captures and their truth go.",
)  # fmt: skip

_force = click.option(
    "--force", is_flag=True, help="Replace captures in DIR that are no earlier case's, too."
)


@click.group(cls=SuggestingGroup)
def lab() -> None:
    """Record real VPN software on both sides, with truth (needs root on Linux)."""


@lab.command()
@output_options("table", "json")
@talk_options
def doctor(form: str, target: str) -> int:
    """Say what the lab and the tests need and this machine lacks; exit code 1 if anything."""
    from vpnforensics.groundtruth.lab.doctor import apt_line
    from vpnforensics.groundtruth.lab.doctor import doctor as examine

    output = Output(target)
    findings = examine()
    line = apt_line(findings)
    if form == "json":
        from vpnforensics.report.escaping import json_text

        rows = [{"what": f.what, "missing": list(f.missing), "packages": list(f.packages)} for f in findings]
        output.write([json_text(rows, indent=1) + "\n"])
    else:
        width = max(len(f.what) for f in findings)
        lines = [
            f"{f.what:{width}}  {'ok' if f.well else 'missing ' + ', '.join(f.missing)}" for f in findings
        ]
        output.write(["\n".join([*lines, *([f"install: {line}"] if line else [])]) + "\n"])
    return 0 if all(f.well for f in findings) else 1


@lab.command()
@talk_options
@pass_session
def install(session: Session) -> int:
    """Install what `doctor` finds missing (root, Debian and its kin).

    Starts no service. Without root or apt-get it says what is missing and
    changes nothing; exit code 1 if an installation failed.
    """
    from vpnforensics.groundtruth.lab.install import install as install_missing

    failed = install_missing(session.talk.warn)
    if failed:
        session.talk.error(failed)
    return 1 if failed else 0


@lab.command()
@click.option("--vpn", required=True, metavar="KIND", help="VPN software; `vpnf lab doctor` lists the kinds.")
@click.option("--clients", type=click.IntRange(1), default=3, show_default=True, metavar="N")
@click.option("--seconds", type=click.FloatRange(5), default=75.0, show_default=True, metavar="S")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--inner", is_flag=True, help="Also keep the captures inside the tunnels.")
@_out
@_force
@talk_options
@pass_session
def record(
    session: Session, vpn: str, clients: int, seconds: float, seed: int, inner: bool, out: Path, force: bool
) -> None:
    """Record a usual mix of clients, without writing a scenario."""
    from vpnforensics.groundtruth.lab.record import usual
    from vpnforensics.groundtruth.lab.run import run

    with session.talk.progress() as show:
        show(f"recording {vpn}", 0.0)
        result = run(usual(vpn, clients, seconds, seed, inner=inner), out, force=force)
    session.talk.warn(f"{result.folder}: {result.captured} {result.coverage.as_dict()}")


@lab.command()
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(0), help="Instead of the scenario's own.")
@_out
@_force
@talk_options
@pass_session
def run(session: Session, scenario: Path, seed: int | None, out: Path, force: bool) -> None:
    """Record a SCENARIO (YAML)."""
    from vpnforensics.groundtruth.lab.run import run as run_scenario
    from vpnforensics.groundtruth.scenario import load

    with session.talk.progress() as show:
        show(f"recording {scenario}", 0.0)
        result = run_scenario(load(scenario, seed=seed), out, force=force)
    session.talk.warn(f"{result.folder}: {result.captured} {result.coverage.as_dict()}")


@lab.command()
@click.option("--force", is_flag=True, help="Also of runs that still seem to be going on.")
@talk_options
@pass_session
def clean(session: Session, force: bool) -> None:
    """Remove what killed runs left behind: processes, namespaces, files."""
    from vpnforensics.groundtruth.lab.state import clean as clean_up

    for name in clean_up(force=force):
        session.talk.warn(f"removed {name}")
