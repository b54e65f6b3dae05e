"""SOCKS5 (RFC 1928) by MicroSocks or Dante: programs speak to the server in clear."""

from __future__ import annotations

from pathlib import Path

from vpnforensics.groundtruth.lab.drivers.base import Client
from vpnforensics.groundtruth.lab.drivers.relay import Relay, at_server
from vpnforensics.groundtruth.lab.network import SERVER_OUTER, SERVER_PUBLIC


class Socks(Relay):
    """MicroSocks: one thread a connection, which writes what it has read."""

    kind = "socks"
    usual_port = 1080
    programs = ("microsocks",)
    packages = ("microsocks",)

    def start_server(self) -> None:
        """One process a client."""
        for client in self.clients:
            self.start_as(client, self.programs[0], self._command(client))
        self.divert()

    def proxy(self, client: Client) -> str:
        """At the server, which looks the names up."""
        return at_server("socks5h", self.port)

    def _command(self, client: Client) -> list[str | Path]:
        return ["microsocks", "-i", SERVER_OUTER, "-p", str(self.own_port(client))]


class SocksDante(Socks):
    """Dante: processes that pass sockets on to each other, and read in units of their buffers."""

    kind = "socks-dante"
    programs = ("danted",)
    packages = ("dante-server",)

    def _command(self, client: Client) -> list[str | Path]:
        config = self.folder / f"danted-{client.name}.conf"
        anywhere = "{ from: 0.0.0.0/0 to: 0.0.0.0/0 }"
        config.write_text(
            f"logoutput: stderr\ninternal: {SERVER_OUTER} port = {self.own_port(client)}\n"
            f"external: {SERVER_PUBLIC}\nclientmethod: none\nsocksmethod: none\n"
            f"client pass {anywhere}\nsocks pass {anywhere}\n"
        )
        return ["danted", "-f", config, "-p", "/dev/null"]
