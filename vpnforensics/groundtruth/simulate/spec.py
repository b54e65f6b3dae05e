"""What to simulate: clients, their stacks and paths, the server, the captures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vpnforensics.groundtruth.places import Places

ClockKind = Literal["none", "global", "per_connection", "per_pair"]
IpIdKind = Literal[
    "zero", "constant", "global", "per_destination", "per_flow", "bucket", "byte_swapped", "random"
]
OptionLayout = Literal["linux", "windows", "macos"]
LinkType = Literal["ethernet", "sll2", "raw"]
JitterLaw = Literal["exponential", "normal", "uniform", "pareto"]
ActivityKind = Literal[
    "browse",
    "download",
    "upload",
    "ssh",
    "dns",
    "voip",
    "longpoll",
    "ping",
    "idle",
    "quic",
    "stun",
    "telemetry",
]


@dataclass(frozen=True, slots=True)
class ClockModel:
    """How a stack fills TSval (RFC 7323).

    Parameters
    ----------
    kind
        ``none``: no timestamps. ``global``: one line for all connections, from boot (Linux before 4.10).
        ``per_connection``, ``per_pair``: the same rate with a random offset a connection, or an
        address pair (Linux 4.11 on).
    hz
        Ticks a second.
    skew_ppm
        Rate error against true time.
    wander_ppm
        Standard deviation of a slow drift of the rate (one random-walk step each 16 s, mean-reverting).
    uptime_s
        Age of the counter at the start; where ``None``, drawn.
    """

    kind: ClockKind = "per_connection"
    hz: float = 1000.0
    skew_ppm: float = 0.0
    wander_ppm: float = 0.0
    uptime_s: float | None = None


@dataclass(frozen=True, slots=True)
class IpIdModel:
    """How a stack fills the IPv4 identification field (RFC 6864).

    Parameters
    ----------
    tcp, udp
        Class for TCP, and for everything else. ``global`` shares one counter over all packets the host
        sends, inner and outer. ``bucket`` is Linux's hashed counter with jumps that grow with idle time.
    other_hz
        Packets a second that the host sends elsewhere, unseen, out of a shared counter.
    """

    tcp: IpIdKind = "per_flow"
    udp: IpIdKind = "bucket"
    other_hz: float = 2.0


@dataclass(frozen=True, slots=True)
class Stack:
    """One operating system's network stack, as the wire shows it."""

    name: str
    clock: ClockModel = ClockModel()
    ip_id: IpIdModel = IpIdModel()
    ttl: int = 64
    df: bool = True
    options: OptionLayout = "linux"
    window: int = 64240
    window_scale: int = 7
    receive_bytes: int = 3_000_000
    """Receive buffer that autotuning ends at."""
    ack_every: int = 2
    gro_us: float = 8.0
    """Segments that arrive within this time are acknowledged together; 0 for one by one."""
    delayed_ack_ms: float = 40.0
    read_us: float = 120.0
    """After a whole message, an acknowledgement once the program has read it; 0 for delayed ones only."""
    quick_acks: int = 8
    initial_window: int = 10


@dataclass(frozen=True, slots=True)
class Device:
    """One operating-system stack behind a tunnel; ``lan_delay_s`` lies between it and the tunnel's host."""

    name: str
    stack: Stack
    lan_delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Activity:
    """A kind of traffic on one of a client's devices.

    Parameters
    ----------
    kind
        See :mod:`vpnforensics.groundtruth.simulate.traffic`.
    flows
        How many egress flows it makes, about: a page is not cut short. ``None``: one thing after the other
        until the end, with the pauses of a person.
    device
        Index among the client's devices.
    start_s, end_s
        When they start; ``end_s=None`` for the end of the simulation.
    scale
        Factor on sizes and durations.
    """

    kind: ActivityKind
    flows: int | None = 1
    device: int = 0
    start_s: float = 2.0
    end_s: float | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class AccessPath:
    """Between a client and the VPN server; loss and delays are per direction."""

    delay_s: float = 0.015
    jitter_s: float = 0.0002
    """Mean of the per-packet delay, beside the queues; order is kept."""
    jitter: JitterLaw = "exponential"
    loss: float = 0.0005
    up_mbit: float = 20.0
    down_mbit: float = 100.0
    queue_s: float = 0.08
    burst_hz: float = 0.0
    """Bursts of cross traffic a second, and their mean length: an M/G/1 queue."""
    burst_s: float = 0.004
    reorder: float = 0.0
    reorder_s: float = 0.003
    hops: int = 9


