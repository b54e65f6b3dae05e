"""AnyConnect by ocserv and openconnect: a TLS session, and DTLS beside it for the packets."""

from __future__ import annotations

from typing import ClassVar

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver, certificates, make
from vpnforensics.groundtruth.lab.network import INNER_PREFIX, SERVER_OUTER

_PASSWORD = "lab"  # noqa: S105 - of a server that lives for a minute in a namespace
_SCRIPT = """#!/bin/sh
# openconnect's own script would edit the machine's resolv.conf
[ "$reason" = connect ] || exit 0
ip addr add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
ip link set dev "$TUNDEV" mtu "$INTERNAL_IP4_MTU" up
"""


class OcservDtls(Driver):
    """Packets over DTLS, control over TLS."""

    kind = "ocserv-dtls"
    usual_port = 443
    programs = ("ocserv", "openconnect", "ocpasswd")
    packages = ("ocserv", "openconnect")
    dtls: ClassVar[bool] = True

    def start_server(self) -> None:
        """One worker and one tun device a client; inner addresses by user."""
        pki = certificates(self.folder, ["server"], SERVER_OUTER)
        users = self.folder / "ocserv-users"
        users.mkdir()
        passwords = self.folder / "ocserv-passwords"
        for client in self.clients:
            make("ocpasswd", "-c", passwords, client.name, given=f"{_PASSWORD}\n{_PASSWORD}\n")
            (users / client.name).write_text(f"explicit-ipv4 = {client.inner}\n")
        config = self.folder / "ocserv.conf"
        config.write_text(
            f'auth = "plain[passwd={passwords}]"\n'
            f"listen-host = {SERVER_OUTER}\ntcp-port = {self.port}\n"
            + (f"udp-port = {self.port}\n" if self.dtls else "udp-port = 0\n")
            + f"run-as-user = root\nrun-as-group = root\nsocket-file = {self.folder}/ocserv.sock\n"
            f"pid-file = {self.folder}/ocserv.pid\n"
            f"server-cert = {pki}/server.crt\nserver-key = {pki}/server.key\n"
            f"isolate-workers = false\nmax-clients = 250\nmax-same-clients = 2\nkeepalive = 60\ndpd = 60\n"
            f"device = vt\nipv4-network = {INNER_PREFIX}0/24\nroute = default\nconfig-per-user = {users}/\n"
            "use-occtl = false\ncisco-client-compat = true\ndtls-legacy = true\ntry-mtu-discovery = false\n"
            "rate-limit-ms = 0\nmin-reauth-time = 0\nmax-ban-score = 0\n"
            + (f"mtu = {self.mtu}\n" if self.mtu else "")
        )
        self.processes.start("ocserv", self.namespace, ["ocserv", "-f", "-d", "2", "-c", config])
        self.processes.wait_for("ocserv", lambda: f":{self.port}" in self._listening())

    def start_client(self, client: Client) -> None:
        """One openconnect with a password from a file and a script of one purpose."""
        script = self.folder / "openconnect-script"
        script.write_text(_SCRIPT)
        script.chmod(0o755)
        self.processes.start(
            f"openconnect-{client.name}",
            client.namespace,
            [
                "sh",
                "-c",
                f'echo {_PASSWORD} | exec openconnect "$@"',
                "openconnect",
                "--protocol=anyconnect",
                "--non-inter",
                "--passwd-on-stdin",
                f"--user={client.name}",
                f"--cafile={self.folder}/pki/ca.crt",
                "--no-system-trust",
                f"--interface={self.device(client.number)}",
                f"--script={script}",
                "--no-proxy",
                *(() if self.dtls else ("--no-dtls",)),
                f"https://{SERVER_OUTER}:{self.port}/",
            ],
        )

    def join(self, client: Client) -> str:
        """Its script addresses the device; DTLS comes up after that."""
        dev = self.device(client.number)
        done = "Established DTLS" if self.dtls else "Configured as"
        log = self.processes.log(f"openconnect-{client.name}")
        self.processes.wait_for(
            dev,
            lambda: done in log.read_text(errors="replace") and self.network.has_link(client.namespace, dev),
        )
        return dev

    def server_devices(self) -> list[str]:
        """One a client, in the order they came."""
        return [f"vt{i}" for i in range(len(self.clients))]

    def _listening(self) -> str:
        return self.processes.run(self.namespace, ["ss", "-Hlnt"])


class OcservTls(OcservDtls):
    """Everything over TLS."""

    kind = "ocserv-tls"
    transport = "tcp"
    dtls = False
