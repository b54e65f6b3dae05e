"""L2TP over IPsec (RFC 3193): xl2tpd at both ends, the kernel's L2TP, PPP and ESP in transport mode.

AES-CBC with SHA-1 is what the clients of Windows, macOS and Android agree to; their IKE is of version 1, this
is of version 2.
"""

from __future__ import annotations

from vpnforensics.groundtruth.lab.drivers import ppp
from vpnforensics.groundtruth.lab.drivers.base import Client
from vpnforensics.groundtruth.lab.drivers.own_kernel import INNER, KERNEL_INNER, boot_server
from vpnforensics.groundtruth.lab.drivers.strongswan import StrongSwan
from vpnforensics.groundtruth.lab.drivers.strongswan_kernel import StrongSwanKernel
from vpnforensics.groundtruth.lab.network import SERVER_OUTER

_PORT = 1701
_CIPHER_MODULES = (
    "cbc",
    "hmac",
    "authenc",
    "echainiv",
    "seqiv",
    "sha512_generic",
    "jitterentropy_rng",
    "drbg",
)


class L2tp(StrongSwan):
    """Charon and xl2tpd on both ends, pre-shared keys, MS-CHAPv2."""

    kind = "l2tp"
    transport = "esp"
    usual_port = StrongSwanKernel.usual_port
    programs = (*StrongSwanKernel.programs, "xl2tpd", "pppd")
    packages = (*StrongSwanKernel.packages, "xl2tpd", "ppp")
    kernel_modules = ("xfrm_user", "esp4", *_CIPHER_MODULES, "ppp_generic", "l2tp_ppp")
    plugins = "kernel-netlink"
    settings = ""
    esp = "aes128-sha1"
    child = ("mode = transport",)

    def start_server(self) -> None:
        """One daemon for all clients; each gets the address beside its secret."""
        ppp.write_secrets(self)
        place = boot_server(self)
        self._serve(place)
        options = ppp.options(self, "server", "require-mschap-v2")
        self._start_l2tp(
            "server",
            place,
            f"[lns default]\nlocal ip = {KERNEL_INNER}\nassign ip = no\npppoptfile = {options}\n",
        )

    def start_client(self, client: Client) -> None:
        """It calls once its packets are encrypted."""
        self._initiate(client, "true")

    def join(self, client: Client) -> str:
        """Once PPP has its address."""
        self._wait(client.name, f"CHILD_SA {client.name}{{1}} established")
        options = ppp.options(self, client.name, client=client)
        self._start_l2tp(
            client.name,
            client.namespace,
            f"[lac server]\nlns = {SERVER_OUTER}\nautodial = yes\npppoptfile = {options}\n",
        )
        return ppp.wait_until_joined(self, client)

    def server_devices(self) -> list[str]:
        """The decrypted side of the server's kernel, all clients."""
        return [INNER]

    def _ends(self, client: Client) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
        """Nothing but L2TP between the two hosts is encrypted."""
        packets = f"dynamic[udp/{_PORT}]"
        return (SERVER_OUTER, "server", packets), (client.outer, client.name, packets)

    def _start_l2tp(self, identity: str, place: str, section: str) -> None:
        files = {end: self.folder / f"xl2tpd-{identity}.{end}" for end in ("conf", "pid", "control")}
        files["conf"].write_text(f"[global]\nport = {_PORT}\n{section}")
        named = f"-c {files['conf']} -p {files['pid']} -C {files['control']}"
        command = f"xl2tpd -D {named} -s {self.folder}/ppp/chap-secrets"
        self.processes.start(f"xl2tpd-{identity}", place, ppp.in_own_places(self, command))
