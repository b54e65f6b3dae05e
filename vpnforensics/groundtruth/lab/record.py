"""Record one VPN server from both sides, with truth.

Run as root: ``python -m vpnforensics.groundtruth.lab.record --vpn wireguard --clients 3 --seconds 75 --seed 1 -o DIR``.
It writes ``ingress.pcap``, ``egress.pcap``, ``truth.json`` and ``manifest.json`` to DIR, all or none.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from vpnforensics._version import __version__
from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab import truth
from vpnforensics.groundtruth.lab.drivers import DRIVERS, Client
from vpnforensics.groundtruth.lab.emulator import LinkLaw, NetworkPath, write_plan
from vpnforensics.groundtruth.lab.network import (
    INNER_PREFIX,
    INTERNET_ADDRESSES,
    SERVER_OUTER,
    SERVER_PUBLIC,
    WEB_ADDRESSES,
    Network,
    mac,
)
from vpnforensics.groundtruth.lab.processes import Processes
from vpnforensics.groundtruth.lab.services import start_internet
from vpnforensics.groundtruth.lab.state import RunState
from vpnforensics.groundtruth.lab.taps import Tap
from vpnforensics.groundtruth.lab.traffic import Host, run_all

_MIXES: tuple[tuple[str, ...], ...] = (
    ("browse", "browse", "ssh", "dns", "ping"),
    ("download", "browse", "dns"),
    ("idle", "dns", "ssh"),
    ("browse", "ssh", "upload", "dns"),
    ("idle", "ping"),
)
_VERSION_FLAGS = {
    "wireguard-go": "--version",
    "wg": "--version",
    "nginx": "-v",
    "ssh": "-V",
    "nft": "--version",
    "dig": "-v",
}


@dataclass(frozen=True, slots=True)
class Recording:
    """What to record."""

    vpn: str
    clients: int
    seconds: float
    seed: int
    inner: bool = False


def record(what: Recording, out: Path) -> truth.Coverage:
    """Build the network, run the traffic, capture, derive the truth, and leave nothing behind.

    Raises
    ------
    ScenarioError
        It cannot run here, a program failed, or the capture dropped packets.
    """
    if os.geteuid() != 0:
        raise ScenarioError("recording needs root: it makes network namespaces")
    driver_type = DRIVERS[what.vpn]
    for program in (
        "ip",
        "setpriv",
        "tcpdump",
        "nft",
        "conntrack",
        "ethtool",
        "nginx",
        "dnsmasq",
        "curl",
        "dig",
        *driver_type.programs,
    ):
        if shutil.which(program) is None:
            raise ScenarioError(f"the program {program} is not installed")
    out.mkdir(parents=True, exist_ok=True)
    state = RunState.create()
    partial = out / f".partial-{state.run_id}"
    state.note("path", path=str(partial.resolve()))
    partial.mkdir()
    processes = Processes(state)
    network = Network(state)
    try:
        coverage = _record(what, partial, network, processes)
        for file in sorted(partial.iterdir()):
            file.replace(out / file.name)
    except BaseException:
        keep = os.environ.get("VPNFORENSICS_LAB_LOGS")
        if keep:
            shutil.copytree(state.folder, keep, dirs_exist_ok=True)
        raise
    finally:
        processes.stop_all()
        network.close()
        state.undo()
    return coverage


def _record(what: Recording, out: Path, network: Network, processes: Processes) -> truth.Coverage:
    rng = random.Random(what.seed)
    folder = processes.state.folder
    vpn, net, access, servers = (network.namespace(n) for n in ("vpn", "net", "acc", "srv"))
    ports = rng.sample(range(20000, 60000), what.clients)
    clients = tuple(
        Client(
            i + 1,
            network.namespace(f"c{i + 1}"),
            f"198.51.100.{11 + 7 * i}",
            ports[i],
            f"{INNER_PREFIX}{i + 2}",
        )
        for i in range(what.clients)
    )
    _wire(network, vpn, net, access, servers, clients)
    _emulate(processes, access, net, clients, rng)
    _nat(network, processes, vpn)
    internet = start_internet(servers, network, processes, rng)
    driver = DRIVERS[what.vpn](vpn, clients, network, processes)
    ingress = Tap.open(processes, "ingress", vpn, "in0", out / "ingress.pcap")
    server_dev = driver.start_server()
    egress = Tap.open(processes, "egress", vpn, "out0", out / "egress.pcap")
    inner = Tap.open(processes, "inner", vpn, server_dev, folder / "inner.pcap")
    taps = {"ingress": ingress, "egress": egress, "inner": inner}
    for client in clients:
        dev = driver.start_client(client)
        network.route(client.namespace, "0.0.0.0/0", dev=dev)
        network.resolver(client.namespace, INTERNET_ADDRESSES[0])
        if what.inner:
            taps[client.name] = Tap.open(
                processes, client.name, client.namespace, dev, out / f"inner-{client.name}.pcap"
            )
    stop = threading.Event()
    until = time.monotonic() + what.seconds
    run_all(
        [
            (Host(c.namespace, internet, random.Random(rng.random()), until, stop), _MIXES[i % len(_MIXES)])
            for i, c in enumerate(clients)
        ]
    )
    time.sleep(0.5)
    counts = {name: tap.close() for name, tap in taps.items()}
    reports = _end_emulators(processes)
    good, rest, coverage = truth.true_flows(
        out / "egress.pcap",
        folder / "inner.pcap",
        public=SERVER_PUBLIC,
        inner_prefix=INNER_PREFIX,
        conntrack=processes.log("conntrack"),
    )
    _write_truth(out / "truth.json", driver.protocol, driver.server_port, clients, good, rest)
    if what.inner:
        shutil.copy(folder / "inner.pcap", out / "inner-server.pcap")
    manifest = {
        "tool": f"vpnforensics {__version__}",
        "scenario": {"vpn": what.vpn, "clients": what.clients, "seconds": what.seconds},
        "seed": what.seed,
        "command": f"python -m vpnforensics.groundtruth.lab.record --vpn {what.vpn} --clients {what.clients}"
        f" --seconds {what.seconds:g} --seed {what.seed}",
        "programs": {
            p: _version(p)
            for p in (*driver.programs, "tcpdump", "nginx", "curl", "ssh", "dnsmasq", "dig", "nft")
        }
        | {"linux": os.uname().release},
        "captured": {name: count.captured for name, count in counts.items()},
        "dropped": {name: count.dropped for name, count in counts.items()},
        "links": reports,
        "truth": coverage.as_dict(),
        "sha256": {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(out.iterdir())},
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return coverage


def _wire(
    network: Network, vpn: str, net: str, access: str, servers: str, clients: tuple[Client, ...]
) -> None:
    network.veth((vpn, "in0", mac(1, 1)), (access, "trunk", None))
    network.veth((vpn, "out0", mac(2, 1)), (net, "trunk", None))
    network.veth((servers, "eth0", mac(3, 1)), (net, "far", None))
    network.address(vpn, "in0", SERVER_OUTER)
    network.address(vpn, "out0", SERVER_PUBLIC)
    network.neighbour(vpn, "out0", "203.0.113.254", mac(3, 1))
    network.route(vpn, "0.0.0.0/0", via="203.0.113.254")
    network.sysctl(vpn, "net.ipv4.ip_forward=1")
    network.address(servers, "eth0", "203.0.113.254")
    network.neighbour(servers, "eth0", SERVER_PUBLIC, mac(2, 1))
    for address in INTERNET_ADDRESSES:
        network.address(servers, "eth0", address, 32)
    for client in clients:
        network.veth((client.namespace, "eth0", mac(4, client.number)), (access, f"c{client.number}", None))
        network.address(client.namespace, "eth0", client.outer)
        network.neighbour(client.namespace, "eth0", SERVER_OUTER, mac(1, 1))
        network.neighbour(vpn, "in0", client.outer, mac(4, client.number))


def _emulate(
    processes: Processes, access: str, net: str, clients: tuple[Client, ...], rng: random.Random
) -> None:
    """Access lines of 8-40 Mbit/s with delay and jitter; Internet hosts 2-30 ms away."""
    lines = []
    for client in clients:
        delay, jitter, rate = rng.uniform(3, 15), rng.uniform(0.2, 2.0), rng.uniform(8, 40)
        up, down = LinkLaw(delay, jitter, 0.0002, rate / 2), LinkLaw(delay, jitter, 0.0002, rate)
        lines.append(NetworkPath(client.outer, f"c{client.number}", up, down))
    hosts = []
    for address in INTERNET_ADDRESSES:
        delay = rng.uniform(1, 15) if address in WEB_ADDRESSES else rng.uniform(1, 5)
        law = LinkLaw(delay, rng.uniform(0.05, 0.5), 0.0002, 200.0)
        hosts.append(NetworkPath(address, "far", law, law))
    folder = processes.state.folder
    for name, namespace, paths in (("access", access, lines), ("internet", net, hosts)):
        write_plan(folder / f"{name}.json", "trunk", paths, rng.randrange(1 << 30))
        processes.start(
            f"link-{name}",
            namespace,
            [
                sys.executable,
                "-m",
                "vpnforensics.groundtruth.lab.emulator",
                folder / f"{name}.json",
                folder / f"{name}-report.json",
            ],
        )


def _end_emulators(processes: Processes) -> dict[str, object]:
    reports: dict[str, object] = {}
    for name, process in list(processes.started):
        if name.startswith("link-"):
            processes.stop(process)
            side = name.removeprefix("link-")
            report = json.loads((processes.state.folder / f"{side}-report.json").read_text())
            if report["kernel_drops"] or report["send_errors"]:
                raise ScenarioError(f"the {side} link could not keep up: {report}")
            reports[side] = report
    return reports


def _nat(network: Network, processes: Processes, vpn: str) -> None:
    """Source NAT towards the Internet, and the kernel's account of it."""
    processes.run(
        vpn,
        [
            "nft",
            "add table ip lab; add chain ip lab nat { type nat hook postrouting priority srcnat; };"
            f" add rule ip lab nat oifname out0 ip saddr {INNER_PREFIX}0/24 snat to {SERVER_PUBLIC}",
        ],
    )
    network.sysctl(vpn, "net.netfilter.nf_conntrack_acct=1")
    processes.start(
        "conntrack", vpn, ["conntrack", "-E", "-e", "NEW", "-n", "-o", "timestamp", "-b", "8388608"]
    )


