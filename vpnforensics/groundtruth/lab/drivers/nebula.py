"""Nebula: an overlay whose server node routes to the Internet (an "unsafe route")."""

from __future__ import annotations

import json
from typing import Any

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver, make
from vpnforensics.groundtruth.lab.network import INTERNET, SERVER_INNER, SERVER_OUTER

_MTU = 1300


class Nebula(Driver):
    """nebula on both ends; the server is the lighthouse."""

    kind = "nebula"
    usual_port = 4242
    programs = ("nebula", "nebula-cert")
    packages = ("nebula",)

    def start_server(self) -> None:
        """The authority, one certificate a node, and the lighthouse."""
        ca = (self.folder / "nebula-ca.crt", self.folder / "nebula-ca.key")
        make("nebula-cert", "ca", "-name", "lab", "-out-crt", ca[0], "-out-key", ca[1])
        nodes = [
            ("server", SERVER_INNER, ["-subnets", INTERNET]),
            *((c.name, c.inner, []) for c in self.clients),
        ]
        for name, address, more in nodes:
            make(
                "nebula-cert",
                "sign",
                "-ca-crt",
                ca[0],
                "-ca-key",
                ca[1],
                "-name",
                name,
                "-ip",
                f"{address}/24",
                *more,
                "-out-crt",
                self.folder / f"nebula-{name}.crt",
                "-out-key",
                self.folder / f"nebula-{name}.key",
            )
        dev = self.device(0)
        self._start("server", self.namespace, dev, self.port, {"am_lighthouse": True}, [])
        self.processes.wait_for(dev, lambda: self.network.has_link(self.namespace, dev))

    def start_client(self, client: Client) -> None:
        """One node that sends from its own fixed port."""
        route = [{"route": INTERNET, "via": SERVER_INNER, "mtu": self.mtu or _MTU}]
        lighthouse = {"am_lighthouse": False, "hosts": [SERVER_INNER], "interval": 60}
        dev = self.device(client.number)
        self._start(client.name, client.namespace, dev, client.port, lighthouse, route)

    def join(self, client: Client) -> str:
        """Once a packet has come back."""
        dev = self.device(client.number)
        self.processes.wait_for(dev, lambda: self.network.has_link(client.namespace, dev))
        ping = ["ping", "-n", "-c", "1", "-W", "1", SERVER_INNER]
        self.processes.wait_for(
            f"nebula {client.name}", lambda: self.processes.succeeds(client.namespace, ping)
        )
        return dev

    def server_devices(self) -> list[str]:
        """One for all clients."""
        return [self.device(0)]

    def _start(
        self,
        name: str,
        namespace: str,
        dev: str,
        port: int,
        lighthouse: dict[str, Any],
        routes: list[dict[str, Any]],
    ) -> None:
        everything = [{"port": "any", "proto": "any", "host": "any"}]
        config = {
            "pki": {
                "ca": str(self.folder / "nebula-ca.crt"),
                "cert": str(self.folder / f"nebula-{name}.crt"),
                "key": str(self.folder / f"nebula-{name}.key"),
            },
            "static_host_map": {} if name == "server" else {SERVER_INNER: [f"{SERVER_OUTER}:{self.port}"]},
            "lighthouse": lighthouse,
            "listen": {"host": "0.0.0.0", "port": port},  # noqa: S104 - inside a namespace of the lab
            "tun": {"dev": dev, "mtu": self.mtu or _MTU, "unsafe_routes": routes},
            "firewall": {"outbound": everything, "inbound": everything},
            "logging": {"level": "warning", "format": "text"},
        }
        path = self.folder / f"nebula-{name}.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        self.processes.start(f"nebula-{name}", namespace, ["nebula", "-config", path])
