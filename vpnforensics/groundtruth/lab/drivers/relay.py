"""What relays have in common: one server process and user a client, all of them behind one port."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.network import SERVER_OUTER

_FIRST_OWN_PORT = 11000
"""Above every relay's usual port, below those that the kernel gives to clients."""
LOCAL_PROXY_PORT = 1080
"""Where a client's own proxy listens on its loopback."""


class Relay(Driver):
    """A server that opens the connections itself.

    Clients reach it at one port, as the wire shows. The kernel hands each client's connections to that
    client's own process, which runs as that client's user: so the owner of an upstream socket is its client.
    """

    transport = "tcp"
    relay = True

    def own_port(self, client: Client) -> int:
        """Where the client's own server process listens."""
        return _FIRST_OWN_PORT + client.number

    def divert(self) -> None:
        """Hand each client's connections to its own process."""
        script = "add chain ip lab divert { type nat hook prerouting priority dstnat; };"
        script += "".join(
            f" add rule ip lab divert iifname in0 ip saddr {client.outer}"
            f" tcp dport {self.port} redirect to :{self.own_port(client)};"
            for client in self.clients
        )
        self.processes.run(self.namespace, ["nft", script])

    def start_as(
        self, client: Client, name: str, argv: Sequence[str | Path], port: int | None = None
    ) -> None:
        """Start a server program as a client's user, and wait until it listens at that port, or its own."""
        user = ["setpriv", f"--reuid={client.uid}", f"--regid={client.uid}", "--clear-groups"]
        self.processes.start(f"{name}-{client.name}", self.namespace, [*user, *argv])
        self.wait_for_port(self.namespace, port or self.own_port(client), name)

    def wait_for_port(self, namespace: str, port: int, name: str) -> None:
        """Wait until a program listens."""
        listening = ["sh", "-c", f"ss -Hlnt | grep -q :{port}"]
        self.processes.wait_for(name, lambda: self.processes.succeeds(namespace, listening))

    def start_client(self, client: Client) -> None:
        """Nothing runs at the client where its programs speak to the server themselves."""

    def join(self, client: Client) -> None:
        """At once: there is nothing to wait for."""

    def server_devices(self) -> list[str]:
        """None: there is no inner IP."""
        return []


class LocalProxy(Relay):
    """A relay whose client runs a SOCKS proxy of its own on its loopback."""

    def join(self, client: Client) -> None:
        """Once the proxy listens."""
        self.wait_for_port(client.namespace, LOCAL_PROXY_PORT, f"the proxy of {client.name}")

    def proxy(self, client: Client) -> str:
        """The client's own loopback."""
        return f"socks5h://127.0.0.1:{LOCAL_PROXY_PORT}"


def at_server(scheme: str, port: int) -> str:
    """Where programs find a proxy that listens at the server."""
    return f"{scheme}://{SERVER_OUTER}:{port}"
