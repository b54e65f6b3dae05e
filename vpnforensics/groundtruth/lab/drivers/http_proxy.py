"""HTTP proxies (RFC 9110, sections 3.7 and 9.3.6): requests with whole addresses, and CONNECT tunnels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from vpnforensics.groundtruth.lab.conntrack import Endpoint, Key, Translations
from vpnforensics.groundtruth.lab.drivers.base import Client
from vpnforensics.groundtruth.lab.drivers.relay import Relay, at_server
from vpnforensics.groundtruth.lab.network import SERVER_OUTER, SERVER_PUBLIC


class HttpProxy(Relay):
    """Tinyproxy: one thread and one upstream connection a request; no connection is used again."""

    kind = "http-proxy"
    usual_port = 8888
    programs = ("tinyproxy",)
    packages = ("tinyproxy-bin",)

    def start_server(self) -> None:
        """One process a client."""
        for client in self.clients:
            config = self.folder / f"tinyproxy-{client.name}.conf"
            config.write_text(
                f"Listen {SERVER_OUTER}\nPort {self.own_port(client)}\nBind {SERVER_PUBLIC}\n"
                "MaxClients 200\nTimeout 600\nLogLevel Warning\n"
            )
            self.start_as(client, "tinyproxy", ["tinyproxy", "-d", "-c", config])
        self.divert()

    def proxy(self, client: Client) -> str:
        """At the server, which looks the names up."""
        return at_server("http", self.port)


class HttpProxySquid(HttpProxy):
    """Squid: one process for all, which keeps upstream connections and uses them again, for any client.

    Its sockets have one owner, so its own log tells who stood behind which connection: the addresses of
    the client, and both ends of the upstream connection, of each request. A connection that carried requests
    of several clients is nobody's.
    """

    kind = "http-proxy-squid"
    usual_port = 3128
    programs = ("squid",)
    packages = ("squid",)

    def start_server(self) -> None:
        """One process that keeps nothing but connections."""
        folder = self.folder / "squid"
        folder.mkdir()
        folder.chmod(0o777)
        (self.folder / "squid.conf").write_text(
            f"http_port {SERVER_OUTER}:{self.port}\ntcp_outgoing_address {SERVER_PUBLIC}\n"
            "http_access allow all\ncache deny all\nserver_persistent_connections on\n"
            "client_persistent_connections on\nlogformat lab %>a %<la %<lp %<a %<p\n"
            f"access_log stdio:{folder}/access.log lab\ncache_log stdio:/dev/stderr\n"
            f"pid_filename none\nnetdb_filename none\ncoredump_dir {folder}\npinger_enable off\n"
            "shutdown_lifetime 0 seconds\nmemory_cache_shared off\nworkers 1\n"
        )
        argv = ["setpriv", "--reuid=20000", "--regid=20000", "--clear-groups"]
        argv += ["squid", "-N", "-f", str(self.folder / "squid.conf")]
        self.processes.start("squid", self.namespace, argv)
        self.wait_for_port(self.namespace, self.port, "squid")

    def openers(self, kernel: Translations, egress: Path, local: Mapping[str, Path]) -> dict[Key, set[int]]:
        """By the log."""
        numbers = {client.outer: client.number for client in self.clients}
        found: dict[Key, set[int]] = defaultdict(set)
        for line in (self.folder / "squid" / "access.log").read_text().splitlines():
            who, near, near_port, far, far_port = line.split()
            if who in numbers and near_port.isdigit() and far_port.isdigit():
                key = ("tcp", Endpoint(near, int(near_port)), Endpoint(far, int(far_port)))
                found[key].add(numbers[who])
        return found
