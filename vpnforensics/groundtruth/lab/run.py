"""Run a scenario on real software and write both captures, their truth and a manifest.

The order matters: everything that can be refused is refused before anything is made; every thing made is
written down first (:mod:`~vpnforensics.groundtruth.lab.state`); captures start before the tunnels come up
and end a second after the traffic; results appear in the output folder all at once, at the end, or not at
all.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vpnforensics.groundtruth.case_folder import MANIFEST, claim, put
from vpnforensics.groundtruth.lab import truth_file
from vpnforensics.groundtruth.lab.conntrack import read_translations
from vpnforensics.groundtruth.lab.doctor import refuse_impossible
from vpnforensics.groundtruth.lab.drivers import DRIVERS, Driver
from vpnforensics.groundtruth.lab.manifest import describe
from vpnforensics.groundtruth.lab.network import INNER_PREFIX, SERVER_PUBLIC, Network
from vpnforensics.groundtruth.lab.processes import Processes
from vpnforensics.groundtruth.lab.services import start_internet, wait_for_internet
from vpnforensics.groundtruth.lab.state import RunState
from vpnforensics.groundtruth.lab.taps import Tap, TapCount
from vpnforensics.groundtruth.lab.topology import (
    SERVER_MACS,
    Topology,
    build,
    end_links,
    nat,
    share_tunnel,
    wait_for_kernels,
)
from vpnforensics.groundtruth.lab.traffic import Host, run_all
from vpnforensics.groundtruth.lab.truth import cut_flows, read_frames
from vpnforensics.groundtruth.places import draw_places
from vpnforensics.groundtruth.scenario import Scenario
from vpnforensics.groundtruth.scenario_capture import Frames, clock, degrade, write_captures

_DRAIN_S = 1.2
"""libpcap hands over a half-full ring block only after a second."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a run left behind.

    Parameters
    ----------
    folder : Path
        Where the files are.
    coverage : Coverage
        How much of the egress side the truth explains.
    captured : dict
        Packets by capture point.
    """

    folder: Path
    coverage: truth_file.Coverage
    captured: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Raw:
    """What the recording phase leaves in the work folder."""

    topology: Topology
    driver: Driver
    counts: dict[str, TapCount]
    inner: list[Path]
    local: dict[str, Path]
    links: dict[str, object]


def run(scenario: Scenario, out: str | Path, *, force: bool = False) -> Recording:
    """Record a scenario.

    Parameters
    ----------
    scenario : Scenario
        What to record.
    out : str or Path
        Folder for the results; made if missing. An earlier case there is replaced.
    force : bool
        Replace files of the results' names that are not, or no longer, an earlier case's, too.

    Raises
    ------
    ScenarioError
        It cannot run here, or files in the folder would be lost (nothing was made); a program failed, or a
        capture dropped packets.
    """
    if scenario.vpn.kind in DRIVERS and DRIVERS[scenario.vpn.kind].kernel_modules:
        own = tuple(replace(client, host="uml") for client in scenario.clients)
        scenario = replace(scenario, clients=own)
    refuse_impossible(scenario)
    out = Path(out)
    earlier = claim(out, force=force)
    out.mkdir(parents=True, exist_ok=True)
    with _terminable():
        state = RunState.create()
        processes, network = Processes(state), Network(state)
        partial = (out / f".partial-{state.run_id}").resolve()
        state.note("path", path=str(partial))
        try:
            partial.mkdir()
            raw = _record(scenario, network, processes, partial)
            processes.stop_all()
            result = _write(scenario, state.folder, raw, partial, out, earlier)
        except BaseException:
            logs = os.environ.get("VPNFORENSICS_LAB_LOGS")
            if logs:
                _keep_logs(state.folder, Path(logs))
            raise
        finally:
            processes.stop_all()
            network.close()
            state.undo()
    return result


def _keep_logs(work: Path, target: Path) -> None:
    """For debugging a driver: the programs' logs and configurations, which a failed run removes."""
    for path in (p for end in ("**/*.log", "**/*.conf", "*.yml") for p in work.glob(end)):
        kept = target / path.relative_to(work)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exit that cleans up, in this process and thread only.

    pyroute2 forks a child to make a namespace and ends it with SIGTERM; that child must not undo the run.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def leave(*_: object) -> None:
        if os.getpid() != owner:
            os._exit(0)
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _record(scenario: Scenario, network: Network, processes: Processes, partial: Path) -> _Raw:
    rng = random.Random(scenario.seed)
    driver_type = DRIVERS[scenario.vpn.kind]
    places = draw_places(scenario)
    topology = build(scenario, places, network, processes, rng)
    nat(topology, network, processes, random_ports=scenario.nat.ports == "random", relay=driver_type.relay)
    internet = start_internet(
        topology.servers, network, processes, rng, places, topology.web, calls=_calls(topology)
    )
    vpn = scenario.vpn
    driver = driver_type(
        topology.vpn,
        topology.clients,
        network,
        processes,
        port=vpn.port,
        mtu=vpn.mtu,
        countermeasures=vpn.countermeasures,
    )
    taps = {
        side: Tap.open(processes, side, topology.vpn, dev, partial / f"raw-{side}.pcap")
        for side, dev in (("ingress", "in0"), ("egress", "out0"))
    }
    driver.start_server()
    wait_for_kernels(topology, processes)
    taps["ingress"].wait()
    devices = _join(topology, driver, network, processes)
    inner = {dev: partial / f"raw-inner-server-{i}.pcap" for i, dev in enumerate(driver.server_devices(), 1)}
    for dev, path in inner.items():
        taps[f"inner-{dev}"] = Tap.open(processes, f"inner-{dev}", topology.vpn, dev, path)
    local = {}
    if driver.told_by_programs:
        local = {c.name: partial / f"raw-local-{c.number}.pcap" for c in topology.clients}
        for client in topology.clients:
            name = f"local-{client.name}"
            taps[name] = Tap.open(processes, name, client.namespace, "lo", local[client.name])
    if scenario.capture.inner:
        for client in (c for c in topology.clients if c.name in devices):
            path, dev = partial / f"inner-{client.name}.pcap", devices[client.name]
            taps[client.name] = Tap.open(processes, client.name, client.namespace, dev, path)
    for tap in taps.values():
        tap.wait()
    wait_for_internet(topology.servers, processes, topology.web)
    _traffic(scenario, topology, driver, internet, rng)
    time.sleep(_DRAIN_S)
    counts = {name: tap.close() for name, tap in taps.items()}
    links = end_links(processes)
    processes.stop_named("conntrack")
    return _Raw(topology, driver, counts, list(inner.values()), local, links)


