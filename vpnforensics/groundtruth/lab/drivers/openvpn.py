"""OpenVPN over UDP, in user space (no data-channel offload), AES-256-GCM, EC certificates."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import ClassVar

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.network import INNER_PREFIX, SERVER_OUTER


class OpenVpnUdp(Driver):
    """openvpn on both ends, ``proto udp4``."""

    name = "openvpn-udp"
    protocol = "openvpn-udp"
    server_port = 1194
    programs = ("openvpn",)
    proto: ClassVar[tuple[str, str]] = ("udp4", "udp4")

    def start_server(self) -> str:
        """One server with fixed inner addresses by client name."""
        _authority(self.folder, ["server", *(c.name for c in self.clients)])
        fixed = self.folder / "ccd"
        fixed.mkdir()
        for client in self.clients:
            (fixed / client.name).write_text(f"ifconfig-push {client.inner} 255.255.255.0\n")
        dev = f"ov{self.run_id}0"
        config = f"""
local {SERVER_OUTER}
port {self.server_port}
server {INNER_PREFIX}0 255.255.255.0
topology subnet
client-config-dir {fixed}
dh none
{"explicit-exit-notify 1" if self.proto[0].startswith("udp") else ""}
"""
        self._start("openvpn-server", "server", self.namespace, dev, self.proto[0], config)
        self.processes.wait_for(dev, lambda: self.network.has_link(self.namespace, dev))
        return dev

    def start_client(self, client: Client) -> str:
        """One client that sends from its own fixed port."""
        dev = f"ov{self.run_id}{client.number}"
        config = f"""
client
remote {SERVER_OUTER} {self.server_port}
lport {client.port}
remote-cert-tls server
pull-filter ignore "redirect-gateway"
"""
        self._start(f"openvpn-{client.name}", client.name, client.namespace, dev, self.proto[1], config)
        log = self.processes.log(f"openvpn-{client.name}")
        self.processes.wait_for(
            dev, lambda: "Initialization Sequence Completed" in log.read_text(errors="replace")
        )
        return dev

    def _start(self, name: str, identity: str, namespace: str, dev: str, proto: str, config: str) -> None:
        pki = self.folder / "pki"
        path = self.folder / f"{name}.conf"
        path.write_text(
            f"dev {dev}\ndev-type tun\nproto {proto}\nca {pki}/ca.crt\ncert {pki}/{identity}.crt\nkey {pki}/{identity}.key\n"
            f"data-ciphers AES-256-GCM\nauth SHA256\ndisable-dco\npersist-tun\nkeepalive 10 60\nverb 3\n{config}"
        )
        self.processes.start(name, namespace, ["openvpn", "--config", path])


def _authority(folder: Path, identities: list[str]) -> None:
    """A certificate authority and one EC certificate an identity."""
    pki = folder / "pki"
    pki.mkdir()

    def openssl(*argv: str) -> None:
        subprocess.run(["openssl", *argv], check=True, capture_output=True, timeout=20)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req",
        "-x509",
        *curve,
        "-days",
        "30",
        "-subj",
        "/CN=lab-ca",
        "-keyout",
        f"{pki}/ca.key",
        "-out",
        f"{pki}/ca.crt",
    )
    for serial, identity in enumerate(identities, start=1):
        usage = "serverAuth" if identity == "server" else "clientAuth"
        (pki / f"{identity}.ext").write_text(
            f"extendedKeyUsage={usage}\nkeyUsage=digitalSignature\nbasicConstraints=CA:FALSE\n"
        )
        openssl(
            "req",
            *curve,
            "-subj",
            f"/CN={identity}",
            "-keyout",
            f"{pki}/{identity}.key",
            "-out",
            f"{pki}/{identity}.csr",
        )
        openssl(
            "x509",
            "-req",
            "-in",
            f"{pki}/{identity}.csr",
            "-CA",
            f"{pki}/ca.crt",
            "-CAkey",
            f"{pki}/ca.key",
            "-days",
            "30",
            "-set_serial",
            str(serial),
            "-extfile",
            f"{pki}/{identity}.ext",
            "-out",
            f"{pki}/{identity}.crt",
        )
