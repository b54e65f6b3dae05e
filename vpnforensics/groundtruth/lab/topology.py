"""The places of a run: who lives in which namespace, how they are wired, and what the links do."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab.drivers import DRIVERS, Client
from vpnforensics.groundtruth.lab.emulator import LinkLaw, NetworkPath, write_plan
from vpnforensics.groundtruth.lab.network import (
    DNS_ADDRESS,
    INNER_PREFIX,
    SERVER_OUTER,
    SERVER_PUBLIC,
    SSH_ADDRESS,
    Network,
    mac,
    web_addresses,
)
from vpnforensics.groundtruth.lab.processes import Processes
from vpnforensics.groundtruth.lab.stacks import apply_stack, kernel_settings
from vpnforensics.groundtruth.lab.uml import Line, boot, wait_until_up
from vpnforensics.groundtruth.places import Places, Way
from vpnforensics.groundtruth.scenario import ClientSpec, Device, Internet, Link, Scenario

_GATEWAY = "203.0.113.254"
_LINKS = ("access", "internet")
SERVER_MACS = {bytes.fromhex(mac(kind, 1).replace(":", "")) for kind in (1, 2)}
"""Of the VPN server's two interfaces."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A device that sends traffic: the client itself, or a machine behind it."""

    device: Device
    client: Client
    namespace: str
    address: str
    """Its own address: the client's inner one, or one of its home network."""


@dataclass(frozen=True, slots=True)
class Topology:
    """What was built."""

    vpn: str
    access: str
    internet: str
    servers: str
    clients: tuple[Client, ...]
    machines: tuple[Machine, ...]
    web: tuple[str, ...]


def build(
    scenario: Scenario, places: Places, network: Network, processes: Processes, rng: random.Random
) -> Topology:
    """Make all namespaces and wires, dress the stacks, start the links.

    Clients with a kernel of their own are still booting: see :func:`wait_for_kernels`.
    """
    modules = ("tun", *DRIVERS[scenario.vpn.kind].kernel_modules)
    vpn, internet, access, servers = (network.namespace(n) for n in ("vpn", "net", "acc", "srv"))
    web = web_addresses(scenario.internet.web_servers)
    ports = rng.sample(range(20000, 60000), len(scenario.clients))
    clients = tuple(
        Client(
            i + 1,
            spec.name,
            _home(i + 1, spec, access, network, processes, modules),
            _outer(i + 1),
            ports[i],
            f"{INNER_PREFIX}{i + 2}",
        )
        for i, spec in enumerate(scenario.clients)
    )
    _wire_server(network, vpn, internet, access, servers, web)
    machines: list[Machine] = []
    for client, spec in zip(clients, scenario.clients, strict=True):
        _wire_client(network, vpn, access, client)
        seed = rng.randrange(1 << 30)
        if spec.host == "netns":
            apply_stack(client.namespace, spec.stack, network, processes, web, seed=seed)
        machines += _machines(network, processes, client, spec, web, rng)
    for namespace in (vpn, *(m.namespace for m in machines if "@" not in m.namespace)):
        network.etc(namespace, "resolv.conf", f"nameserver {DNS_ADDRESS}\noptions timeout:2 attempts:3\n")
    lines = [
        _line(client, spec.access, way)
        for client, spec, way in zip(clients, scenario.clients, places.access, strict=True)
    ]
    for side, namespace, paths in zip(
        _LINKS, (access, internet), (lines, internet_paths(scenario.internet, places, web)), strict=True
    ):
        _start_link(processes, side, namespace, paths, rng)
    return Topology(vpn, access, internet, servers, clients, tuple(machines), web)


def wait_for_kernels(topology: Topology, processes: Processes) -> None:
    """Wait until clients with a kernel of their own can run programs; they all boot at once."""
    for client in topology.clients:
        if "@" in client.namespace:
            wait_until_up(client.namespace, processes)


def nat(
    topology: Topology, network: Network, processes: Processes, *, random_ports: bool, relay: bool
) -> None:
    """Source NAT at the VPN server, and the kernel's account of it.

    For a relay nothing is translated; the connections of each client's server process get the
    client's number as their mark instead.
    """
    script = "add table ip lab;"
    if relay:
        script += " add chain ip lab owner { type filter hook output priority mangle; };"
        script += "".join(
            f" add rule ip lab owner oifname out0 meta skuid {c.uid} ct mark set {c.number};"
            for c in topology.clients
        )
    else:
        flags = " fully-random" if random_ports else ""
        script += (
            " add chain ip lab nat { type nat hook postrouting priority srcnat; };"
            f" add rule ip lab nat oifname out0 ip saddr {INNER_PREFIX}0/24 snat to {SERVER_PUBLIC}{flags};"
        )
    processes.run(topology.vpn, ["nft", script])
    watch_translations(processes, "conntrack", topology.vpn)


def share_tunnel(machines: tuple[Machine, ...], client: Client, dev: str, processes: Processes) -> None:
    """Let the machines behind a client use its tunnel, as a home router does: NAT, and the MSS clamped."""
    behind = [m for m in machines if m.client is client and m.namespace != client.namespace]
    if behind:
        script = (
            "add table ip lab; add chain ip lab nat { type nat hook postrouting priority srcnat; };"
            f" add rule ip lab nat oifname {dev} snat to {client.inner};"
            " add chain ip lab clamp { type filter hook forward priority mangle; };"
            f" add rule ip lab clamp oifname {dev} tcp flags syn tcp option maxseg size set rt mtu"
        )
        processes.run(client.namespace, ["nft", script])
        watch_translations(processes, f"conntrack-{client.name}", client.namespace)


