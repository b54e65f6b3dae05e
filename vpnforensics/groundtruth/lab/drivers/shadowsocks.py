"""Shadowsocks (AEAD over TCP): a SOCKS proxy at the client, one server process and user a client."""

from __future__ import annotations

from pathlib import Path

from vpnforensics.groundtruth.lab.drivers.base import Client
from vpnforensics.groundtruth.lab.drivers.relay import LOCAL_PROXY_PORT, LocalProxy
from vpnforensics.groundtruth.lab.network import DNS_ADDRESS, SERVER_OUTER

_CIPHER = "chacha20-ietf-poly1305"


class Shadowsocks(LocalProxy):
    """ss-server and ss-local."""

    kind = "shadowsocks"
    usual_port = 8388
    programs = ("ss-server", "ss-local")
    packages = ("shadowsocks-libev",)

    def own_port(self, client: Client) -> int:
        """All clients see one server address; each has its own port and process, as commercial servers do."""
        return self.port + client.number - 1

    def start_server(self) -> None:
        """One process a client."""
        for client in self.clients:
            self.start_as(client, "ss-server", ["ss-server", *self._common(client), "-d", DNS_ADDRESS])

    def start_client(self, client: Client) -> None:
        """A SOCKS proxy on the client's loopback."""
        own = ["-b", "127.0.0.1", "-l", str(LOCAL_PROXY_PORT)]
        self.processes.start(
            f"ss-local-{client.name}", client.namespace, ["ss-local", *self._common(client), *own]
        )

    def _common(self, client: Client) -> list[str | Path]:
        port = str(self.own_port(client))
        return ["-s", SERVER_OUTER, "-p", port, "-k", f"lab-{client.name}", "-m", _CIPHER]
