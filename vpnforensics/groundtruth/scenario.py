"""A ground-truth scenario: one VPN server, its clients, what they do, and how both sides are captured.

The lab (:mod:`vpnforensics.groundtruth.lab`) records a scenario with real software; the simulator
computes it. The format is YAML, described by ``scenario.schema.json`` beside this file; :func:`load`
turns it into the frozen values below. What one of the two back ends cannot do it refuses by name;
nothing in a scenario is silently ignored.
"""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.scenario_yaml import Located, parse

Personality = Literal["linux", "linux-legacy", "windows", "windows-legacy", "macos", "random-id"]
TimestampScope = Literal["none", "per_connection", "per_destination", "global"]
IpIdClass = Literal[
    "zero", "constant", "global", "per_destination", "per_flow", "bucket", "byte_swapped", "random"
]
Activity = Literal["browse", "download", "upload", "ssh", "dns", "ping", "voip", "longpoll", "idle"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """A number that may be drawn anew for each client or host."""

    low: float
    high: float

    def draw(self, rng: random.Random) -> float:
        """One value; always consumes one draw, so that a fixed number changes no other."""
        return self.low + (self.high - self.low) * rng.random()


@dataclass(frozen=True, slots=True)
class Stack:
    """An operating system's network stack as a capture sees it.

    ``timestamps``, ``timestamp_hz``, ``ip_id`` and ``ttl`` come from the personality where the
    scenario is silent.
    """

    personality: Personality = "linux"
    clock_ppm: float = 0.0
    clock_wander_ppm: float = 0.0
    timestamps: TimestampScope = "per_connection"
    timestamp_hz: float = 1000.0
    ip_id: IpIdClass = "per_flow"
    ttl: int = 64


PERSONALITIES: dict[str, Stack] = {
    "linux": Stack("linux"),
    "linux-legacy": Stack("linux-legacy", timestamps="global"),
    "windows": Stack("windows", timestamps="none", ip_id="per_destination", ttl=128),
    "windows-legacy": Stack("windows-legacy", timestamps="none", ip_id="global", ttl=128),
    "macos": Stack("macos", timestamps="per_connection", ip_id="zero"),
    "random-id": Stack("random-id", ip_id="random"),
}


@dataclass(frozen=True, slots=True)
class Link:
    """A line between two hosts.

    ``rate_mbit`` is towards the client, ``up_rate_mbit`` away from it; 0 is unlimited.
    """

    delay_ms: Range = Range(3.0, 15.0)
    jitter_ms: Range = Range(0.2, 2.0)
    jitter: Literal["exponential", "normal", "uniform", "pareto"] = "exponential"
    loss: float = 0.0002
    reorder: float = 0.0
    rate_mbit: Range = Range(8.0, 40.0)
    up_rate_mbit: Range = Range(4.0, 20.0)
    queue_ms: float = 150.0


@dataclass(frozen=True, slots=True)
class Device:
    """A machine behind a tunnel: its stack and what it does."""

    name: str
    traffic: tuple[Activity, ...]
    stack: Stack


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """One tunnel.

    Parameters
    ----------
    name : str
        Unique in the scenario.
    host : {"netns", "uml"}
        In the lab: a namespace, or its own kernel and clock.
    stack : Stack
        Of the tunnel end itself: its outer packets.
    devices : tuple of Device
        Who sends inner packets. One device named as the client, with the same stack: the tunnel end itself.
    flows : int or None
        Simulator: flows in all.
    """

    name: str
    host: Literal["netns", "uml"]
    access: Link
    stack: Stack
    devices: tuple[Device, ...]
    start_s: Range
    flows: int | None

    @property
    def routed(self) -> bool:
        """Whether the devices are machines of their own behind the tunnel end."""
        return len(self.devices) > 1 or self.devices[0].name != self.name


@dataclass(frozen=True, slots=True)
class Countermeasures:
    """What the tunnel does against linking (reference tunnel and simulator)."""

    padding: Literal["none", "block", "buckets", "mtu"] = "none"
    padding_bytes: int = 128
    padding_buckets: tuple[int, ...] = (128, 512, 1024)
    cover_pps: float = 0.0
    batch_ms: float = 0.0
    scrub_timestamps: bool = False
    scrub_ip_id: bool = False
    normalise_ttl: int = 0


@dataclass(frozen=True, slots=True)
class Vpn:
    """The VPN software; None leaves port and MTU to it.

    ``outer_ip`` and ``inner_ip`` are the IP versions of the tunnels' own packets and of what they carry;
    the lab has IPv4 alone.
    """

    kind: str
    port: int | None = None
    mtu: int | None = None
    countermeasures: Countermeasures = Countermeasures()
    outer_ip: Literal[4, 6] = 4
    inner_ip: Literal[4, 6] = 4


@dataclass(frozen=True, slots=True)
class Internet:
    """Public hosts: how many web addresses, how far."""

    web_servers: int = 6
    delay_ms: Range = Range(1.0, 15.0)
    jitter_ms: Range = Range(0.05, 0.5)
    loss: float = 0.0002
    rate_mbit: Range = Range(200.0, 200.0)


@dataclass(frozen=True, slots=True)
class ServerDelay:
    """Simulator: what the VPN server adds, a heavy-tailed law by three of its points."""

    delay_median_ms: float = 0.12
    delay_p99_ms: float = 5.0
    delay_max_ms: float = 100.0


@dataclass(frozen=True, slots=True)
class Nat:
    """Source NAT at the VPN server."""

    ports: Literal["preserve", "random"] = "preserve"


@dataclass(frozen=True, slots=True)
class Side:
    """How one side is captured."""

    snaplen: int = 0
    linktype: Literal["ethernet", "sll2", "raw"] = "ethernet"
    format: Literal["pcap", "pcapng"] = "pcap"
    precision: Literal["ns", "us"] = "ns"
    clock_offset_s: float = 0.0
    clock_drift_ppm: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    without: tuple[str, ...] = ()
    start_s: float = 0.0
    cut_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Capture:
    """Both sides, and whether they share a file."""

    ingress: Side = Side()
    egress: Side = Side()
    single: bool = False
    inner: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a recording depends on, beside the machine."""

    name: str
    description: str
    duration_s: float
    seed: int
    vpn: Vpn
    clients: tuple[ClientSpec, ...]
    internet: Internet
    server: ServerDelay
    nat: Nat
    capture: Capture

    def as_dict(self) -> dict[str, Any]:
        """Plain values, every default filled in, for manifests."""
        return dataclasses.asdict(self)


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of the format."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name("scenario.schema.json").read_text())
    return loaded


def load(path: str | Path, *, seed: int | None = None) -> Scenario:
    """Read a scenario file.

    Parameters
    ----------
    path : str or Path
        A YAML file.
    seed : int or None
        Replaces the file's seed.

    Raises
    ------
    ScenarioError
        With the file, the line and the key that are wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    return loads(text, name=str(path), seed=seed)


def loads(text: str, *, name: str = "<scenario>", seed: int | None = None) -> Scenario:
    """Read a scenario from text; `name` stands in error messages."""
    located = parse(text, name, schema())
    raw = located.value
    chosen = seed if seed is not None else int(raw.get("seed", 1))
    clients = _clients(located)
    capture = _capture(located, {client.name for client in clients})
    return Scenario(
        name=_written(raw.get("name", Path(name).stem)),
        description=_written(raw.get("description", "")),
        duration_s=float(raw.get("duration_s", 60)),
        seed=chosen,
        vpn=_vpn(raw["vpn"]),
        clients=clients,
        internet=_fill(Internet, raw.get("internet", {})),
        server=_fill(ServerDelay, raw.get("server", {})),
        nat=_fill(Nat, raw.get("nat", {})),
        capture=capture,
    )


def _written(text: object) -> str:
    """Text that a manifest can hold: what is no Unicode, such as half of a surrogate pair, is spelled."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def _fill(kind: type[T], raw: dict[str, Any]) -> T:
    """A dataclass from a checked mapping; number pairs become ranges, lists become tuples."""
    types = {f.name: str(f.type) for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if types[key] == "Range":
            values[key] = _range(value)
        elif types[key] == "float":
            values[key] = float(value)
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _range(raw: Any) -> Range:
    low, high = raw if isinstance(raw, list) else (raw, raw)
    return Range(float(low), float(high))


def _vpn(raw: dict[str, Any]) -> Vpn:
    return Vpn(
        raw["kind"],
        raw.get("port"),
        raw.get("mtu"),
        _fill(Countermeasures, raw.get("countermeasures", {})),
        raw.get("outer_ip", 4),
        raw.get("inner_ip", 4),
    )


def _stack(raw: dict[str, Any], base: Stack | None = None) -> Stack:
    """The personality with the given differences; `base` where no personality is named."""
    start = PERSONALITIES[raw["personality"]] if "personality" in raw else base or PERSONALITIES["linux"]
    return dataclasses.replace(start, **raw)


def _device(
    raw: dict[str, Any], client: str, number: int, traffic: tuple[Activity, ...], stack: Stack
) -> Device:
    name = f"{client}-{raw.get('name', f'device-{number}')}"
    return Device(name, tuple(raw.get("traffic", traffic)), _stack(raw.get("stack", {}), stack))


def _clients(located: Located) -> tuple[ClientSpec, ...]:
    clients: list[ClientSpec] = []
    names: set[str] = set()
    for index, raw in enumerate(located.value["clients"]):
        stack = _stack(raw.get("stack", {}))
        traffic = tuple(raw.get("traffic", ("browse", "dns")))
        if "devices" in raw and "traffic" in raw:
            raise located.error(
                ("clients", index, "traffic"), "stands beside `devices`; give each device its own"
            )
        count = int(raw.get("count", 1))
        for number in range(1, count + 1):
            base = raw.get("name")
            name = f"client-{len(clients) + 1}" if base is None else f"{base}-{number}" if count > 1 else base
            if name in names:
                raise located.error(("clients", index, "name"), f"the client name {name!r} stands twice")
            names.add(name)
            behind = enumerate(raw.get("devices", ()), start=1)
            devices = tuple(_device(d, name, i, traffic, stack) for i, d in behind)
            devices = devices or (Device(name, traffic, stack),)
            if len({d.name for d in devices}) < len(devices):
                raise located.error(("clients", index, "devices"), "two devices have the same name")
            clients.append(
                ClientSpec(
                    name,
                    raw.get("host", "netns"),
                    _fill(Link, raw.get("access", {})),
                    stack,
                    devices,
                    _range(raw.get("start_s", 0)),
                    raw.get("flows"),
                )
            )
    return tuple(clients)


def _capture(located: Located, names: set[str]) -> Capture:
    raw = located.value.get("capture", {})
    sides = {side: _fill(Side, raw.get(side, {})) for side in ("ingress", "egress")}
    for side, made in sides.items():
        for unknown in set(made.without) - names:
            known = ", ".join(sorted(names))
            raise located.error(
                ("capture", side, "without"), f"there is no client {unknown!r}; there are {known}"
            )
    if raw.get("single") and len({s.linktype for s in sides.values()}) > 1:
        raise located.error(
            ("capture", "single"), "one file has one link type here: give both sides the same"
        )
    single, inner = bool(raw.get("single", False)), bool(raw.get("inner", False))
    return Capture(sides["ingress"], sides["egress"], single, inner)
