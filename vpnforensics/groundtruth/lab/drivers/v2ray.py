"""VMess by V2Ray: a relay with a protocol of its own.

See https://www.v2fly.org/en_US/developer/protocols/vmess.html.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping

from vpnforensics.groundtruth.lab.drivers.base import Client
from vpnforensics.groundtruth.lab.drivers.relay import LOCAL_PROXY_PORT, LocalProxy
from vpnforensics.groundtruth.lab.network import SERVER_OUTER


class V2Ray(LocalProxy):
    """VMess over bare TCP, one connection for each connection of a program."""

    kind = "v2ray"
    usual_port = 10086
    programs = ("v2ray",)
    packages = ("v2ray",)

    def start_server(self) -> None:
        """One process a client."""
        for client in self.clients:
            inbound = {
                "listen": SERVER_OUTER,
                "port": self.own_port(client),
                "protocol": "vmess",
                "settings": {"clients": [{"id": self._user(client), "alterId": 0}]},
            }
            argv = [
                "v2ray",
                "-config",
                self._write(f"server-{client.name}", inbound, {"protocol": "freedom"}),
            ]
            self.start_as(client, "v2ray-server", argv)
        self.divert()

    def start_client(self, client: Client) -> None:
        """A SOCKS proxy on the client's loopback."""
        inbound = {
            "listen": "127.0.0.1",
            "port": LOCAL_PROXY_PORT,
            "protocol": "socks",
            "settings": {"udp": False},
        }
        user = {"id": self._user(client), "alterId": 0, "security": "chacha20-poly1305"}
        server = {"address": SERVER_OUTER, "port": self.port, "users": [user]}
        outbound = {"protocol": "vmess", "settings": {"vnext": [server]}}
        argv = ["v2ray", "-config", self._write(client.name, inbound, outbound)]
        self.processes.start(f"v2ray-{client.name}", client.namespace, argv)

    def _write(self, name: str, inbound: Mapping[str, object], outbound: Mapping[str, object]) -> str:
        path = self.folder / f"v2ray-{name}.conf"
        path.write_text(
            json.dumps({"log": {"loglevel": "warning"}, "inbounds": [inbound], "outbounds": [outbound]})
        )
        return str(path)

    def _user(self, client: Client) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, client.name))
