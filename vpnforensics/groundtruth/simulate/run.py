"""A whole case: clients one by one, then two captures in order of time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numba
import numpy as np

from vpnforensics._version import __version__
from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.case_folder import MANIFEST, claim, put
from vpnforensics.groundtruth.simulate.containers import contain
from vpnforensics.groundtruth.simulate.nat import Nat
from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.outer import PROTOCOLS
from vpnforensics.groundtruth.simulate.outlines import Outline
from vpnforensics.groundtruth.simulate.player import Player, Settled
from vpnforensics.groundtruth.simulate.relay import refuse_impossible
from vpnforensics.groundtruth.simulate.spec import SimulationSpec
from vpnforensics.groundtruth.simulate.tape import BINS, spans
from vpnforensics.groundtruth.simulate.taps import Clocks
from vpnforensics.groundtruth.simulate.teller import Teller
from vpnforensics.groundtruth.simulate.truth import Truth
from vpnforensics.groundtruth.simulate.workers import Workers, workers

_PACKETS_AT_ONCE = 1 << 19


def check(spec: SimulationSpec) -> None:
    """Refuse what cannot be simulated.

    Raises
    ------
    ScenarioError
        An unknown protocol, no time, names that stand twice, countermeasures that a stream cannot have.
    """
    if not spec.duration_s > 0:
        raise ScenarioError("the duration must be positive")
    for client in spec.clients:
        name = client.protocol or spec.protocol
        if name not in PROTOCOLS:
            known = ", ".join(sorted(PROTOCOLS))
            raise ScenarioError(f"{client.name}: no protocol {name!r}; there are {known}")
        if PROTOCOLS[name].stream and (spec.countermeasures.cover_hz or spec.countermeasures.pad_buckets):
            raise ScenarioError(f"{client.name}: cover traffic and size buckets need datagrams, not {name}")
        if PROTOCOLS[name].relay:
            refuse_impossible(client, name)
            if spec.countermeasures.pad_block or spec.countermeasures.pad_mtu:
                raise ScenarioError(f"{client.name}: padding needs packets, not {name}")
        if any(not 0 <= activity.device < len(client.devices) for activity in client.traffic):
            raise ScenarioError(f"{client.name}: an activity names a device that is not there")
    cut = spec.ingress.cut_bytes or spec.egress.cut_bytes
    if cut and (spec.single_file or spec.ingress.pcapng or spec.egress.pcapng):
        raise ScenarioError("only plain pcap files are cut short")
    names = [device.name for client in spec.clients for device in client.devices]
    if len(set(names)) < len(names):
        raise ScenarioError("two devices have the same name")


def simulate(
    spec: SimulationSpec,
    out_dir: str | Path,
    seed: int,
    *,
    force: bool = False,
    jobs: int = 1,
    progress: Callable[[str, float], None] = lambda step, share: None,
) -> Truth:
    """Simulate a case and write its two captures, its truth and its manifest.

    Parameters
    ----------
    spec : SimulationSpec
        What to simulate.
    out_dir : str or Path
        Made if missing; receives ``ingress.pcap``, ``egress.pcap``, ``truth.json``, ``manifest.json``, and
        ``inner-CLIENT.pcap`` where asked for, all at once at the end. An earlier case there is replaced.
        Until then it takes about 100 bytes a packet more than they do.
    seed : int
        The same specification and seed give the same bytes. A client keeps its packets when others are
        added after it.
    force : bool
        Replace files of these names that are not, or no longer, an earlier case's, too.
    jobs : int
        Processes that share the work; the bytes are the same. A program that asks for more than one must
        be importable (``if __name__ == "__main__"``), as :mod:`multiprocessing` demands. Memory is each
        one's largest client, and half a million packets while captures are written.
    progress : callable
        Told the step, and the share of it that is done.

    Returns
    -------
    Truth
        As in ``truth.json``.

    Raises
    ------
    OSError
        The disk is full, or cannot be written; nothing was.
    ScenarioError
        The specification is impossible, files in the folder would be lost, or a process
        was ended from outside.
    """
    check(spec)
    out = Path(out_dir)
    earlier = claim(out, force=force)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=out) as made:
            folder = Path(made)
            with tempfile.TemporaryDirectory(prefix=".partial-", dir=out) as work:
                truth = _simulate(spec, seed, folder, Path(work), jobs, progress)
            truth.write(folder / "truth.json")
            inner = [f"inner-{client.name}.pcap" for client in spec.clients if spec.inner]
            written = [*contain(folder, spec), "truth.json", *(n for n in inner if (folder / n).exists())]
            _write_manifest(folder, spec, seed, written)
            put(folder, out, earlier)
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(out)) from error  # a disk that is full has no name
    return truth


def _simulate(
    spec: SimulationSpec,
    seed: int,
    folder: Path,
    work: Path,
    jobs: int,
    progress: Callable[[str, float], None],
) -> Truth:
    """Every part is played, then settled; then spans of time are written out of all of them."""
    player = Player(spec, seed, folder, work)
    for tape in player.tapes.values():
        tape.create()
    told = Teller(spec, player.around)
    nat = Nat(spec.server.random_ports)
    sizes = {side: np.zeros(BINS, np.int64) for side in player.tapes}
    first_ns: list[int] = []
    jobs = max(min(jobs, player.parts), 1)
    with workers(jobs, player, spec, seed, (folder, work)) as hands:
        settling: deque[tuple[int, Outline, Ints, Future[Settled]]] = deque()

        def settled(most: int) -> None:
            while len(settling) > most:
                part, run, public, work = settling.popleft()
                found = work.result()
                sizes["ingress"] += found.ingress_bytes
                sizes["egress"] += found.egress_bytes
                if found.first_ns is not None:
                    first_ns.append(found.first_ns)
                if part < player.clients:
                    told.client(spec.clients[part], run, public, found.seen)
                elif part >= player.clients + player.visits:
                    told.own(run, public, found.seen)
                progress("simulating", (part + 1) / player.parts)

        for part, run in enumerate(_played(player, hands, 2 * jobs)):
            public = run.inner_port
            if not player.clients <= part < player.clients + player.visits:  # visitors come to no NAT
                public = nat.translate(run.talks, public, player.around.population.address, run.random)
            settling.append((part, run, public, hands.submit(Player.settle, part, run, public)))
            settled(2 * jobs)
        settled(0)
        begin_ns = min(first_ns, default=0)
        _write(player, hands, sizes, begin_ns, folder, progress)
    for side, capture in (("ingress", spec.ingress), ("egress", spec.egress)):
        if capture.cut_bytes:
            path = folder / f"{side}.pcap"
            os.truncate(path, max(path.stat().st_size - capture.cut_bytes, 0))
    return told.truth(Clocks(spec, begin_ns))


def _played(player: Player, hands: Workers, ahead: int) -> Iterator[Outline]:
    """Outlines of all parts in their order; a few parts are played before they are asked for."""
    playing: deque[Future[Outline]] = deque()
    for part in range(player.parts):
        playing.append(hands.submit(Player.play, part))
        if len(playing) > ahead:
            yield playing.popleft().result()
    while playing:
        yield playing.popleft().result()


def _write(
    player: Player,
    hands: Workers,
    sizes: dict[str, Ints],
    begin_ns: int,
    folder: Path,
    progress: Callable[[str, float], None],
) -> None:
    """Both captures: every span of time has its place in its file, so that spans need not wait for others."""
    writing = []
    for side, tape in player.tapes.items():
        at = player.begin(side) + np.concatenate([[0], np.cumsum(sizes[side])])
        for first, last in spans(tape.packets(), _PACKETS_AT_ONCE):
            writing.append(hands.submit(Player.write, side, (first, last), int(at[first]), begin_ns))
    for done, work in enumerate(writing):
        work.result()
        progress("writing captures", (done + 1) / len(writing))


def _write_manifest(folder: Path, spec: SimulationSpec, seed: int, names: list[str]) -> None:
    files = {}
    for name in names:
        path = folder / name
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[name] = {"bytes": path.stat().st_size, "sha256": digest}
    document: dict[str, Any] = {
        "made_by": "simulate",
        "seed": seed,
        "versions": {
            "vpnforensics": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
        },
        "files": files,
        "scenario": dataclasses.asdict(spec),
    }
    (folder / MANIFEST).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
