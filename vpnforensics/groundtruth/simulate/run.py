"""A whole case: clients one after the other, then two captures in order of time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numba
import numpy as np
import numpy.typing as npt

from vpnforensics._version import __version__
from vpnforensics.groundtruth.simulate import frames
from vpnforensics.groundtruth.simulate.client import run_client
from vpnforensics.groundtruth.simulate.clocks import TimestampClock
from vpnforensics.groundtruth.simulate.nat import Nat
from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.outer import PROTOCOLS
from vpnforensics.groundtruth.simulate.population import make_population, server_law
from vpnforensics.groundtruth.simulate.spec import Capture, Client, SimulationSpec
from vpnforensics.groundtruth.simulate.surroundings import ICMP, TCP, UDP, ClientRun, Records, Surroundings
from vpnforensics.groundtruth.simulate.truth import (
    AlignmentTruth,
    DeviceTruth,
    FlowTruth,
    Truth,
    TunnelTruth,
    address_number,
    address_text,
)

PROTO_NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp"}
_SERVER, _INTERNET, _CLIENTS, _FILLER = range(4)


class Spool:
    """Records of one tap on disk, because a case may be larger than memory; times stay in memory."""

    def __init__(self, folder: Path) -> None:
        self._rows: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._content: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._times: list[Ints] = []
        self._content_bytes = 0

    def add(self, records: Records) -> None:
        """Append a client's records."""
        rows = records.rows
        rows["content"] += self._content_bytes
        self._content_bytes += len(records.content)
        self._times.append(rows["ts_ns"].copy())
        rows.tofile(self._rows)
        records.content.tofile(self._content)

    @property
    def times_ns(self) -> Ints:
        """True times of all records, in the order they were added."""
        return np.concatenate(self._times) if self._times else np.empty(0, np.int64)

    def load(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint8]]:
        """Rows and content as memory maps."""
        self._rows.flush()
        self._content.flush()
        if not self._times or not sum(len(t) for t in self._times):
            return np.empty(0, frames.RECORD), np.empty(0, np.uint8)
        rows = np.memmap(self._rows, frames.RECORD, "r")
        content = np.memmap(self._content, np.uint8, "r") if self._content_bytes else np.empty(1, np.uint8)
        return np.asarray(rows), np.asarray(content)

    def close(self) -> None:
        """Drop the files."""
        self._rows.close()
        self._content.close()


@dataclass(frozen=True, slots=True)
class _Span:
    """True first and last time, and packets, of one flow at the egress tap."""

    first_ns: Ints
    last_ns: Ints
    packets: Ints


def generator(seed: int, *key: int) -> np.random.Generator:
    """An independent stream: the same for the same key whatever else a case holds."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def simulate(spec: SimulationSpec, out_dir: str | Path, seed: int) -> Truth:
    """Simulate a case and write its two captures, its truth and its manifest.

    Parameters
    ----------
    spec : SimulationSpec
        What to simulate.
    out_dir : str or Path
        Made if it is not there; receives ``ingress.pcap``, ``egress.pcap``, ``truth.json`` and ``manifest.json``.
    seed : int
        The same specification and seed give the same bytes. A client keeps its packets when others are
        added after it.

    Returns
    -------
    Truth
        As in ``truth.json``.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    around = _surroundings(spec, seed)
    nat = Nat(spec.server.random_ports)
    spools = Spool(folder), Spool(folder)
    try:
        flows: list[tuple[Client, ClientRun, Ints, _Span]] = []
        for index, client in enumerate(spec.clients):
            protocol = PROTOCOLS[client.protocol or spec.protocol]
            random = generator(seed, _CLIENTS, index)
            run = run_client(client, index, protocol, around, random)
            public = nat.translate(run, around.population.address, random)
            spools[0].add(run.ingress)
            spools[1].add(run.egress)
            empty = Records(np.empty(0, frames.RECORD), np.empty(0, np.uint8))
            span = _spans(run)
            flows.append((client, dataclasses.replace(run, ingress=empty, egress=empty), public, span))
        clock = Clocks(spec, spools[0].times_ns)
        for name, spool, capture in zip(("ingress", "egress"), spools, (spec.ingress, spec.egress), strict=True):
            _write(folder / f"{name}.pcap", spool, capture, clock, int(generator(seed, _FILLER).integers(1 << 62)))
    finally:
        for spool in spools:
            spool.close()
    truth = _truth(spec, around, clock, flows)
    truth.write(folder / "truth.json")
    _write_manifest(folder, spec, seed)
    return truth


