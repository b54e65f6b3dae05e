"""A whole case: clients one after the other, then two captures in order of time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import numba
import numpy as np

from vpnforensics._version import __version__
from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.case_folder import MANIFEST, claim, put
from vpnforensics.groundtruth.simulate import frames
from vpnforensics.groundtruth.simulate.background import own_traffic, visit
from vpnforensics.groundtruth.simulate.client import carry
from vpnforensics.groundtruth.simulate.clocks import TimestampClock
from vpnforensics.groundtruth.simulate.containers import contain
from vpnforensics.groundtruth.simulate.inner import write_inner
from vpnforensics.groundtruth.simulate.nat import Nat
from vpnforensics.groundtruth.simulate.outer import PROTOCOLS, Protocol
from vpnforensics.groundtruth.simulate.population import make_population, server_law
from vpnforensics.groundtruth.simulate.relay import refuse_impossible
from vpnforensics.groundtruth.simulate.spec import Capture, Client, SimulationSpec
from vpnforensics.groundtruth.simulate.spool import Spool
from vpnforensics.groundtruth.simulate.surroundings import Records, Surroundings
from vpnforensics.groundtruth.simulate.taps import Clocks
from vpnforensics.groundtruth.simulate.teller import Teller
from vpnforensics.groundtruth.simulate.truth import Truth, address_number

_SERVER, _INTERNET, _CLIENTS, _FILLER, _VISITS, _OWN = range(6)


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


def generator(seed: int, *key: int) -> np.random.Generator:
    """An independent stream: the same for the same key whatever else a case holds."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def simulate(spec: SimulationSpec, out_dir: str | Path, seed: int, *, force: bool = False) -> Truth:
    """Simulate a case and write its two captures, its truth and its manifest.

    Parameters
    ----------
    spec : SimulationSpec
        What to simulate.
    out_dir : str or Path
        Made if missing; receives ``ingress.pcap``, ``egress.pcap``, ``truth.json``, ``manifest.json``, and
        ``inner-CLIENT.pcap`` where asked for, all at once at the end. An earlier case there is replaced.
    seed : int
        The same specification and seed give the same bytes. A client keeps its packets when others are
        added after it.
    force : bool
        Replace files of these names that are not, or no longer, an earlier case's, too.

    Returns
    -------
    Truth
        As in ``truth.json``.

    Raises
    ------
    ScenarioError
        The specification is impossible, or files in the folder would be lost.
    """
    check(spec)
    out = Path(out_dir)
    earlier = claim(out, force=force)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=out) as made:
        truth = _simulate(spec, Path(made), seed)
        put(Path(made), out, earlier)
    return truth


def _simulate(spec: SimulationSpec, folder: Path, seed: int) -> Truth:
    around = _surroundings(spec, seed)
    with Spool(folder) as ingress, Spool(folder) as egress:
        told = _play(spec, around, seed, ingress, egress, folder)
        clock = Clocks(spec, ingress.times_ns)
        for name, spool, capture in (("ingress", ingress, spec.ingress), ("egress", egress, spec.egress)):
            _write(folder / f"{name}.pcap", spool, capture, clock, _filler(seed))
    truth = told.truth(clock)
    truth.write(folder / "truth.json")
    inner = [f"inner-{client.name}.pcap" for client in spec.clients if spec.inner]
    written = [*contain(folder, spec), "truth.json", *(name for name in inner if (folder / name).exists())]
    _write_manifest(folder, spec, seed, written)
    return truth


def _filler(seed: int) -> int:
    """Seed of the payload that means nothing."""
    return int(generator(seed, _FILLER).integers(1 << 62))


def _play(
    spec: SimulationSpec, around: Surroundings, seed: int, ingress: Spool, egress: Spool, folder: Path
) -> Teller:
    """Clients one after the other, then what no tunnel carries; records go to the spools."""
    told = Teller(spec, around)
    filler = _filler(seed)
    nat = Nat(spec.server.random_ports)
    for index, client in enumerate(spec.clients):
        random = generator(seed, _CLIENTS, index)
        run = carry(client, index, protocol_of(client, spec), around, random)
        public = nat.translate(run, around.population.address, random)
        late(run.ingress, spec.ingress, random)
        late(run.egress, spec.egress, random)
        told.client(client, run, public)
        if run.inner is not None:
            write_inner(folder / f"inner-{client.name}.pcap", run, public, around, filler)
        ingress.add(run.ingress)
        egress.add(run.egress)
    for number in range(spec.background.ingress):
        random = generator(seed, _VISITS, number)
        seen = visit(number, around, random)
        late(seen.run.egress, spec.ingress, random)
        ingress.add(seen.run.egress)
    for number in range(spec.background.egress):
        random = generator(seed, _OWN, number)
        run = own_traffic(number, around, random)
        public = nat.translate(run, around.population.address, random)
        late(run.egress, spec.egress, random)
        told.own(run, public)
        egress.add(run.egress)
    return told


def late(records: Records, capture: Capture, random: np.random.Generator) -> None:
    """Delay time stamps as a slow capturing machine does."""
    if capture.jitter_s:
        delay = random.exponential(capture.jitter_s * 1e9, len(records.rows))
        records.rows["ts_ns"] += delay.astype(np.int64)


def protocol_of(client: Client, spec: SimulationSpec) -> Protocol:
    """A client's protocol, with the case's port and MTU."""
    protocol = PROTOCOLS[client.protocol or spec.protocol]
    return dataclasses.replace(protocol, port=spec.port or protocol.port, mtu=spec.mtu or protocol.mtu)


def _surroundings(spec: SimulationSpec, seed: int) -> Surroundings:
    end_ns = int(spec.duration_s * 1e9)
    random = generator(seed, _SERVER)
    return Surroundings(
        spec,
        make_population(spec, end_ns, generator(seed, _INTERNET)),
        server_law(spec.server, spec.countermeasures, end_ns, random),
        TimestampClock(spec.server.stack.clock, end_ns, random),
        address_number(spec.server.address),
        address_number(spec.server.egress_address),
        end_ns,
    )


def _write(path: Path, spool: Spool, capture: Capture, clock: Clocks, seed: int) -> None:
    times = spool.times_ns
    # Stable: frames of one instant stand in the order of the clients.
    order = np.argsort(times, kind="stable")
    rows, content = spool.load()
    frames.write_capture(path, rows, content, order, clock.shown(times[order], capture), capture, seed)


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