@dataclass(frozen=True, slots=True)
class Server:
    """The VPN server: its delay law, NAT and address.

    The law is a log-normal handling time, one packet after the other, interrupted by stalls of the
    process (Poisson, Pareto lengths), which give the heavy tail that measurements show.
    """

    address: str = "192.0.2.1"
    egress_address: str = "203.0.113.1"
    delay_s: float = 0.00009
    sigma: float = 0.6
    gap_s: float = 0.000012
    stall_hz: float = 8.0
    stall_s: float = 0.0012
    """Shortest stall; lengths follow a Pareto law of exponent 1.25."""
    stall_max_s: float = 0.12
    loss: float = 0.0
    internet_loss: float = 0.0003
    host_jitter_s: float = 0.000006
    """Mean queueing on the way to a host, per packet and direction."""
    host_mbit: float = 800.0
    """Median rate of that way."""
    random_ports: bool = False
    """NAT draws every port anew; otherwise it keeps the client's port where that is free."""
    stack: Stack = field(default_factory=lambda: Stack("server"))


@dataclass(frozen=True, slots=True)
class Countermeasures:
    """What the tunnel does against correlation; all off by default.

    Parameters
    ----------
    pad_block, pad_mtu, pad_buckets
        Inner lengths rounded up to a multiple, to the tunnel's MTU, or to the next of a list.
    cover_hz
        Constant-rate cover traffic: one datagram a slot and direction, dummies where nothing waits.
    batch_s
        The server lets packets go at multiples of this delay only.
    scrub_tsval, scrub_ip_id
        At egress: a random constant added to each connection's TSval; random IP ID.
    normalise_ttl
        TTL of every packet that leaves at egress; 0 for off.
    """

    pad_block: int = 0
    pad_mtu: bool = False
    pad_buckets: tuple[int, ...] = ()
    cover_hz: float = 0.0
    batch_s: float = 0.0
    scrub_tsval: bool = False
    scrub_ip_id: bool = False
    normalise_ttl: int = 0


@dataclass(frozen=True, slots=True)
class Capture:
    """One tap: its clock, its losses, its file.

    ``offset_s`` is the clock's error at the first packet of the ingress capture; ``drift_ppm`` from there on.
    """

    offset_s: float = 0.0
    drift_ppm: float = 0.0
    loss: float = 0.0
    snaplen: int = 65535
    linktype: LinkType = "ethernet"
    resolution_ns: int = 1
    """1, or 1000 for a microsecond file."""
    jitter_s: float = 0.0
    """Mean of an exponential delay between a packet and its time stamp."""
    start_s: float = 0.0
    without: tuple[str, ...] = ()
    """Clients whose packets the tap does not see."""
    cut_bytes: int = 0
    """Missing at the end of the file."""
    pcapng: bool = False


@dataclass(frozen=True, slots=True)
class IpVersions:
    """IP version of the tunnels' own packets, and of what they carry (which is what egress shows)."""

    outer: Literal[4, 6] = 4
    inner: Literal[4, 6] = 4

    @property
    def outer_header_bytes(self) -> int:
        """By how much an outer IP header is longer than IPv4's."""
        return 20 if self.outer == 6 else 0

    @property
    def inner_header_bytes(self) -> int:
        """By how much an inner IP header is longer than IPv4's."""
        return 20 if self.inner == 6 else 0


@dataclass(frozen=True, slots=True)
class Background:
    """Traffic that is no tunnel's: conversations of each kind with the server's own addresses.

    Parameters
    ----------
    ingress
        Non-VPN conversations at the ingress tap (QUIC, DNS, STUN, RTP).
    egress
        The server's own traffic at the egress tap (DNS, HTTPS, NTP).
    """

    ingress: int = 0
    egress: int = 0


@dataclass(frozen=True, slots=True)
class Client:
    """One tunnel: its devices, what they do, and the path to the server.

    ``outer`` is the stack that sends the tunnel's packets: by default the first device's own, as when
    the VPN runs on it; give another for a home router.
    """

    name: str
    devices: tuple[Device, ...]
    traffic: tuple[Activity, ...]
    path: AccessPath = AccessPath()
    protocol: str | None = None
    outer: Stack | None = None
    start_s: float = 0.1
    keepalive_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SimulationSpec:
    """A whole case.

    Parameters
    ----------
    protocol
        Of every client that does not name its own; see :data:`..outer.PROTOCOLS`.
    epoch_s
        True time at the start, seconds since 1970.
    hosts
        Internet hosts that clients talk to; popularity follows Zipf's law.
    """

    clients: tuple[Client, ...]
    duration_s: float = 60.0
    protocol: str = "wireguard"
    server: Server = Server()
    ingress: Capture = Capture()
    egress: Capture = Capture()
    countermeasures: Countermeasures = Countermeasures()
    background: Background = Background()
    epoch_s: int = 1_790_000_000
    hosts: int = 300
    host_delay_s: tuple[float, float] | None = None
    """Nearest and farthest host, uniform; ``None`` for a log-normal law."""
    places: Places | None = None
    """Of a scenario: its hosts, the ways to them, and the lab's programs, in place of the wide Internet's."""
    port: int = 0
    """Of the VPN server, where not the protocol's own."""
    mtu: int = 0
    """Of the tunnel, where not the protocol's own."""
    single_file: bool = False
    """Both sides as two interfaces of one ``capture.pcapng``."""
    ip: IpVersions = IpVersions()
    inner: bool = False
    """Also write ``inner-CLIENT.pcap``: each client's tunnel device. Relays have none."""
