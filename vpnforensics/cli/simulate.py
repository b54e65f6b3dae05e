"""``vpnf simulate``: captures of both sides of a VPN server, with truth, without root."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from vpnforensics.cli.session import Session, pass_session, talk_options

_CLIENTS_A_PROCESS = 10


@click.command()
@click.argument("scenario", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, metavar="DIR", help="Where the captures and their truth go.")
@click.option(
    "--tunnels", type=click.IntRange(1), default=10, show_default=True, metavar="N", help="Clients."
)
@click.option(
    "--flows", type=click.IntRange(1), default=40, show_default=True, metavar="N",
    help="Egress flows of a tunnel, about.",
)  # fmt: skip
@click.option("--protocol", default="wireguard", show_default=True, metavar="NAME", help="Of all tunnels.")
@click.option(
    "--duration", type=click.FloatRange(3), default=120.0, show_default=True, metavar="S",
    help="Length of the captures, seconds.",
)  # fmt: skip
@click.option(
    "--scale", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, metavar="X",
    help="Factor on transfer sizes.",
)  # fmt: skip
@click.option("--offset", type=float, default=0.0, metavar="S", help="Egress clock: seconds ahead.")
@click.option("--drift", type=float, default=0.0, metavar="PPM", help="Egress clock: ppm fast.")
@click.option(
    "--loss",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Share that either capture misses.",
)
@click.option(
    "--jitter", type=click.FloatRange(0), default=0.0002, show_default=True, metavar="S",
    help="Jitter of the access paths, seconds.",
)  # fmt: skip
@click.option(
    "--snaplen", type=click.IntRange(64, 65535), default=65535, metavar="BYTES", help="Bytes kept of a frame."
)
@click.option(
    "--jobs", type=click.IntRange(1), metavar="N",
    help="Processes that share the work; by default one a processor, where there are clients enough.",
)  # fmt: skip
@click.option("--inner", is_flag=True, help="Also write what each client's tunnel device sees.")
@click.option("--force", is_flag=True, help="Replace captures in DIR that are no earlier case's, too.")
@click.option("--seed", type=click.IntRange(0), help="One seed, one result: the scenario's own, or 1.")
@talk_options
@pass_session
def simulate(
    session: Session,
    scenario: Path | None,
    out: str,
    tunnels: int,
    flows: int,
    protocol: str,
    duration: float,
    scale: float,
    offset: float,
    drift: float,
    loss: float,
    jitter: float,
    snaplen: int,
    jobs: int | None,
    inner: bool,
    force: bool,
    seed: int | None,
) -> None:
    """Simulate a SCENARIO (YAML), as the lab would record it; or many clients with
    a usual mix of traffic behind one VPN server.

    Writes ingress.pcap, egress.pcap, truth.json and manifest.json into DIR, in
    place of an earlier case there; other captures of these names are left, and it
    refuses. The same options and seed give the same bytes, whatever --jobs.
    """
    if scenario is not None:
        _simulate_scenario(session, scenario, out, inner, force, seed, jobs)
        return
    with session.talk.progress() as show:
        show("simulating", 0.0)
        from dataclasses import replace

        from vpnforensics.groundtruth.simulate.mixes import mixed_case
        from vpnforensics.groundtruth.simulate.outer import PROTOCOLS
        from vpnforensics.groundtruth.simulate.run import simulate as run
        from vpnforensics.groundtruth.simulate.spec import Capture

        if protocol not in PROTOCOLS:
            raise click.BadParameter(
                f"{protocol!r} is not one of {', '.join(sorted(PROTOCOLS))}.", param_hint="'--protocol'"
            )
        spec = mixed_case(
            tunnels=tunnels,
            flows=flows,
            protocol=protocol,
            duration_s=duration,
            scale=scale,
            jitter_s=jitter,
            ingress=Capture(loss=loss, snaplen=snaplen),
            egress=Capture(offset_s=offset, drift_ppm=drift, loss=loss, snaplen=snaplen),
        )
        run(
            replace(spec, inner=inner),
            out,
            1 if seed is None else seed,
            force=force,
            jobs=jobs or _jobs(tunnels),
            progress=show,
        )
    session.talk.warn(f"{out}: ingress.pcap, egress.pcap, truth.json, manifest.json")


def _jobs(clients: int) -> int:
    """Starting a process takes about as long as a few clients do."""
    from vpnforensics.warm import cores

    return max(min(cores(), clients // _CLIENTS_A_PROCESS), 1)


def _simulate_scenario(
    session: Session, path: Path, out: str, inner: bool, force: bool, seed: int | None, jobs: int | None
) -> None:
    context = click.get_current_context()
    for name in context.params:
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in ("scenario", "out", "jobs", "inner", "force", "seed"):
            raise click.UsageError(f"--{name} is for a usual mix; with a SCENARIO, write it there.")
    with session.talk.progress() as show:
        show(f"simulating {path}", 0.0)
        from dataclasses import replace

        from vpnforensics.groundtruth.scenario import load
        from vpnforensics.groundtruth.simulate.from_scenario import simulate_scenario

        scenario = load(path, seed=seed)
        capture = replace(scenario.capture, inner=scenario.capture.inner or inner)
        jobs = jobs or _jobs(len(scenario.clients))
        simulate_scenario(replace(scenario, capture=capture), out, force=force, jobs=jobs)
    session.talk.warn(f"{out}: captures, truth.json, manifest.json")
