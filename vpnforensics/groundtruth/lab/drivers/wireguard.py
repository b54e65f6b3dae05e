"""WireGuard by wireguard-go, configured with `wg`.

Interface names carry the run's identifier: the control sockets of all namespaces share one folder.
"""

from __future__ import annotations

from pathlib import Path

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver, make
from vpnforensics.groundtruth.lab.network import SERVER_INNER, SERVER_OUTER

_SOCKETS = Path("/var/run/wireguard")
_MTU = 1420


class WireGuard(Driver):
    """wireguard-go on both ends."""

    kind = "wireguard"
    usual_port = 51820
    programs = ("wireguard-go", "wg")
    packages = ("wireguard-go", "wireguard-tools")

    def start_server(self) -> None:
        """One interface, one peer a client."""
        self.processes.state.note("empty-folder", path=str(_SOCKETS))
        self._keys = {number: _key_pair() for number in (0, *(c.number for c in self.clients))}
        self._start(0, self.namespace)
        config = f"[Interface]\nPrivateKey = {self._keys[0][0]}\nListenPort = {self.port}\n"
        for client in self.clients:
            config += f"[Peer]\nPublicKey = {self._keys[client.number][1]}\nAllowedIPs = {client.inner}/32\n"
        self._up(0, self.namespace, config, SERVER_INNER)

    def start_client(self, client: Client) -> None:
        """One wireguard-go, not yet configured."""
        self._start(client.number, client.namespace)

    def join(self, client: Client) -> str:
        """The peer is the server; every other client keeps its tunnel alive."""
        private, _ = self._keys[client.number]
        keepalive = "PersistentKeepalive = 25\n" if client.number % 2 else ""
        config = (
            f"[Interface]\nPrivateKey = {private}\nListenPort = {client.port}\n"
            f"[Peer]\nPublicKey = {self._keys[0][1]}\nAllowedIPs = 0.0.0.0/0\n"
            f"Endpoint = {SERVER_OUTER}:{self.port}\n{keepalive}"
        )
        return self._up(client.number, client.namespace, config, client.inner)

    def server_devices(self) -> list[str]:
        """One for all clients."""
        return [self.device(0)]

    def _start(self, number: int, namespace: str) -> None:
        dev = self.device(number)
        self.processes.state.note("path", path=str(_SOCKETS / f"{dev}.sock"))
        self.processes.start(f"wireguard-{number}", namespace, ["wireguard-go", "-f", dev])

    def _up(self, number: int, namespace: str, config: str, address: str) -> str:
        dev = self.device(number)
        path = self.folder / f"{dev}.conf"
        path.write_text(config)
        self.processes.wait_for(dev, lambda: self.processes.succeeds(namespace, listening(dev)))
        self.processes.run(namespace, ["wg", "setconf", dev, path])
        self.raise_device(namespace, dev, f"{address}/24", self.mtu or _MTU)
        return dev


def listening(interface: str) -> list[str]:
    """A command that succeeds once a userspace WireGuard can be asked about `interface`, in its namespace.

    Neither the file nor `wg` may answer this: a socket is bound, and is a file, before it listens, and where
    `wg` is refused it takes the program for dead and removes the file (wireguard-tools, ``ipc-uapi-unix.h``);
    a program that was asked while it began can then never be asked again.
    """
    return ["sh", "-c", f"ss -Hx state listening | grep -q /{interface}.sock"]


def _key_pair() -> tuple[str, str]:
    private = make("wg", "genkey").strip()
    return private, make("wg", "pubkey", given=private).strip()
