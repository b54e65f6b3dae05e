"""OpenVPN in user space (no data-channel offload), AES-256-GCM, EC certificates, over UDP or TCP."""

from __future__ import annotations

from typing import ClassVar

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver, certificates
from vpnforensics.groundtruth.lab.network import INNER_PREFIX, SERVER_OUTER


class OpenVpnUdp(Driver):
    """openvpn on both ends, ``proto udp4``."""

    kind = "openvpn-udp"
    usual_port = 1194
    programs: ClassVar[tuple[str, ...]] = ("openvpn",)
    packages: ClassVar[tuple[str, ...]] = ("openvpn",)
    proto: ClassVar[tuple[str, str]] = ("udp4", "udp4")
    local: ClassVar[str] = SERVER_OUTER
    """Where the server listens, and where a client finds it."""
    remote: ClassVar[str] = SERVER_OUTER
    local_port: ClassVar[int | None] = None
    """The server's own port, where clients find it behind another."""

    def start_server(self) -> None:
        """One server with fixed inner addresses by client name."""
        certificates(self.folder, ["server", *(c.name for c in self.clients)], SERVER_OUTER)
        fixed = self.folder / "ccd"
        fixed.mkdir()
        for client in self.clients:
            (fixed / client.name).write_text(f"ifconfig-push {client.inner} 255.255.255.0\n")
        lines = [
            f"local {self.local}",
            f"port {self.local_port or self.port}",
            f"server {INNER_PREFIX}0 255.255.255.0",
            "topology subnet",
            f"client-config-dir {fixed}",
            "dh none",
            f"management {self.folder}/management unix",
        ]
        self._start("server", self.namespace, self.device(0), self.proto[0], lines)
        self._wait("server")

    def start_client(self, client: Client) -> None:
        """One client that sends from its own fixed port."""
        lines = [
            "client",
            f"remote {self.remote} {self.local_port or self.port}",
            f"lport {client.port}",
            "remote-cert-tls server",
            'pull-filter ignore "redirect-gateway"',
        ]
        self._start(client.name, client.namespace, self.device(client.number), self.proto[1], lines)

    def join(self, client: Client) -> str:
        """The server pushes its address."""
        self._wait(client.name)
        return self.device(client.number)

    def server_devices(self) -> list[str]:
        """One for all clients."""
        return [self.device(0)]

    def _start(self, identity: str, namespace: str, dev: str, proto: str, lines: list[str]) -> None:
        pki = self.folder / "pki"
        lines += [
            f"dev {dev}",
            "dev-type tun",
            f"proto {proto}",
            f"ca {pki}/ca.crt",
            f"cert {pki}/{identity}.crt",
            f"key {pki}/{identity}.key",
            "data-ciphers AES-256-GCM",
            "auth SHA256",
            "disable-dco",
            "keepalive 10 60",
            "verb 3",
        ]
        lines += [f"tun-mtu {self.mtu}"] if self.mtu else []
        path = self.folder / f"openvpn-{identity}.conf"
        path.write_text("\n".join(lines) + "\n")
        self.processes.start(f"openvpn-{identity}", namespace, ["openvpn", "--config", path])

    def _wait(self, identity: str) -> None:
        log = self.processes.log(f"openvpn-{identity}")
        self.processes.wait_for(
            f"openvpn-{identity}",
            lambda: "Initialization Sequence Completed" in log.read_text(errors="replace"),
        )


class OpenVpnTcp(OpenVpnUdp):
    """The same over one TCP connection."""

    kind = "openvpn-tcp"
    transport = "tcp"
    proto = ("tcp4-server", "tcp4-client")