def _join(topology: Topology, driver: Driver, network: Network, processes: Processes) -> dict[str, str]:
    """Start all clients at once, and send what they do through their tunnels; return their tun devices."""
    for client in topology.clients:
        driver.start_client(client)
    devices: dict[str, str] = {}
    for client in topology.clients:
        dev = driver.join(client)
        if dev is not None:
            devices[client.name] = dev
            network.route(client.namespace, "0.0.0.0/0", dev=dev)
            share_tunnel(topology.machines, client, dev, processes)
    return devices


def _calls(topology: Topology) -> int:
    """How many call servers are needed: hosts are numbered as machines are."""
    calling = [i for i, m in enumerate(topology.machines, start=1) if "voip" in m.device.traffic]
    return max(calling, default=0)


def _traffic(
    scenario: Scenario, topology: Topology, driver: Driver, internet: Any, rng: random.Random
) -> None:
    stop = threading.Event()
    until = time.monotonic() + scenario.duration_s
    starts = {
        c.name: spec.start_s.draw(rng) for c, spec in zip(topology.clients, scenario.clients, strict=True)
    }
    hosts = [
        Host(
            m.namespace,
            i,
            internet,
            random.Random(rng.random()),
            until,
            stop,
            starts[m.client.name],
            driver.proxy(m.client),
            driver.told_by_programs,
        )
        for i, m in enumerate(topology.machines)
    ]
    run_all([(host, m.device.traffic) for host, m in zip(hosts, topology.machines, strict=True)])


