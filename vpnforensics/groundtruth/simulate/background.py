"""Traffic that no tunnel carried: services on the server's address, and the server's own conversations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.groundtruth.simulate.client import carry
from vpnforensics.groundtruth.simulate.network import columns as k
from vpnforensics.groundtruth.simulate.presets import LINUX, MACOS, WINDOWS
from vpnforensics.groundtruth.simulate.spec import (
    AccessPath,
    Activity,
    ActivityKind,
    Client,
    Countermeasures,
    Device,
    IpVersions,
)
from vpnforensics.groundtruth.simulate.surroundings import ClientRun, Packets, Surroundings

VISITORS = 1 << 20  # their numbers, far from any client's
_VISITS: tuple[ActivityKind, ...] = ("quic", "stun", "dns", "voip", "browse")
_OWN: tuple[ActivityKind, ...] = ("dns", "download", "browse", "idle")


@dataclass(frozen=True, slots=True)
class Visit:
    """One outsider who talks to a service on the server's address."""

    client: str
    kind: ActivityKind
    run: ClientRun


def visit(number: int, around: Surroundings, random: np.random.Generator) -> Visit:
    """A conversation with the server that looks, at the ingress tap, like anything but a tunnel."""
    kind = _VISITS[number % len(_VISITS)]
    stack = (LINUX, WINDOWS, MACOS)[number % 3]
    path = AccessPath(delay_s=float(random.uniform(0.005, 0.06)), hops=int(random.integers(5, 16)))
    # Its last hop is ours to undo: an inner packet loses one at the server.
    seen_ttl = replace(stack, ttl=stack.ttl - path.hops + 1)
    device = Device(f"visitor-{number}", seen_ttl)
    client = Client(f"visitor-{number}", (device,), (Activity(kind, 1, start_s=0.5),), path)
    population = around.population
    address = (100 << 24 | 80 << 16) + number
    here = replace(
        around,
        spec=replace(
            around.spec,
            egress=around.spec.ingress,
            countermeasures=Countermeasures(),
            ip=IpVersions(around.spec.ip.outer, around.spec.ip.outer),
        ),
        population=replace(
            population,
            address=np.full_like(population.address, around.server_address),
            ttl=np.full_like(population.ttl, 64),
            internet=replace(
                population.internet, distance_ns=np.full_like(population.internet.distance_ns, 20_000)
            ),
        ),
        egress_address=address,
    )
    run = carry(client, VISITORS + number, None, here, random, at=k.IN_NS)
    seen, nothing = run.packets.egress, run.packets.ingress
    seen.rows["outgoing"] ^= 1
    # What the server's own side of the path saw is what the ingress tap sees.
    none = np.empty(0, np.int64)
    return Visit(device.name, kind, replace(run, packets=Packets(seen, nothing, none, none)))


def own_traffic(number: int, around: Surroundings, random: np.random.Generator) -> ClientRun:
    """A conversation of the server itself at the egress tap."""
    kind = _OWN[number % len(_OWN)]
    stack = replace(around.spec.server.stack, ttl=around.spec.server.stack.ttl + 1)
    path = AccessPath(delay_s=0.0, jitter_s=0.0, loss=0.0, up_mbit=0.0, down_mbit=0.0)
    client = Client(
        f"own-{number}", (Device(f"own-{number}", stack),), (Activity(kind, 1, start_s=0.5),), path
    )
    here = replace(around, spec=replace(around.spec, countermeasures=Countermeasures()))
    return carry(client, VISITORS + number, None, here, random)
