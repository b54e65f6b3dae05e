"""Shadowsocks (AEAD over TCP): a SOCKS proxy at the client, one server process and user a client."""

from __future__ import annotations

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.network import DNS_ADDRESS, SERVER_OUTER

_SOCKS_PORT = 1080
_CIPHER = "chacha20-ietf-poly1305"


class Shadowsocks(Driver):
    """ss-server and ss-local."""

    kind = "shadowsocks"
    transport = "tcp"
    usual_port = 8388
    programs = ("ss-server", "ss-local")
    packages = ("shadowsocks-libev",)
    relay = True

    def start_server(self) -> None:
        """All clients see one server address; each has its own port and process, as commercial servers do."""
        for client in self.clients:
            port = str(self.port + client.number - 1)
            self.processes.start(
                f"ss-server-{client.name}",
                self.namespace,
                [
                    "setpriv",
                    f"--reuid={client.uid}",
                    f"--regid={client.uid}",
                    "--clear-groups",
                    "ss-server",
                    "-s",
                    SERVER_OUTER,
                    "-p",
                    port,
                    "-k",
                    f"lab-{client.name}",
                    "-m",
                    _CIPHER,
                    "-d",
                    DNS_ADDRESS,
                ],
            )
            self.processes.wait_for(
                "ss-server",
                lambda port=port: self._listens(self.namespace, port),  # type: ignore[misc]
            )

    def start_client(self, client: Client) -> None:
        """A SOCKS proxy on the client's loopback."""
        port = str(self.port + client.number - 1)
        self.processes.start(
            f"ss-local-{client.name}",
            client.namespace,
            [
                "ss-local",
                "-s",
                SERVER_OUTER,
                "-p",
                port,
                "-k",
                f"lab-{client.name}",
                "-m",
                _CIPHER,
                "-b",
                "127.0.0.1",
                "-l",
                str(_SOCKS_PORT),
            ],
        )

    def join(self, client: Client) -> None:
        """Once the proxy listens."""
        self.processes.wait_for("ss-local", lambda: self._listens(client.namespace, str(_SOCKS_PORT)))

    def server_devices(self) -> list[str]:
        """None: there is no inner IP."""
        return []

    def proxy(self, client: Client) -> str:
        """The client's own loopback."""
        return f"socks5h://127.0.0.1:{_SOCKS_PORT}"

    def _listens(self, namespace: str, port: str) -> bool:
        return self.processes.succeeds(namespace, ["sh", "-c", f"ss -Hlnt | grep -q :{port}"])