def _surroundings(spec: SimulationSpec, seed: int) -> Surroundings:
    end_ns = int(spec.duration_s * 1e9)
    random = generator(seed, _SERVER)
    return Surroundings(
        spec,
        make_population(spec.hosts, end_ns, generator(seed, _INTERNET)),
        server_law(spec.server, spec.countermeasures, end_ns, random),
        TimestampClock(spec.server.stack.clock, end_ns, random),
        address_number(spec.server.address),
        address_number(spec.server.egress_address),
        end_ns,
    )


class Clocks:
    """The two capture clocks, which start to drift at the first ingress packet."""

    def __init__(self, spec: SimulationSpec, ingress_ns: Ints) -> None:
        self._epoch_ns = spec.epoch_s * 1_000_000_000
        self._first_ns = int(ingress_ns.min()) if len(ingress_ns) else 0
        self._spec = spec

    def shown(self, true_ns: Ints, capture: Capture) -> Ints:
        """Capture times (ns since the epoch) of true times."""
        elapsed = true_ns - self._first_ns
        drift = np.rint(elapsed * (capture.drift_ppm * 1e-6)).astype(np.int64)
        shown = self._epoch_ns + true_ns + round(capture.offset_s * 1e9) + drift
        return shown // capture.resolution_ns * capture.resolution_ns

    @property
    def alignment(self) -> AlignmentTruth:
        """Egress against ingress; both lines meet true time at the first ingress packet, so this is exact."""
        ingress, egress = self._spec.ingress, self._spec.egress
        rate = (1 + egress.drift_ppm * 1e-6) / (1 + ingress.drift_ppm * 1e-6) - 1
        return AlignmentTruth(round(egress.offset_s * 1e9) - round(ingress.offset_s * 1e9), round(rate * 1e6, 9))


def _spans(run: ClientRun) -> _Span:
    n = len(run.talks)
    first = np.full(n, np.iinfo(np.int64).max)
    last = np.full(n, -1)
    times = run.egress.rows["ts_ns"]
    np.minimum.at(first, run.egress_flow, times)
    np.maximum.at(last, run.egress_flow, times)
    return _Span(first, last, np.bincount(run.egress_flow, minlength=n))


def _write(path: Path, spool: Spool, capture: Capture, clock: Clocks, seed: int) -> None:
    times = spool.times_ns
    # Stable: frames of one instant stand in the order of the clients.
    order = np.argsort(times, kind="stable")
    rows, content = spool.load()
    frames.write_capture(path, rows, content, order, clock.shown(times[order], capture), capture, seed)


def _truth(
    spec: SimulationSpec,
    around: Surroundings,
    clock: Clocks,
    runs: list[tuple[Client, ClientRun, Ints, _Span]],
) -> Truth:
    flows: list[FlowTruth] = []
    tunnels: list[TunnelTruth] = []
    devices: dict[str, DeviceTruth] = {}
    for client, run, public, span in runs:
        protocol = PROTOCOLS[client.protocol or spec.protocol]
        outer = address_text(run.address, run.port)
        server = address_text(around.server_address, protocol.port)
        tunnels.append(TunnelTruth(outer, server, protocol.name))
        for device in client.devices:
            devices[f"{client.name}/{device.name}"] = DeviceTruth(device.stack.clock, device.stack.ip_id, outer)
        first, last = (clock.shown(times, spec.egress) for times in (span.first_ns, span.last_ns))
        for i in np.flatnonzero(span.packets):
            talk = run.talks[i]
            icmp = talk.proto == ICMP  # named by its identifier at both ends
            far = int(around.population.address[talk.host])
            flows.append(
                FlowTruth(
                    PROTO_NAMES[talk.proto],
                    address_text(around.egress_address, int(public[i])),
                    address_text(far, int(public[i]) if icmp else talk.port),
                    int(first[i]),
                    int(last[i]),
                    int(span.packets[i]),
                    outer,
                    address_text(int(run.inner_address[talk.device]), int(run.inner_port[i])),
                    f"{client.name}/{client.devices[talk.device].name}",
                    talk.kind,
                )
            )
    flows.sort(key=lambda flow: (flow.first_ns, flow.src, flow.dst))
    return Truth(tuple(flows), tuple(tunnels), devices, clock.alignment, ())


def _write_manifest(folder: Path, spec: SimulationSpec, seed: int) -> None:
    files = {}
    for name in ("ingress.pcap", "egress.pcap", "truth.json"):
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
    (folder / "manifest.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
