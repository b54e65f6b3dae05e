"""tinc 1.0 in router mode: UDP packets, a TCP meta connection beside them."""

from __future__ import annotations

from pathlib import Path

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver, make
from vpnforensics.groundtruth.lab.network import SERVER_INNER, SERVER_OUTER


class Tinc(Driver):
    """tincd on both ends."""

    kind = "tinc"
    usual_port = 655
    programs = ("tincd",)
    packages = ("tinc",)

    def start_server(self) -> None:
        """The server owns the default route."""
        self._hosts: dict[str, str] = {}
        self._prepare("server", 0, self.port, [f"Subnet = {SERVER_INNER}/32", "Subnet = 0.0.0.0/0"])
        for client in self.clients:
            self._prepare(
                _name(client), client.number, client.port, [f"Subnet = {client.inner}/32"], connect=True
            )
        for name in self._hosts:
            for owner, text in self._hosts.items():
                (self._home(name) / "hosts" / owner).write_text(text)
        self._start("server", self.namespace)
        self.processes.wait_for("tinc", lambda: self.network.exists(self.namespace, self.device(0)))
        self.raise_device(self.namespace, self.device(0), f"{SERVER_INNER}/24", self.mtu)

    def start_client(self, client: Client) -> None:
        """One daemon that connects to the server."""
        self._start(_name(client), client.namespace)

    def join(self, client: Client) -> str:
        """Once a packet has come back."""
        dev = self.device(client.number)
        self.processes.wait_for(dev, lambda: self.network.exists(client.namespace, dev))
        self.raise_device(client.namespace, dev, f"{client.inner}/24", self.mtu)
        ping = ["ping", "-n", "-c", "1", "-W", "1", SERVER_INNER]
        self.processes.wait_for(
            f"tinc {client.name}", lambda: self.processes.succeeds(client.namespace, ping)
        )
        return dev

    def server_devices(self) -> list[str]:
        """One for all clients."""
        return [self.device(0)]

    def _home(self, name: str) -> Path:
        return self.folder / f"tinc-{name}"

    def _prepare(
        self, name: str, number: int, port: int, subnets: list[str], *, connect: bool = False
    ) -> None:
        home = self._home(name)
        (home / "hosts").mkdir(parents=True)
        lines = [
            f"Name = {name}",
            f"Interface = {self.device(number)}",
            "AddressFamily = ipv4",
            "Mode = router",
        ]
        lines += ["ConnectTo = server"] if connect else [f"BindToAddress = {SERVER_OUTER}"]
        (home / "tinc.conf").write_text("\n".join(lines) + "\n")
        host = [*subnets, f"Port = {port}"] + ([] if connect else [f"Address = {SERVER_OUTER}"])
        key = home / "rsa_key.priv"
        make("openssl", "genrsa", "-traditional", "-out", key, "2048")
        key.chmod(0o600)
        public = make("openssl", "rsa", "-in", key, "-RSAPublicKey_out")
        self._hosts[name] = "\n".join(host) + "\n" + public

    def _start(self, name: str, namespace: str) -> None:
        home = self._home(name)
        self.processes.start(
            f"tinc-{name}", namespace, ["tincd", "-c", home, "-D", "-d2", f"--pidfile={home}/pid"]
        )


def _name(client: Client) -> str:
    return f"c{client.number}"  # tinc names have no hyphens
