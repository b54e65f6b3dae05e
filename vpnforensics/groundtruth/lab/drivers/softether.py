"""SoftEther VPN: Ethernet frames in one TLS connection, a virtual hub at the server.

The server's and each client's programs keep their files in fixed folders, so each runs over empty ones of its
own. The hub is bridged to a tap device of the server, which is the clients' router.
"""

from __future__ import annotations

from collections.abc import Sequence

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.network import SERVER_INNER, SERVER_OUTER

_HUB = "lab"
_TAP = f"tap_{_HUB}"
_NIC = "vpn"
_DEV = f"vpn_{_NIC}"
_LISTENS = 5555
"""One of the ports that a new server listens on."""
_PASSWORD = "lab"  # noqa: S105 - of a server that lives for a minute in a namespace
_FOLDERS = ("/var/lib", "/var/log", "/run")
"""Each holds a folder ``softether``."""


class SoftEther(Driver):
    """vpnserver and vpnclient."""

    kind = "softether"
    transport = "tcp"
    usual_port = 443
    programs = ("vpnserver", "vpnclient", "vpncmd")
    packages = ("softether-vpnserver", "softether-vpnclient", "softether-vpncmd")

    def start_server(self) -> None:
        """One hub, one user a client, a tap device."""
        names = "".join(f"{client.outer} {client.name}\n" for client in self.clients)
        (self.folder / "softether-hosts").write_text(f"127.0.0.1 localhost\n{SERVER_OUTER} server\n{names}")
        (self.folder / "softether-resolv.conf").write_text("nameserver 127.0.0.1\n")
        self._lose_udp(self.namespace, "198.51.100.0/24")
        self._start("vpnserver", self.namespace, "vpnserver")
        role = f"localhost:{_LISTENS} /SERVER"
        self._tell("server", self.namespace, role, [f"HubCreate {_HUB} /PASSWORD:{_PASSWORD}"])
        users = [
            line
            for client in self.clients
            for line in (
                f"UserCreate {client.name} /GROUP:none /REALNAME:none /NOTE:none",
                f"UserPasswordSet {client.name} /PASSWORD:{_PASSWORD}",
            )
        ]
        lines = [] if self.port == self.usual_port else [f"ListenerCreate {self.port}"]
        lines += [f"BridgeCreate {_HUB} /DEVICE:{_HUB} /TAP:yes", f"Hub {_HUB}", *users]
        self._tell("server", self.namespace, role, lines)
        self.processes.wait_for(_TAP, lambda: self.network.exists(self.namespace, _TAP))
        self.raise_device(self.namespace, _TAP, f"{SERVER_INNER}/24", self.mtu)

    def start_client(self, client: Client) -> None:
        """A program of its own; what it is to do is told to it once it listens."""
        self._lose_udp(client.namespace, SERVER_OUTER)
        self._start(f"vpnclient-{client.name}", client.namespace, "vpnclient")

    def join(self, client: Client) -> str:
        """Its device stands before the connection does."""
        self._tell(
            client.name,
            client.namespace,
            "localhost /CLIENT",
            [
                f"NicCreate {_NIC}",
                f"AccountCreate {_HUB} /SERVER:{SERVER_OUTER}:{self.port} /HUB:{_HUB}"
                f" /USERNAME:{client.name} /NICNAME:{_NIC}",
                f"AccountPasswordSet {_HUB} /PASSWORD:{_PASSWORD} /TYPE:standard",
                f"AccountConnect {_HUB}",
            ],
        )
        self.processes.wait_for(_DEV, lambda: self.network.exists(client.namespace, _DEV))
        self.raise_device(client.namespace, _DEV, f"{client.inner}/24", self.mtu)
        for half in ("0.0.0.0/1", "128.0.0.0/1"):  # by its router: a device of Ethernet has neighbours
            self.network.route(client.namespace, half, via=SERVER_INNER)
        reaches = ["ping", "-c", "1", "-W", "1", SERVER_INNER]
        self.processes.wait_for(
            f"the hub of {client.name}", lambda: self.processes.succeeds(client.namespace, reaches)
        )
        return _DEV

    def server_devices(self) -> list[str]:
        """One for all clients."""
        return [_TAP]

    def _lose_udp(self, namespace: str, target: str) -> None:
        """Packets by TCP alone, as where UDP is blocked: lost on the way, for a filter here would say so."""
        script = (
            "ip link add lost arp off type veth peer name gone && ip link set lost up"
            " && ip link set gone up && ip route add default dev lost table 7"
            f" && ip rule add to {target} ipproto udp lookup 7"
        )
        self.processes.run(namespace, ["sh", "-c", script])

    def _start(self, name: str, namespace: str, program: str) -> None:
        own = "".join(f"mount -t tmpfs none {folder} && " for folder in _FOLDERS)
        # It asks for its makers' servers, and for who comes; the answers are at hand, or there are none.
        for file in ("hosts", "resolv.conf"):
            own += f"mount --bind {self.folder}/softether-{file} /etc/{file} && "
        script = (
            f"{own}mkdir {' '.join(f'{folder}/softether' for folder in _FOLDERS)} && exec {program} execsvc"
        )
        self.processes.start(name, namespace, ["unshare", "-m", "sh", "-c", script])

    def _tell(self, name: str, namespace: str, role: str, lines: Sequence[str]) -> None:
        """Give a program its orders, as soon as it listens."""
        orders = self.folder / f"softether-{name}.conf"
        orders.write_text("\n".join(lines) + "\n")
        argv = ["vpncmd", *role.split(), f"/IN:{orders}"]
        self.processes.wait_for(
            f"vpncmd for {name}", lambda: self.processes.succeeds(namespace, argv), timeout_s=20
        )