def _write(
    scenario: Scenario, work: Path, raw: _Raw, partial: Path, out: Path, earlier: list[Path]
) -> Recording:
    """Derive the truth, degrade the captures as asked, write all files."""
    clients, names = raw.topology.clients, [c.name for c in raw.topology.clients]
    raw_ingress, raw_egress = partial / "raw-ingress.pcap", partial / "raw-egress.pcap"
    kernel = read_translations(work / "conntrack.log")
    cut = cut_flows(raw_egress, raw.inner, public=SERVER_PUBLIC, inner_prefix=INNER_PREFIX)
    if raw.driver.relay:
        openers = raw.driver.openers(kernel, raw_egress, raw.local)
        owner = truth_file.through_relay(
            openers, raw.topology.machines, truth_file.openers_in_turn(kernel.openings, cut.flows)
        )
    else:
        homes = {c.name: work / f"conntrack-{c.name}.log" for c in clients}
        logs = {name: read_translations(path) for name, path in homes.items() if path.exists()}
        owner = truth_file.through_nat(kernel, logs, raw.topology.machines)
    rows, coverage = truth_file.attribute(cut, owner)
    ingress = _frames(raw_ingress)
    ingress = replace(ingress, client=truth_file.client_of_ingress(ingress.frames, clients))
    tunnels = truth_file.outer_endpoints(ingress.frames, clients, raw.driver.transport)
    whose = np.full(cut.packets, -1, dtype=np.int32)
    for flow, who in rows:
        if isinstance(who, truth_file.Owner):
            whose[flow.packets] = names.index(who.machine.client.name)
    egress = replace(_frames(raw_egress), client=whose)
    capture = scenario.capture
    origin_ns = min((int(side.ts_ns[0]) for side in (ingress, egress) if len(side.ts_ns)), default=0)
    draws = np.random.default_rng(scenario.seed).spawn(2)
    seen = [
        degrade(side, frames, origin_ns=origin_ns, names=names, rng=draw)
        for side, frames, draw in zip(
            (capture.ingress, capture.egress), (ingress, egress), draws, strict=True
        )
    ]
    written = write_captures(partial, capture, seen[0], seen[1], local=SERVER_MACS)
    good, rest = truth_file.flow_rows(rows, tunnels, seen[1])
    rest += truth_file.other_rows(cut, seen[1])
    at_ns = np.array([origin_ns], dtype=np.int64)
    offset_ns = int(clock(capture.egress, at_ns, origin_ns)[0] - clock(capture.ingress, at_ns, origin_ns)[0])
    document = {
        "schema_version": 1,
        "alignment": {
            "offset_ns": offset_ns,
            "drift_ppm": round(capture.egress.clock_drift_ppm - capture.ingress.clock_drift_ppm, 6),
            "reference_ns": int(clock(capture.egress, at_ns, origin_ns)[0]),
        },
        "tunnels": truth_file.tunnel_rows(clients, scenario.vpn.kind, tunnels, set(seen[0].client.tolist())),
        "devices": truth_file.device_rows(raw.topology.machines, tunnels),
        "flows": good,
        "unattributed": rest,
    }
    (partial / "truth.json").write_text(json.dumps(document, indent=1) + "\n")
    written.append(partial / "truth.json")
    if capture.inner:
        written += [p.rename(p.with_name(p.name.removeprefix("raw-"))) for p in raw.inner]
        written += [p for c in clients if (p := partial / f"inner-{c.name}.pcap").exists()]
    manifest = describe(scenario, raw.driver.programs, raw.counts, raw.links, coverage, written)
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    kept = {MANIFEST, *(path.name for path in written)}
    for path in partial.iterdir():
        if path.name not in kept:
            path.unlink()
    put(partial, out, earlier)
    return Recording(out, coverage, {name: c.captured for name, c in raw.counts.items()})


def _frames(path: Path) -> Frames:
    """A capture's frames, of no client yet."""
    rows = [(stamp, frame) for stamp, frame, _ in read_frames(path)]
    ts_ns = np.array([stamp for stamp, _ in rows], dtype=np.int64)
    nobody = np.full(len(rows), -1, dtype=np.int32)
    return Frames(ts_ns, [frame for _, frame in rows], nobody, np.arange(len(rows), dtype=np.int64))
