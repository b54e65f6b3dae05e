"""IPsec by strongSwan with its user-space ESP (kernel-libipsec): ESP in UDP on port 4500.

Each charon gets a mount namespace with its own ``/run``: its pid file and sockets have fixed places. It
routes whatever bears no mark into the tunnel, so its own packets bear one.
"""

from __future__ import annotations

from pathlib import Path

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.network import SERVER_INNER, SERVER_OUTER

_CHARON = Path("/usr/lib/ipsec/charon")
_PLUGINS = (
    "aes sha1 sha2 hmac random nonce kdf gcm openssl curve25519"
    " kernel-libipsec kernel-netlink socket-default vici"
)
_DEV = "ipsec0"
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
        connections = secrets = ""
        for client in self.clients:
            ends = (SERVER_OUTER, "server", "0.0.0.0/0"), (client.outer, client.name, f"{client.inner}/32")
            connections += _connection(client.name, *ends)
            secrets += _secret(client.name)
        self._charon("server", self.namespace, connections, secrets)
        self.raise_device(self.namespace, _DEV, f"{SERVER_INNER}/24", self.mtu or _MTU)

    def start_client(self, client: Client) -> str:
        """The client starts the connection and sends everything through it."""
        # charon wants an address of its local traffic selector to exist before it sets the policy up
        self.processes.run(client.namespace, ["ip", "addr", "add", f"{client.inner}/32", "dev", "lo"])
        ends = (client.outer, client.name, f"{client.inner}/32"), (SERVER_OUTER, "server", "0.0.0.0/0")
        self._charon(client.name, client.namespace, _connection(client.name, *ends), _secret(client.name))
        self._swanctl(client.name, client.namespace, "--initiate", "--child", client.name)
        self.raise_device(client.namespace, _DEV, f"{client.inner}/24", self.mtu or _MTU)
        return _DEV

    def server_devices(self) -> list[str]:
        """One for all clients."""
        return [_DEV]

    def _charon(self, identity: str, namespace: str, connections: str, secrets: str) -> None:
        folder = self.folder / f"charon-{identity}"
        run = folder / "run"
        run.mkdir(parents=True)
        (folder / "strongswan.conf").write_text(
            _DAEMON.format(folder=folder, port=self.port, plugins=_PLUGINS)
        )
        (folder / "swanctl.conf").write_text(f"connections {{\n{connections}}}\nsecrets {{\n{secrets}}}\n")
        own_run = f"mount --make-rprivate / && mount --bind {run} /run"
        command = f"{own_run} && STRONGSWAN_CONF={folder}/strongswan.conf exec {_CHARON}"
        self.processes.start(f"charon-{identity}", namespace, ["unshare", "-m", "sh", "-c", command])
        self.processes.wait_for(f"charon-{identity}", (folder / "vici").exists)
        self._swanctl(identity, namespace, "--load-all", "--noprompt", "--file", f"{folder}/swanctl.conf")

    def _swanctl(self, identity: str, namespace: str, *argv: str) -> None:
        folder = self.folder / f"charon-{identity}"
        environment = ["env", f"STRONGSWAN_CONF={folder}/strongswan.conf"]
        uri = ["--uri", f"unix://{folder}/vici"]
        self.processes.run(namespace, [*environment, "swanctl", *argv, *uri])


_DAEMON = """charon {{
  load_modular = no
  load = {plugins}
  install_routes = no
  port_nat_t = {port}
  plugins {{
    vici {{
      socket = unix://{folder}/vici
    }}
    kernel-libipsec {{
      allow_peer_ts = yes
    }}
    kernel-netlink {{
      fwmark = !0x42
    }}
    socket-default {{
      fwmark = 0x42
    }}
  }}
}}
swanctl {{
  load = random openssl
}}
"""

_CONNECTION = """  {name} {{
    version = 2
    proposals = aes128gcm16-prfsha256-x25519
    local_addrs = {local[0]}
    remote_addrs = {remote[0]}
    local {{
      auth = psk
      id = {local[1]}
    }}
    remote {{
      auth = psk
      id = {remote[1]}
    }}
    children {{
      {name} {{
        local_ts = {local[2]}
        remote_ts = {remote[2]}
        esp_proposals = aes128gcm16
      }}
    }}
  }}
"""


def _connection(name: str, local: tuple[str, str, str], remote: tuple[str, str, str]) -> str:
    """A connection between two ends, each (address, identity, traffic selector)."""
    return _CONNECTION.format(name=name, local=local, remote=remote)


def _secret(name: str) -> str:
    return f"  ike-{name} {{\n    id-0 = server\n    id-1 = {name}\n    secret = lab-{name}\n  }}\n"