def watch_translations(processes: Processes, name: str, namespace: str) -> None:
    """Log every new connection of a namespace with its translation."""
    argv = ["conntrack", "-E", "-e", "NEW", "-o", "timestamp", "-b", "8388608"]
    processes.start(name, namespace, argv)


def end_links(processes: Processes) -> dict[str, object]:
    """Stop the emulators and return their counts.

    Raises
    ------
    ScenarioError
        One of them lost frames that its law did not lose.
    """
    reports: dict[str, object] = {}
    processes.stop_named("link-")
    for side in _LINKS:
        report = json.loads((processes.state.folder / f"{side}-report.json").read_text())
        if report["kernel_drops"] or report["send_errors"]:
            raise ScenarioError(f"the {side} link could not keep up: {report}")
        reports[side] = report
    return reports


def _wire_server(
    network: Network, vpn: str, internet: str, access: str, servers: str, web: tuple[str, ...]
) -> None:
    network.veth((vpn, "in0", mac(1, 1)), (access, "trunk", None))
    network.veth((vpn, "out0", mac(2, 1)), (internet, "trunk", None))
    network.veth((servers, "eth0", mac(3, 1)), (internet, "far", None))
    network.address(vpn, "in0", SERVER_OUTER)
    network.address(vpn, "out0", SERVER_PUBLIC)
    network.neighbour(vpn, "out0", _GATEWAY, mac(3, 1))
    network.route(vpn, "0.0.0.0/0", via=_GATEWAY)
    network.sysctl(vpn, "net.ipv4.ip_forward=1")
    network.address(servers, "eth0", _GATEWAY)
    network.neighbour(servers, "eth0", SERVER_PUBLIC, mac(2, 1))
    for address in (DNS_ADDRESS, SSH_ADDRESS, *web):
        network.address(servers, "eth0", address, 32)


def _outer(number: int) -> str:
    """Address of a client on the access network."""
    return f"198.51.100.{9 + 2 * number}"


def _home(
    number: int,
    spec: ClientSpec,
    access: str,
    network: Network,
    processes: Processes,
    modules: tuple[str, ...],
) -> str:
    """Make the place that a client lives in: a namespace, or a kernel of its own."""
    if spec.host == "netns":
        return network.namespace(f"c{number}")
    server = ((SERVER_OUTER, mac(1, 1)),)
    line = Line(f"c{number}", mac(4, number), f"{_outer(number)}/24", server)
    return boot(
        f"uml-{number}",
        access,
        number,
        [line],
        processes,
        clock_ppm=spec.stack.clock_ppm,
        modules=modules,
        setup=[f"sysctl -q -w {setting}" for setting in kernel_settings(spec.stack)],
    )


def _wire_client(network: Network, vpn: str, access: str, client: Client) -> None:
    own = mac(4, client.number)
    network.neighbour(vpn, "in0", client.outer, own)
    if "@" in client.namespace:  # wired and addressed when it booted
        return
    network.veth((client.namespace, "eth0", own), (access, f"c{client.number}", None))
    network.address(client.namespace, "eth0", client.outer)
    network.neighbour(client.namespace, "eth0", SERVER_OUTER, mac(1, 1))


def _machines(
    network: Network,
    processes: Processes,
    client: Client,
    spec: ClientSpec,
    web: tuple[str, ...],
    rng: random.Random,
) -> list[Machine]:
    """The client itself, or a home network of machines behind it."""
    if not spec.routed:
        return [Machine(spec.devices[0], client, client.namespace, client.inner)]
    network.sysctl(client.namespace, "net.ipv4.ip_forward=1")
    machines = []
    for number, device in enumerate(spec.devices, start=1):
        namespace = network.namespace(f"d{client.number}x{number}")
        near, far = f"192.168.{number}.1", f"192.168.{number}.2"
        network.veth((namespace, "eth0", mac(5, number)), (client.namespace, f"lan{number}", mac(6, number)))
        network.address(namespace, "eth0", far)
        network.address(client.namespace, f"lan{number}", near)
        network.route(namespace, "0.0.0.0/0", via=near)
        apply_stack(namespace, device.stack, network, processes, web, seed=rng.randrange(1 << 30))
        machines.append(Machine(device, client, namespace, far))
    return machines


def _line(client: Client, link: Link, way: Way) -> NetworkPath:
    up, down = (
        LinkLaw(way.delay_ms, way.jitter_ms, link.jitter, link.loss, rate, link.queue_ms, link.reorder)
        for rate in (way.up_mbit, way.down_mbit)
    )
    return NetworkPath(client.outer, f"c{client.number}", up, down)


def internet_paths(internet: Internet, places: Places, web: tuple[str, ...]) -> list[NetworkPath]:
    """What the emulator does on the way to each Internet host."""
    paths = []
    for address, way in zip((DNS_ADDRESS, SSH_ADDRESS, *web), places.hosts, strict=True):
        law = LinkLaw(way.delay_ms, way.jitter_ms, "exponential", internet.loss, way.up_mbit)
        paths.append(NetworkPath(address, "far", law, law))
    return paths


def _start_link(
    processes: Processes, name: str, namespace: str, paths: list[NetworkPath], rng: random.Random
) -> None:
    folder = processes.state.folder
    plan, report = folder / f"{name}.json", folder / f"{name}-report.json"
    write_plan(plan, "trunk", paths, rng.randrange(1 << 30))
    argv: list[str | Path] = [sys.executable, "-m", "vpnforensics.groundtruth.lab.emulator", plan, report]
    processes.start(f"link-{name}", namespace, argv)