def _write_truth(
    path: Path,
    protocol: str,
    server_port: int,
    clients: tuple[Client, ...],
    good: list[tuple[truth.TrueFlow, truth.Endpoint]],
    rest: list[tuple[truth.TrueFlow, str]],
) -> None:
    by_inner = {client.inner: client for client in clients}

    def row(flow: truth.TrueFlow) -> dict[str, object]:
        return {
            "proto": flow.proto,
            "src": str(flow.near),
            "dst": str(flow.far),
            "first_ns": flow.first_ns,
            "last_ns": flow.last_ns,
            "packets": flow.packets,
        }

    def owner(inner: truth.Endpoint) -> dict[str, object]:
        client = by_inner[inner.address]
        return {"client": f"{client.outer}:{client.port}", "inner": str(inner), "device": client.name}

    document = {
        "schema_version": 1,
        "alignment": {"offset_ns": 0, "drift_ppm": 0},
        "tunnels": [
            {"client": f"{c.outer}:{c.port}", "server": f"{SERVER_OUTER}:{server_port}", "protocol": protocol}
            for c in clients
        ],
        "flows": [row(flow) | owner(inner) for flow, inner in good],
        "unattributed": [row(flow) | {"reason": reason} for flow, reason in rest],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def _version(program: str) -> str:
    done = subprocess.run(
        [program, _VERSION_FLAGS.get(program, "--version")],
        capture_output=True,
        timeout=10,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    lines = (done.stdout or done.stderr).decode(errors="replace").strip().splitlines()
    return lines[0].strip() if lines else "unknown"


def _exit_on_terminate() -> None:
    """Turn SIGTERM into an exit that cleans up, in this process only.

    pyroute2 forks a child to make a namespace and ends it with SIGTERM; the child must not undo the run.
    """
    owner = os.getpid()

    def leave(*_: object) -> None:
        if os.getpid() != owner:
            os._exit(0)
        sys.exit(143)

    signal.signal(signal.SIGTERM, leave)


def main(argv: list[str] | None = None) -> int:
    """Command line of the recorder."""
    parser = argparse.ArgumentParser(prog="record", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--vpn", choices=sorted(DRIVERS), required=True)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inner", action="store_true", help="also keep the captures inside the tunnel")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(argv)
    _exit_on_terminate()
    try:
        coverage = record(
            Recording(options.vpn, options.clients, options.seconds, options.seed, options.inner), options.out
        )
    except ScenarioError as error:
        sys.stderr.write(f"record: {error}\n")
        return 2
    sys.stderr.write(f"{options.out}: {coverage.as_dict()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
