"""Tunnel protocols: what an inner packet looks like from outside.

Each protocol has one module with its framing; :data:`PROTOCOLS` holds them by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from vpnforensics.groundtruth.simulate.outer import openvpn, wireguard
from vpnforensics.groundtruth.simulate.outer.datagrams import Framing


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a VPN protocol carries packets.

    Parameters
    ----------
    name
        As in truth files.
    transport
        Of the outer packets.
    port
        The server's.
    mtu
        Of the tunnel's interface.
    mss
        What the tunnel writes into SYN packets; 0 where only the MTU limits it.
    framing
        Lengths, headers and own messages; ``None`` for a tunnel over TCP, whose `stream_overhead` counts.
    overhead_bytes
        About what it adds to an inner packet, IP header included; it loads the link.
    """

    name: str
    transport: Literal["udp", "esp", "tcp"]
    port: int
    mtu: int
    mss: int
    framing: Framing | None
    overhead_bytes: int
    stream_overhead: int = -1
    client_port: int = 0
    """Fixed source port; 0 for an ephemeral one."""

    @property
    def inner_mss(self) -> int:
        """MSS that inner connections end up with."""
        return self.mss or self.mtu - 40


PROTOCOLS: Final = {
    protocol.name: protocol
    for protocol in (
        Protocol("wireguard", "udp", 51820, wireguard.MTU, 0, wireguard.frame, 60),
        Protocol("openvpn-udp", "udp", 1194, 1500, 1400, openvpn.frame, 52),
        Protocol("openvpn-udp-v1", "udp", 1194, 1500, 1400, openvpn.frame_v1, 49),
    )
}
