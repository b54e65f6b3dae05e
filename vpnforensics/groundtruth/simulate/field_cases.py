"""Ready cases for methods that read header fields: clocks, IP IDs, devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np

from vpnforensics.groundtruth.simulate import presets
from vpnforensics.groundtruth.simulate.mixes import with_skew
from vpnforensics.groundtruth.simulate.spec import (
    AccessPath,
    Activity,
    ActivityKind,
    Capture,
    Client,
    ClockModel,
    Device,
    IpIdKind,
    IpIdModel,
    SimulationSpec,
    Stack,
)

BURSTY = AccessPath(delay_s=0.012, jitter_s=0.0003, burst_hz=40.0, burst_s=0.012, up_mbit=20.0)
"""An access line half full of other people's bursts of 12 ms."""


def skewed_clocks(clocks: int = 200, duration_s: float = 120.0, *, seed: int = 0) -> SimulationSpec:
    """Many devices with clocks up to 100 ppm off, each behind its own bursty line, each with a steady flow.

    The truth's ``devices`` hold each skew. Host clocks are NTP-steered, capture clocks exact.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    clients = []
    for i in range(clocks):
        stack = replace(presets.LINUX, clock=ClockModel("per_connection", skew_ppm=random.uniform(-100, 100)))
        device = Device(f"clock-{i + 1:03d}", stack)
        clients.append(Client(f"client-{i + 1:03d}", (device,), (Activity("telemetry", None),), BURSTY))
    return SimulationSpec(tuple(clients), duration_s)


def ip_id_classes(
    senders: int = 10, loss: float = 0.2, duration_s: float = 60.0, protocol: str = "wireguard"
) -> SimulationSpec:
    """Every IP-ID class, several senders each, both captures losing packets. The truth names each class."""
    clients = []
    for kind in get_args(IpIdKind):
        for i in range(senders):
            model = IpIdModel(kind, kind)
            stack = replace(presets.LINUX, name=kind, ip_id=model)
            traffic = _everyday(12, duration_s)
            clients.append(Client(f"{kind}-{i + 1}", (Device(f"{kind}-{i + 1}", stack),), traffic))
    capture = Capture(loss=loss)
    return SimulationSpec(tuple(clients), duration_s, protocol, ingress=capture, egress=capture)


def devices_behind_one_tunnel(
    stack: Stack = presets.LINUX_LEGACY,
    devices: int = 3,
    flows: int = 60,
    duration_s: float = 120.0,
    *,
    others: int = 2,
    seed: int = 0,
) -> SimulationSpec:
    """One home router's tunnel with several devices of one kind behind it, beside ordinary clients."""
    random = np.random.Generator(np.random.PCG64(seed))
    home = tuple(
        Device(f"home-{i + 1}", with_skew(stack, float(random.normal(0, 15))), 0.0005) for i in range(devices)
    )
    traffic = tuple(
        activity for i in range(devices) for activity in _everyday(flows // devices, duration_s, device=i)
    )
    clients = [Client("home", home, traffic, outer=presets.LINUX)]
    for i in range(others):
        device = Device(f"single-{i + 1}", with_skew(stack, float(random.normal(0, 15))))
        clients.append(Client(f"single-{i + 1}", (device,), _everyday(flows // devices, duration_s)))
    return SimulationSpec(tuple(clients), duration_s)


def legacy_tcp_tunnels(
    stack: Stack = presets.LINUX_LEGACY,
    clients: int = 20,
    flows: int = 20,
    duration_s: float = 120.0,
    protocol: str = "openvpn-tcp",
    *,
    seed: int = 0,
) -> SimulationSpec:
    """Tunnels over TCP whose host has one clock line, or (with ``presets.WINDOWS_7``) one IP-ID counter."""
    random = np.random.Generator(np.random.PCG64(seed))
    made = []
    for i in range(clients):
        device = Device(f"client-{i + 1}", with_skew(stack, float(random.normal(0, 15))))
        made.append(Client(f"client-{i + 1}", (device,), _everyday(flows, duration_s)))
    return SimulationSpec(tuple(made), duration_s, protocol)


def _everyday(flows: int, duration_s: float, device: int = 0) -> tuple[Activity, ...]:
    """Mostly pages, some sessions that last."""
    shares: tuple[tuple[ActivityKind, int], ...] = (
        ("browse", max(flows - 3, 1)),
        ("ssh", 1),
        ("longpoll", 1),
        ("telemetry", 1),
    )
    end_s = duration_s * 0.7
    return tuple(Activity(kind, count, device, end_s=end_s, scale=0.5) for kind, count in shares)


CASES: dict[str, Callable[[], SimulationSpec]] = {
    "skewed-clocks": skewed_clocks,
    "ip-id-classes": ip_id_classes,
    "devices-behind-one-tunnel": devices_behind_one_tunnel,
    "legacy-tcp-tunnels": legacy_tcp_tunnels,
}
