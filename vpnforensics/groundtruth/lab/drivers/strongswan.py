"""IPsec by strongSwan with its user-space ESP (kernel-libipsec): ESP in UDP on port 4500.

Each charon gets a mount namespace with its own ``/run``: its pid file and sockets have fixed places.
"""

from __future__ import annotations

from pathlib import Path

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.network import SERVER_INNER, SERVER_OUTER

_CHARON = Path("/usr/lib/ipsec/charon")
_PLUGINS = "aes sha1 sha2 hmac random nonce kdf gcm openssl curve25519 kernel-libipsec kernel-netlink socket-default vici"
_MTU = 1400


class StrongSwan(Driver):
    """charon on both ends, pre-shared keys, AES-128-GCM."""

    kind = "strongswan"
    usual_port = 4500
    programs = ("swanctl", str(_CHARON))
    packages = (
        "strongswan",
        "strongswan-swanctl",
        "libcharon-extra-plugins",
        "libstrongswan-extra-plugins",
        "libstrongswan-standard-plugins",
    )

    def start_server(self) -> None:
        """One connection a client: its own identity, key and inner address."""
        connections, secrets = "", ""
        for client in self.clients:
            connections += _connection(
                client.name,
                SERVER_OUTER,
                client.outer,
                "server",
                client.name,
                "0.0.0.0/0",
                f"{client.inner}/32",
                "none",
            )
            secrets += _secret(client.name, ("server", client.name))
        self._charon("server", self.namespace, connections, secrets)
        self.raise_device(self.namespace, "ipsec0", f"{SERVER_INNER}/24", self.mtu or _MTU)

    def start_client(self, client: Client) -> str:
        """The client starts the connection and sends everything through it."""
        connection = _connection(
            client.name,
            client.outer,
            SERVER_OUTER,
            client.name,
            "server",
            f"{client.inner}/32",
            "0.0.0.0/0",
            "start",
        )
        # charon wants an address of its local traffic selector to exist before it sets the policy up
        self.processes.run(client.namespace, ["ip", "addr", "add", f"{client.inner}/32", "dev", "lo"])
        self._charon(client.name, client.namespace, connection, _secret(client.name, ("server", client.name)))
        log = self.processes.log(f"charon-{client.name}")
        self.processes.wait_for(
            client.name,
            lambda: (
                "CHILD_SA" in log.read_text(errors="replace")
                and "established" in log.read_text(errors="replace")
            ),
        )
        self.raise_device(client.namespace, "ipsec0", f"{client.inner}/24", self.mtu or _MTU)
        return "ipsec0"

    def server_devices(self) -> list[str]:
        """One for all clients."""
        return ["ipsec0"]

    def _charon(self, identity: str, namespace: str, connections: str, secrets: str) -> None:
        folder = self.folder / f"charon-{identity}"
        run = folder / "run"
        run.mkdir(parents=True)
        (folder / "strongswan.conf").write_text(
            f"charon {{\n load_modular = no\n load = {_PLUGINS}\n install_routes = no\n port_nat_t = {self.port}\n"
            f" plugins {{\n  vici {{ socket = unix://{folder}/vici }}\n  kernel-libipsec {{ allow_peer_ts = yes }}\n }}\n"
            " filelog { out { path = stdout\n ike = 1\n default = 1\n flush_line = yes } }\n}\nswanctl { load = random openssl\n}\n"
        )
        (folder / "swanctl.conf").write_text(f"connections {{\n{connections}}}\nsecrets {{\n{secrets}}}\n")
        environment = f"STRONGSWAN_CONF={folder}/strongswan.conf"
        self.processes.start(
            f"charon-{identity}",
            namespace,
            [
                "unshare",
                "-m",
                "sh",
                "-c",
                f"mount --make-rprivate / && mount --bind {run} /run && {environment} exec {_CHARON}",
            ],
        )
        self.processes.wait_for(f"charon-{identity}", (folder / "vici").exists)
        self.processes.run(
            namespace,
            [
                "env",
                environment,
                "swanctl",
                "--load-all",
                "--noprompt",
                "--file",
                folder / "swanctl.conf",
                "--uri",
                f"unix://{folder}/vici",
            ],
        )


def _connection(
    name: str,
    local: str,
    remote: str,
    local_id: str,
    remote_id: str,
    local_ts: str,
    remote_ts: str,
    start: str,
) -> str:
    return (
        f" {name} {{\n  version = 2\n  local_addrs = {local}\n  remote_addrs = {remote}\n  proposals = aes128gcm16-prfsha256-x25519\n"
        f"  local {{ auth = psk\n id = {local_id} }}\n  remote {{ auth = psk\n id = {remote_id} }}\n"
        f"  children {{ {name} {{ local_ts = {local_ts}\n remote_ts = {remote_ts}\n"
        f"   esp_proposals = aes128gcm16\n start_action = {start} }} }}\n }}\n"
    )


def _secret(name: str, identities: tuple[str, str]) -> str:
    ids = "".join(f" id-{i} = {identity}\n" for i, identity in enumerate(identities))
    return f" ike-{name} {{\n{ids}  secret = lab-{name}\n }}\n"
