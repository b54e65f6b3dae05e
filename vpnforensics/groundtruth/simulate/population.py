"""The Internet's hosts: addresses, distances, stacks, clocks. One table for all clients of a case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate.clocks import TimestampClock
from vpnforensics.groundtruth.simulate.frames import (
    SYN_LINUX,
    SYN_LINUX_PLAIN,
    SYN_MACOS,
    SYN_MACOS_PLAIN,
    SYN_WINDOWS,
)
from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.network.links import ServerLaw
from vpnforensics.groundtruth.simulate.presets import LINUX, MACOS, WINDOWS
from vpnforensics.groundtruth.simulate.spec import ClockModel, Countermeasures, Server, SimulationSpec, Stack
from vpnforensics.groundtruth.simulate.traffic.conversation import Internet, make_internet, scenario_internet

# RFC 2544 addresses: routed nowhere.
_FIRST_ADDRESS: Final = (198 << 24) | (18 << 16)
_ADDRESSES: Final = 1 << 17

SYN_LAYOUTS: Final = {
    ("linux", True): SYN_LINUX,
    ("linux", False): SYN_LINUX_PLAIN,
    ("windows", True): SYN_LINUX,
    ("windows", False): SYN_WINDOWS,
    ("macos", True): SYN_MACOS,
    ("macos", False): SYN_MACOS_PLAIN,
}


@dataclass(frozen=True, slots=True)
class Host:
    """An Internet host as its packets show it."""

    address: int
    stack: Stack
    hops: int
    clock: TimestampClock
    seed: int


@dataclass(frozen=True, slots=True)
class Population:
    """Hosts by index, with the distances that traffic models need."""

    internet: Internet
    hosts: tuple[Host, ...]
    address: Ints
    ttl: Ints
    """As seen at the egress tap."""
    ids: npt.NDArray[np.str_]
    """IP-ID class of TCP."""


def make_population(spec: SimulationSpec, duration_ns: int, random: np.random.Generator) -> Population:
    """Mostly Linux servers with NTP-steered clocks; some Windows, some that send no IP ID."""
    if spec.places is not None:
        internet = scenario_internet(spec.places)
    else:
        internet = make_internet(max(spec.hosts, 4), spec.host_delay_s, random)
    hosts = len(internet.distance_ns)
    addresses = _FIRST_ADDRESS + random.permutation(_ADDRESSES)[:hosts]
    made = []
    for i in range(hosts):
        draw = random.random()
        stack = LINUX if draw < 0.8 else MACOS if draw < 0.9 else WINDOWS
        clock = stack.clock
        if clock.kind != "none":
            clock = ClockModel("per_connection", 1000.0, float(random.normal(0.0, 0.6)), 0.05)
        made.append(
            Host(
                int(addresses[i]),
                stack,
                int(random.integers(4, 18)),
                TimestampClock(clock, duration_ns, random),
                int(random.integers(0, 1 << 62)),
            )
        )
    return Population(
        internet,
        tuple(made),
        np.array([host.address for host in made], np.int64),
        np.array([host.stack.ttl - host.hops for host in made], np.int64),
        np.array([host.stack.ip_id.tcp for host in made]),
    )


def server_law(
    server: Server, countermeasures: Countermeasures, duration_ns: int, random: np.random.Generator
) -> ServerLaw:
    """The server's delay for the kernels: stalls of its process are drawn once, for all clients alike."""
    count = int(random.poisson(server.stall_hz * duration_ns * 1e-9))
    start = np.sort((random.random(count) * duration_ns).astype(np.int64))
    length = np.minimum(server.stall_s * (1.0 + random.pareto(1.25, count)), server.stall_max_s)
    end = start + (length * 1e9).astype(np.int64)
    # A stall inside another changes nothing: ends become ascending.
    end = np.maximum.accumulate(end) if count else end
    slot_ns = 1e9 / countermeasures.cover_hz if countermeasures.cover_hz else 0.0
    return ServerLaw(
        service_ns=server.delay_s * 1e9,
        sigma=server.sigma,
        gap_ns=server.gap_s * 1e9,
        stall_start_ns=start,
        stall_end_ns=end,
        loss=server.loss,
        batch_ns=countermeasures.batch_s * 1e9,
        slot_up_ns=slot_ns,
        slot_down_ns=slot_ns,
    )
