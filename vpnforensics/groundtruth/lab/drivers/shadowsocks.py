"""Shadowsocks (AEAD): a SOCKS proxy at the client, whose lookups go as datagrams.

There is one server process and user a client.
"""

from __future__ import annotations

from pathlib import Path

from vpnforensics.groundtruth.lab.drivers.base import Client
from vpnforensics.groundtruth.lab.drivers.relay import LOCAL_PROXY_PORT, LocalProxy
from vpnforensics.groundtruth.lab.network import DNS_ADDRESS, SERVER_OUTER

_CIPHER = "chacha20-ietf-poly1305"


class Shadowsocks(LocalProxy):
    """ss-server; ss-local for connections, and ss-tunnel for datagrams to the name server."""

    kind = "shadowsocks"
    usual_port = 8388
    programs = ("ss-server", "ss-local", "ss-tunnel")
    packages = ("shadowsocks-libev",)
    relays_lookups = True

    def own_port(self, client: Client) -> int:
        """All clients see one server address; each has its own port and process, as commercial servers do."""
        return self.port + client.number - 1

    def start_server(self) -> None:
        """One process a client."""
        for client in self.clients:
            self.start_as(client, "ss-server", ["ss-server", *self._common(client), "-u", "-d", DNS_ADDRESS])

    def start_client(self, client: Client) -> None:
        """A SOCKS proxy on the client's loopback, and what passes its lookups on."""
        common, space = self._common(client), client.namespace
        own = ["-b", "127.0.0.1", "-l", str(LOCAL_PROXY_PORT)]
        self.processes.start(f"ss-local-{client.name}", space, ["ss-local", *common, *own])
        # The name server has no route from here: its address is the client's own.
        self.processes.run(space, ["ip", "addr", "add", f"{DNS_ADDRESS}/32", "dev", "lo"])
        own = ["-U", "-b", DNS_ADDRESS, "-l", "53", "-L", f"{DNS_ADDRESS}:53"]
        self.processes.start(f"ss-tunnel-{client.name}", space, ["ss-tunnel", *common, *own])

    def _common(self, client: Client) -> list[str | Path]:
        port = str(self.own_port(client))
        return ["-s", SERVER_OUTER, "-p", port, "-k", f"lab-{client.name}", "-m", _CIPHER]
