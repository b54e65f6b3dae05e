"""The project's own reference tunnel: WireGuard on the wire, with countermeasures, over UDP or framed TCP.

It runs as a separate program, like every other VPN here, so that the lab imports nothing of it.
"""

from __future__ import annotations

import base64
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import ClassVar

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.network import SERVER_INNER, SERVER_OUTER

_COMPILE_TIMEOUT_S = 240
_CONTROL = Path("/run/vpnforensics")
_COMMAND = (sys.executable, "-m", "vpnforensics.reftunnel")


class RefTunnel(Driver):
    """``vpnf tunnel`` on both ends, over UDP."""

    kind = "reftunnel"
    usual_port = 51820
    programs = (sys.executable,)
    packages = ()
    carrier: ClassVar[str] = "udp"

    def start_server(self) -> None:
        """One interface, one peer a client."""
        self._keys = {number: _key_pair() for number in (0, *(c.number for c in self.clients))}
        peers = ""
        for client in self.clients:
            peers += f"[Peer]\nPublicKey = {self._keys[client.number][1]}\nAllowedIPs = {client.inner}/32\n"
        self._start(0, self.namespace, SERVER_INNER, self.port, peers)
        _compile_kernels()
        self._wait(0, self.namespace)

    def start_client(self, client: Client) -> None:
        """The peer is the server."""
        peer = (
            f"[Peer]\nPublicKey = {self._keys[0][1]}\nAllowedIPs = 0.0.0.0/0\n"
            f"Endpoint = {SERVER_OUTER}:{self.port}\nPersistentKeepalive = 25\n"
        )
        self._start(client.number, client.namespace, client.inner, client.port, peer)

    def join(self, client: Client) -> str:
        """Its device is up and addressed by itself."""
        return self._wait(client.number, client.namespace)

    def server_devices(self) -> list[str]:
        """One for all clients."""
        return [self.device(0)]

    def _start(self, number: int, namespace: str, address: str, port: int, peers: str) -> None:
        dev = self.device(number)
        path = self.folder / f"{dev}.conf"
        # Offload would put packets of many segments on the tun device, and so into the inner capture.
        path.write_text(
            f"[Interface]\nPrivateKey = {self._keys[number][0]}\nAddress = {address}/24\n"
            f"ListenPort = {port}\nTable = off\nOffload = off\nTransport = {self.carrier}\n"
            + (f"MTU = {self.mtu}\n" if self.mtu else "")
            + self._countermeasures()
            + peers
        )
        path.chmod(0o600)
        self.processes.state.note("path", path=str(_CONTROL / f"{dev}.sock"))
        self.processes.start(f"reftunnel-{number}", namespace, [*_COMMAND, "up", "--foreground", path])

    def _wait(self, number: int, namespace: str) -> str:
        dev = self.device(number)
        self.processes.wait_for(dev, lambda: self.network.has_link(namespace, dev))
        return dev

    def _countermeasures(self) -> str:
        asked = self.countermeasures
        lines = []
        if asked.padding != "none":
            sizes = {
                "mtu": "mtu",
                "block": f"block:{asked.padding_bytes}",
                "buckets": f"buckets:{','.join(map(str, asked.padding_buckets))}",
            }
            lines.append(f"Pad = {sizes[asked.padding]}")
        if asked.cover_pps:
            lines.append(f"Cover = {asked.cover_pps:g}")
        if asked.batch_ms:
            lines.append(f"BatchMs = {asked.batch_ms:g}")
        if asked.scrub_timestamps:
            lines.append("ScrubTimestamps = on")
        if asked.scrub_ip_id:
            lines.append("ScrubIpId = random")
        if asked.normalise_ttl:
            lines.append(f"NormaliseTtl = {asked.normalise_ttl}")
        return "".join(f"{line}\n" for line in lines)


class RefTunnelTcp(RefTunnel):
    """The same over one TCP connection a client."""

    kind = "reftunnel-tcp"
    transport = "tcp"
    carrier = "tcp"


@cache
def _compile_kernels() -> None:
    """Its device is there before its kernels are compiled; a first start would miss the traffic."""
    warm_up = "from vpnforensics.reftunnel._kernels import warm_up; warm_up()"
    subprocess.run(
        [sys.executable, "-c", warm_up], check=True, capture_output=True, timeout=_COMPILE_TIMEOUT_S
    )


def _key_pair() -> tuple[str, str]:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # the tunnel's need

    key = X25519PrivateKey.generate()
    private, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    return base64.b64encode(private).decode(), base64.b64encode(public).decode()
