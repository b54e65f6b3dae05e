"""WireGuard messages on TCP, each behind its length in two bytes: the reference tunnel's way."""

from __future__ import annotations

from vpnforensics.tunnels import wireguard
from vpnforensics.tunnels.framing import Framing
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import Datagrams, Recognition, Records

name = wireguard.name
server_ports = wireguard.server_ports
framing: Framing = "wireguard"
header_bytes = 2
least_frames = 4
length_bytes, counter_bytes = 2, 18


def recognise(sample: Datagrams, begun: bool) -> Recognition | None:
    """As over UDP; two messages say nothing."""
    return wireguard.judge(sample) if len(sample) >= least_frames else None


def records(datagrams: Datagrams, variant: str) -> Records:
    """Transport messages that are not keep-alives."""
    return wireguard.records(datagrams, variant)


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """As over UDP."""
    return wireguard.length_maps(datagrams, variant)
