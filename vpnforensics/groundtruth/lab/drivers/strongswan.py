"""IPsec by strongSwan with its user-space ESP (kernel-libipsec): ESP in UDP on port 4500.

Each charon gets a mount namespace with its own ``/run``: its pid file and sockets have fixed places. It
routes whatever bears no mark into the tunnel, so its own packets bear one. It loads its connections by
itself, and clients start theirs by themselves; its log says how far it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.network import SERVER_INNER, SERVER_OUTER

_CHARON = Path("/usr/lib/ipsec/charon")
_DEV = "ipsec0"
_MTU = 1400


class StrongSwan(Driver):
    """Charon on both ends, pre-shared keys, AES-128-GCM."""

    kind = "strongswan"
    usual_port = 4500
    programs: ClassVar[tuple[str, ...]] = ("swanctl", str(_CHARON))
    packages: ClassVar[tuple[str, ...]] = (
        "strongswan",
        "strongswan-swanctl",
        "libcharon-extra-plugins",
        "libstrongswan-extra-plugins",
        "libstrongswan-standard-plugins",
    )
    plugins: ClassVar[str] = "kernel-libipsec kernel-netlink"
    """Who sets up the ESP."""
    esp: ClassVar[str] = "aes128gcm16"
    child: ClassVar[tuple[str, ...]] = ()
    """Further settings of what is encrypted."""
    settings: ClassVar[str] = """
    kernel-libipsec {
      allow_peer_ts = yes
    }
    kernel-netlink {
      fwmark = !0x42
    }
    socket-default {
      fwmark = 0x42
    }
"""

    def start_server(self) -> None:
        """The device is charon's."""
        self._serve(self.namespace)
        self.raise_device(self.namespace, _DEV, f"{SERVER_INNER}/24", self.mtu or _MTU)

    def start_client(self, client: Client) -> None:
        """Charon wants an address of its local traffic selector to exist before it sets the policy up."""
        self._initiate(client, f"ip addr add {client.inner}/32 dev lo")

    def join(self, client: Client) -> str:
        """Everything is sent through the connection."""
        self._wait(client.name, f"CHILD_SA {client.name}{{1}} established")
        self.raise_device(client.namespace, _DEV, f"{client.inner}/24", self.mtu or _MTU)
        return _DEV

    def server_devices(self) -> list[str]:
        """One for all clients."""
        return [_DEV]

    def _serve(self, place: str) -> None:
        """One connection a client: its own identity, key and inner address."""
        connections = secrets = ""
        for client in self.clients:
            connections += self._connection(client.name, *self._ends(client))
            secrets += _secret(client.name)
        self._start("server", place, connections, secrets)
        self._wait("server", f"added vici connection: {self.clients[-1].name}\n")

    def _initiate(self, client: Client, before: str, *more: str) -> None:
        """Start a client's charon after a shell command, with further settings of its connection."""
        server, own = self._ends(client)
        connection = self._connection(client.name, own, server, "start_action = start", *more)
        self._start(client.name, client.namespace, connection, _secret(client.name), before)

    def _ends(self, client: Client) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
        """The server's end of a client's connection and its own: address, identity, traffic selector."""
        return (SERVER_OUTER, "server", "0.0.0.0/0"), (client.outer, client.name, f"{client.inner}/32")

    def _start(self, identity: str, place: str, connections: str, secrets: str, before: str = "true") -> None:
        folder = self.folder / f"charon-{identity}"
        run = folder / "run"
        run.mkdir(parents=True)
        (folder / "strongswan.conf").write_text(
            _DAEMON.format(folder=folder, port=self.port, plugins=self.plugins, settings=self.settings)
        )
        (folder / "swanctl.conf").write_text(f"connections {{\n{connections}}}\nsecrets {{\n{secrets}}}\n")
        own_run = f"mount --make-rprivate / && mount --bind {run} /run"
        command = f"{before} && {own_run} && STRONGSWAN_CONF={folder}/strongswan.conf exec {_CHARON}"
        self.processes.start(f"charon-{identity}", place, ["unshare", "-m", "sh", "-c", command])

    def _connection(
        self, name: str, local: tuple[str, str, str], remote: tuple[str, str, str], *more: str
    ) -> str:
        """A connection from the local end to the remote one."""
        # From port 500 the ends would move to 4500, wherever they were told to listen.
        ports = "" if self.port == self.usual_port else _PORTS.format(port=self.port)
        lines = "\n        ".join((*self.child, *more))
        return _CONNECTION.format(
            name=name, local=local, remote=remote, ports=ports, esp=self.esp, more=lines
        )

    def _wait(self, identity: str, words: str) -> None:
        log = self.folder / f"charon-{identity}" / "charon.log"
        self.processes.wait_for(
            f"charon-{identity}",
            lambda: log.exists() and words in log.read_text(errors="replace"),
        )


_DAEMON = """charon {{
  load_modular = no
  load = aes sha1 sha2 hmac random nonce kdf gcm openssl curve25519 {plugins} socket-default vici
  install_routes = no
  port_nat_t = {port}
  filelog {{
    log {{
      path = {folder}/charon.log
      flush_line = yes
    }}
  }}
  start-scripts {{
    load = swanctl --load-all --noprompt --file {folder}/swanctl.conf --uri unix://{folder}/vici
  }}
  plugins {{
    vici {{
      socket = unix://{folder}/vici
    }}
{settings}  }}
}}
swanctl {{
  load = random openssl
}}
"""

_PORTS = "\n    local_port = {port}\n    remote_port = {port}"

_CONNECTION = """  {name} {{
    version = 2
    proposals = aes128gcm16-prfsha256-x25519
    local_addrs = {local[0]}
    remote_addrs = {remote[0]}{ports}
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
        esp_proposals = {esp}
        {more}
      }}
    }}
  }}
"""


def _secret(name: str) -> str:
    return f"  ike-{name} {{\n    id-0 = server\n    id-1 = {name}\n    secret = lab-{name}\n  }}\n"
