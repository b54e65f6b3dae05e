"""Trojan: a password and an address, then the bytes, all in TLS.

See https://trojan-gfw.github.io/trojan/protocol.
"""

from __future__ import annotations

import json

from vpnforensics.groundtruth.lab.drivers.base import Client, certificates
from vpnforensics.groundtruth.lab.drivers.relay import LOCAL_PROXY_PORT, LocalProxy
from vpnforensics.groundtruth.lab.network import SERVER_OUTER, web_addresses


class Trojan(LocalProxy):
    """The first implementation; one TLS connection for each connection of a program."""

    kind = "trojan"
    usual_port = 443
    programs = ("trojan",)
    packages = ("trojan",)

    def start_server(self) -> None:
        """One process a client; whoever has no password is passed on to a web server."""
        certificates(self.folder, ["server"], SERVER_OUTER)
        pki = self.folder / "pki"
        (pki / "server.key").chmod(0o644)  # the clients' users have to read it
        for client in self.clients:
            config = {
                "run_type": "server",
                "local_addr": SERVER_OUTER,
                "local_port": self.own_port(client),
                "remote_addr": web_addresses(1)[0],
                "remote_port": 80,
                "password": [f"lab-{client.name}"],
                "ssl": {"cert": f"{pki}/server.crt", "key": f"{pki}/server.key", "alpn": ["http/1.1"]},
            }
            path = self.folder / f"trojan-server-{client.name}.conf"
            path.write_text(json.dumps(config))
            self.start_as(client, "trojan-server", ["trojan", path])
        self.divert()

    def start_client(self, client: Client) -> None:
        """A SOCKS proxy on the client's loopback."""
        config = {
            "run_type": "client",
            "local_addr": "127.0.0.1",
            "local_port": LOCAL_PROXY_PORT,
            "remote_addr": SERVER_OUTER,
            "remote_port": self.port,
            "password": [f"lab-{client.name}"],
            "ssl": {"cert": f"{self.folder}/pki/ca.crt", "verify_hostname": False, "sni": "www.example"},
        }
        path = self.folder / f"trojan-{client.name}.conf"
        path.write_text(json.dumps(config))
        self.processes.start(f"trojan-{client.name}", client.namespace, ["trojan", path])
