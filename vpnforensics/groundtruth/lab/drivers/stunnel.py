"""TLS around something else, by stunnel on both ends: around SOCKS, and around OpenVPN over TCP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver, certificates
from vpnforensics.groundtruth.lab.drivers.openvpn import OpenVpnTcp
from vpnforensics.groundtruth.lab.drivers.relay import LOCAL_PROXY_PORT, LocalProxy
from vpnforensics.groundtruth.lab.network import SERVER_OUTER

_LOOPBACK = "127.0.0.1"
_BEHIND = 1000
"""From the port of a client's end of TLS to that of its MicroSocks: more than there are clients."""


class StunnelSocks(LocalProxy):
    """One TLS connection for each connection of a program; MicroSocks behind the server's end."""

    kind = "stunnel-socks"
    usual_port = 443
    programs = ("stunnel", "microsocks")
    packages = ("stunnel4", "microsocks")

    def start_server(self) -> None:
        """One stunnel with a service for each client's MicroSocks."""
        certificates(self.folder, ["server"], SERVER_OUTER)
        services = {}
        for client in self.clients:
            port = self.own_port(client) + _BEHIND
            self.start_as(client, "microsocks", ["microsocks", "-i", _LOOPBACK, "-p", str(port)], port)
            services[self.own_port(client)] = port
        serve(self, {f"{SERVER_OUTER}:{port}": f"{_LOOPBACK}:{to}" for port, to in services.items()})
        self.wait_for_port(self.namespace, max(services), "stunnel")
        self.divert()

    def start_client(self, client: Client) -> None:
        """The proxy of its programs is the other end's."""
        connect(self, client, LOCAL_PROXY_PORT)


class StunnelOpenVpn(OpenVpnTcp):
    """OpenVPN's one TCP connection, which is a frame of 2 bytes and more a packet, inside one of TLS."""

    kind = "stunnel-openvpn"
    usual_port = 443
    programs = ("stunnel", "openvpn")
    packages = ("stunnel4", "openvpn")
    local = _LOOPBACK
    local_port = 1194
    remote = _LOOPBACK

    def start_server(self) -> None:
        """OpenVPN where only stunnel reaches it."""
        super().start_server()
        serve(self, {f"{SERVER_OUTER}:{self.port}": f"{_LOOPBACK}:{self.local_port}"})

    def start_client(self, client: Client) -> None:
        """OpenVPN asks until its end of stunnel listens."""
        connect(self, client, self.local_port)
        super().start_client(client)


def serve(driver: Driver, services: Mapping[str, str]) -> None:
    """Start the server's end: where it listens, and what it passes on to."""
    pki = driver.folder / "pki"
    text = f"cert = {pki}/server.crt\nkey = {pki}/server.key\n"
    text += "".join(f"[{i}]\naccept = {a}\nconnect = {b}\n" for i, (a, b) in enumerate(services.items()))
    _start(driver, "stunnel-server", driver.namespace, text)


def connect(driver: Driver, client: Client, port: int) -> None:
    """Start a client's end, which listens on its loopback."""
    text = f"client = yes\n[0]\naccept = {_LOOPBACK}:{port}\nconnect = {SERVER_OUTER}:{driver.port}\n"
    text += f"CAfile = {driver.folder}/pki/ca.crt\nverifyChain = yes\n"
    _start(driver, f"stunnel-{client.name}", client.namespace, text)


def _start(driver: Driver, name: str, namespace: str, text: str) -> None:
    config: Path = driver.folder / f"{name}.conf"
    config.write_text(f"foreground = yes\nsyslog = no\npid =\n{text}")
    driver.processes.start(name, namespace, ["stunnel", config])
