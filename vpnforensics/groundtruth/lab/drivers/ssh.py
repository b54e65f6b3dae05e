"""OpenSSH as a VPN: ``ssh -w`` (tun devices) and ``ssh -D`` (a SOCKS proxy), one TCP connection a client.

The cipher decides what can be seen: OpenSSH's own first choice, chacha20-poly1305@openssh.com, hides the
lengths of packets; AES-GCM (RFC 5647) and every MAC that is made after encryption (``-etm@openssh.com``)
leave them in clear.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver, make
from vpnforensics.groundtruth.lab.network import SERVER_INNER, SERVER_OUTER

_MTU = 1400
_SOCKS_PORT = 1080


class SshTun(Driver):
    """``ssh -w``: one tun pair a client."""

    kind = "ssh-tun"
    transport = "tcp"
    usual_port = 22
    programs = ("ssh", "sshd", "ssh-keygen")
    packages = ("openssh-server", "openssh-client")
    cipher: ClassVar[tuple[str, ...]] = ("-c", "chacha20-poly1305@openssh.com")
    """What the client insists on."""

    def start_server(self) -> None:
        """An sshd of its own, apart from the one that the clients' traffic visits."""
        for name in ("vpn-host", "vpn-user"):
            make("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name)
        self._users()
        (self.folder / "vpn-sshd.conf").write_text(
            f"ListenAddress {SERVER_OUTER}:{self.port}\nHostKey {self.folder}/vpn-host\n"
            f"AuthorizedKeysFile {self.folder}/vpn-user.pub\nStrictModes no\nUsePAM no\nPermitTunnel yes\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\nPidFile none\nUseDNS no\n"
            "AllowTcpForwarding yes\nMaxStartups 100\n"
        )
        argv: list[str | Path] = ["/usr/sbin/sshd", "-D", "-e", "-f", self.folder / "vpn-sshd.conf"]
        self.processes.start("vpn-sshd", self.namespace, argv)
        log = self.processes.log("vpn-sshd")
        self.processes.wait_for("vpn-sshd", lambda: "Server listening" in log.read_text(errors="replace"))

    def start_client(self, client: Client) -> None:
        """One connection."""
        self._connect(
            client, "root", ["-w", f"{client.number}:{client.number}", "-o", "Tunnel=point-to-point"]
        )

    def join(self, client: Client) -> str | None:
        """Both ends of its tun pair are addressed by hand."""
        dev = f"tun{client.number}"
        for namespace in (client.namespace, self.namespace):
            self.processes.wait_for(dev, lambda namespace=namespace: self.network.exists(namespace, dev))  # type: ignore[misc]
        self.raise_device(client.namespace, dev, client.inner, self.mtu or _MTU, SERVER_INNER)
        self.raise_device(self.namespace, dev, SERVER_INNER, self.mtu or _MTU, client.inner)
        return dev

    def server_devices(self) -> list[str]:
        """One a client."""
        return [f"tun{client.number}" for client in self.clients]

    def _users(self) -> None:
        """Nothing to do: a tun device needs root."""

    def _connect(self, client: Client, user: str, argv: list[str]) -> None:
        self.processes.start(
            f"ssh-{client.name}",
            client.namespace,
            [
                "ssh",
                "-N",
                "-i",
                self.folder / "vpn-user",
                "-p",
                str(self.port),
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "ExitOnForwardFailure=yes",
                *self.cipher,
                *argv,
                f"{user}@{SERVER_OUTER}",
            ],
        )


class SshSocks(SshTun):
    """``ssh -D``: the server opens the connections, as one user a client."""

    kind = "ssh-socks"
    relay = True

    def start_client(self, client: Client) -> None:
        """A SOCKS proxy on the client's loopback."""
        self._connect(client, f"lab{client.number}", ["-D", f"127.0.0.1:{_SOCKS_PORT}"])

    def join(self, client: Client) -> str | None:
        """Once the proxy listens."""
        listening = ["sh", "-c", f"ss -Hlnt | grep -q :{_SOCKS_PORT}"]
        self.processes.wait_for(
            f"ssh -D of {client.name}", lambda: self.processes.succeeds(client.namespace, listening)
        )
        return None

    def server_devices(self) -> list[str]:
        """None: there is no inner IP."""
        return []

    def proxy(self, client: Client) -> str:
        """The client's own loopback."""
        return f"socks5h://127.0.0.1:{_SOCKS_PORT}"

    def _users(self) -> None:
        """One user a client, known only inside the server's namespace (``ip netns exec`` binds the files)."""
        passwd = Path("/etc/passwd").read_text()
        shadow = Path("/etc/shadow").read_text()
        for client in self.clients:
            passwd += f"lab{client.number}:x:{client.uid}:{client.uid}::/:/bin/sh\n"
            shadow += f"lab{client.number}:*:19000:0:99999:7:::\n"
        self.network.etc(self.namespace, "passwd", passwd, 0o644)
        self.network.etc(self.namespace, "shadow", shadow, 0o600)


_GCM = ("-c", "aes256-gcm@openssh.com")
_ETM = ("-c", "aes256-ctr", "-m", "hmac-sha2-256-etm@openssh.com")


class SshTunGcm(SshTun):
    """``ssh -w`` with the lengths in clear: AES-GCM."""

    kind = "ssh-tun-gcm"
    cipher = _GCM


class SshTunEtm(SshTun):
    """``ssh -w`` with the lengths in clear: a MAC made after encryption."""

    kind = "ssh-tun-etm"
    cipher = _ETM


class SshSocksGcm(SshSocks):
    """``ssh -D`` with the lengths in clear: AES-GCM."""

    kind = "ssh-socks-gcm"
    cipher = _GCM


class SshSocksEtm(SshSocks):
    """``ssh -D`` with the lengths in clear: a MAC made after encryption."""

    kind = "ssh-socks-etm"
    cipher = _ETM
