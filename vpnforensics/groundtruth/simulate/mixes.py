"""Ready cases: many clients with a usual mix of stacks, paths and traffic."""

from __future__ import annotations

import numpy as np

from vpnforensics.groundtruth.simulate import presets
from vpnforensics.groundtruth.simulate.outer import PROTOCOLS
from vpnforensics.groundtruth.simulate.relay import THROUGH_PROXY
from vpnforensics.groundtruth.simulate.spec import (
    AccessPath,
    Activity,
    ActivityKind,
    Background,
    Capture,
    Client,
    ClockModel,
    Countermeasures,
    Device,
    Server,
    SimulationSpec,
    Stack,
)

USUAL_STACKS: tuple[tuple[float, Stack], ...] = (
    (0.3, presets.LINUX),
    (0.1, presets.LINUX_PER_PAIR),
    (0.35, presets.WINDOWS),
    (0.2, presets.MACOS),
    (0.05, presets.LINUX_LEGACY),
)
USUAL_TRAFFIC: tuple[tuple[float, ActivityKind], ...] = (
    (0.62, "browse"),
    (0.14, "dns"),
    (0.04, "download"),
    (0.02, "upload"),
    (0.04, "ssh"),
    (0.06, "quic"),
    (0.02, "longpoll"),
    (0.03, "idle"),
    (0.015, "ping"),
    (0.015, "voip"),
)


def mixed_case(
    tunnels: int,
    flows: int,
    protocol: str = "wireguard",
    duration_s: float = 120.0,
    *,
    scale: float = 1.0,
    jitter_s: float = 0.0002,
    ingress: Capture | None = None,
    egress: Capture | None = None,
    server: Server | None = None,
    countermeasures: Countermeasures | None = None,
    background: Background | None = None,
    seed: int = 0,
) -> SimulationSpec:
    """A case of many clients with usual stacks and traffic.

    Parameters
    ----------
    tunnels, flows : int
        Clients, and egress flows each of them makes, about.
    protocol : str
        Of all tunnels. A relay carries only what can use a proxy.
    duration_s : float
        Length of the captures.
    scale : float
        Factor on transfer sizes.
    jitter_s : float
        Mean jitter of the access paths.
    seed : int
        Draws who is who; what they then do depends on the seed of the simulation.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    relay = protocol in PROTOCOLS and PROTOCOLS[protocol].relay is not None
    shares = np.cumsum([share for share, _ in USUAL_STACKS])
    clients = []
    for i in range(tunnels):
        stack = USUAL_STACKS[int(np.searchsorted(shares, random.random() * shares[-1]))][1]
        path = AccessPath(
            delay_s=float(np.clip(random.lognormal(np.log(0.012), 0.6), 0.001, 0.15)),
            jitter_s=jitter_s * float(random.uniform(0.5, 1.5)),
            up_mbit=float(random.choice([10.0, 20.0, 40.0, 100.0])),
            down_mbit=float(random.choice([50.0, 100.0, 250.0, 500.0])),
            hops=int(random.integers(5, 16)),
        )
        counts = random.multinomial(flows, [share for share, _ in USUAL_TRAFFIC])
        traffic = tuple(
            Activity(kind, flows=int(count), scale=scale, end_s=max(duration_s - 5.0, 3.0))
            for (_, kind), count in zip(USUAL_TRAFFIC, counts, strict=True)
            if count and not (relay and kind not in THROUGH_PROXY)
        )
        device = Device(f"client-{i + 1:04d}", with_skew(stack, float(random.normal(0.0, 8.0))))
        clients.append(Client(f"client-{i + 1:04d}", (device,), traffic, path))
    return SimulationSpec(
        clients=tuple(clients),
        duration_s=duration_s,
        protocol=protocol,
        server=server or Server(),
        ingress=ingress or Capture(),
        egress=egress or Capture(),
        countermeasures=countermeasures or Countermeasures(),
        background=background or Background(),
    )


def with_skew(stack: Stack, skew_ppm: float, wander_ppm: float = 0.0) -> Stack:
    """The same stack on a machine whose clock is off."""
    from dataclasses import replace

    clock: ClockModel = replace(stack.clock, skew_ppm=skew_ppm, wander_ppm=wander_ppm)
    return replace(stack, clock=clock)
