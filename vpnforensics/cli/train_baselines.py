"""``vpnf train-baselines``: weights for the networks that `vpnf validate` holds its own evidence against."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from vpnforensics.cli.errors import OutputError
from vpnforensics.cli.session import Session, pass_session, talk_options

PROTOCOLS = ("wireguard", "openvpn-udp", "strongswan", "openvpn-tcp", "nebula", "wireguard")
"""Of the sessions that are simulated, in turn."""
TUNNELS, FLOWS, DURATION_S = 12, 60, 60.0
_SEED = 900_000
"""Seeds of simulated sessions begin here: those of the validation are far below."""


@click.command("train-baselines")
@click.argument("folders", nargs=-1, metavar="[DIR]...", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, metavar="FILE", type=click.Path(path_type=Path), help="New .npz."
)
@click.option(
    "--sessions", type=click.IntRange(1, 1000), default=len(PROTOCOLS), show_default=True, metavar="N",
    help="To simulate, where no DIR is given.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Batches of each network; 4000.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of sessions and weights.")
@talk_options
@pass_session
def train_baselines(
    session: Session,
    folders: tuple[Path, ...],
    output: Path,
    sessions: int,
    steps: int | None,
    seed: int,
) -> None:
    """Train the networks for `vpnf validate --networks FILE`.

    A DeepCorr-style network and a DeepCoFFEA-style embedding, small enough for two
    cores, on simulated sessions or on DIRs with captures and truth. FILE tells
    which sessions they have seen: they are not judged on those.
    """
    import jax  # noqa: F401 - its absence should show before the work, not after

    if output.exists():
        raise OutputError(f"{output}: is there already; name another file")
    with session.talk.progress() as show, tempfile.TemporaryDirectory() as made:
        show("simulating", 0.0)
        from vpnforensics.validation.baselines.networks.training import DAMAGES, STEPS, train
        from vpnforensics.validation.baselines.networks.weights import save
        from vpnforensics.validation.sessions import open_sessions
        from vpnforensics.validation.trials import every

        known = open_sessions(folders or simulated(Path(made), sessions, seed))
        networks = train(every(known, DAMAGES), steps or STEPS, seed, show)
        try:
            save(output, networks)
        except OSError as error:
            raise OutputError(f"{output}: cannot be written: {error.strerror}") from error
    for each in networks:
        session.talk.warn(f"{each.name}: {each.steps} batches in {each.seconds:.0f} s")


def simulated(folder: Path, sessions: int, seed: int) -> Sequence[Path]:
    """Sessions to train on."""
    from vpnforensics.groundtruth.simulate.mixes import mixed_case
    from vpnforensics.groundtruth.simulate.run import simulate
    from vpnforensics.groundtruth.simulate.spec import Capture

    made = []
    for number in range(sessions):
        of = _SEED + 1000 * seed + number
        snap = Capture(snaplen=96)
        spec = mixed_case(
            TUNNELS, FLOWS, PROTOCOLS[number % len(PROTOCOLS)], DURATION_S, scale=0.1,
            ingress=snap, egress=snap, seed=of,
        )  # fmt: skip
        simulate(spec, folder / f"{number:03d}", of)
        made.append(folder / f"{number:03d}")
    return made
