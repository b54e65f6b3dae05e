"""Tunnel protocols: what an inner packet looks like from outside.

Each protocol has one module with its framing; :data:`PROTOCOLS` holds them by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from vpnforensics.groundtruth.simulate.network import Relay
from vpnforensics.groundtruth.simulate.outer import esp, openvpn, plain, streams, tls, wireguard
from vpnforensics.groundtruth.simulate.outer.datagrams import Framing
from vpnforensics.groundtruth.simulate.spec import IpVersions


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
    overhead_bytes
        About what it adds to an inner packet, IP header included; it loads the link.
    framing
        Lengths, headers and own messages of a tunnel of datagrams.
    stream
        The same of a tunnel or relay over TCP.
    """

    name: str
    transport: Literal["udp", "esp", "tcp"]
    port: int
    mtu: int
    mss: int
    overhead_bytes: int
    framing: Framing | None = None
    stream: streams.StreamFraming | None = None
    client_port: int = 0
    """Fixed source port; 0 for an ephemeral one."""

    @property
    def relay(self) -> Relay | None:
        """How it carries byte streams; ``None`` where it carries packets."""
        return self.stream.relay if self.stream else None

    def inner_mss(self, versions: IpVersions) -> int:
        """MSS that inner connections end up with; a rewritten one makes room for the outer header, too."""
        room = self.mtu - 40 - versions.inner_header_bytes
        if not self.mss:
            return room
        return min(self.mss - versions.inner_header_bytes - versions.outer_header_bytes, room)


PROTOCOLS: Final = {
    protocol.name: protocol
    for protocol in (
        Protocol("wireguard", "udp", 51820, wireguard.MTU, 0, 60, wireguard.frame),
        Protocol("openvpn-udp", "udp", 1194, 1500, 1400, 52, openvpn.frame),
        Protocol("openvpn-udp-v1", "udp", 1194, 1500, 1400, 49, openvpn.frame_v1),
        Protocol("openvpn-udp-cbc", "udp", 1194, 1500, 1360, 90, openvpn.frame_cbc),
        Protocol("strongswan", "udp", 4500, 1400, 1360, 64, esp.frame, client_port=4500),
        Protocol("strongswan-kernel", "esp", 0, 1400, 1360, 56, esp.frame_bare),
        Protocol("ocserv-dtls", "udp", 443, 1434, 0, 66, tls.frame_dtls),
        Protocol("nebula", "udp", 4242, 1300, 0, 60, plain.frame_nebula, client_port=4242),
        Protocol("tinc", "udp", 655, 1500, 1397, 64, plain.frame_tinc, client_port=655),
        Protocol("custom", "udp", 40404, 1400, 0, 65, plain.frame_constant),
        Protocol("custom-block", "udp", 40405, 1380, 0, 73, plain.frame_block),
        Protocol("openvpn-tcp", "tcp", 1194, 1500, 1386, 0, stream=streams.OPENVPN_TCP),
        Protocol("ocserv-tls", "tcp", 443, 1400, 0, 0, stream=streams.ANYCONNECT_TLS),
        Protocol("reftunnel", "udp", 51820, wireguard.MTU, 0, 60, wireguard.frame),
        Protocol("reftunnel-tcp", "tcp", 51820, wireguard.MTU, 0, 0, stream=streams.REFTUNNEL_TCP),
        Protocol("sstp", "tcp", 443, 1400, 0, 0, stream=streams.SSTP),
        Protocol("ssh-tun", "tcp", 22, 1400, 0, 0, stream=streams.SSH_TUN),
        Protocol("ssh-socks", "tcp", 22, 1500, 0, 0, stream=streams.SSH_SOCKS),
        Protocol("shadowsocks", "tcp", 8388, 1500, 0, 0, stream=streams.SHADOWSOCKS),
        Protocol("socks", "tcp", 1080, 1500, 0, 0, stream=streams.SOCKS),
        Protocol("http-proxy", "tcp", 8888, 1500, 0, 0, stream=streams.HTTP_CONNECT),
        Protocol("trojan", "tcp", 443, 1500, 0, 0, stream=streams.TROJAN),
        Protocol("tor", "tcp", 9001, 1500, 0, 0, stream=streams.TOR),
    )
}
