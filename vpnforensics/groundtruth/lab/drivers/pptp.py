"""PPTP: pptpd and pptp-linux, PPP with MPPE in GRE, a control connection on TCP port 1723 beside it.

The programs do GRE themselves; PPP and MPPE are the kernel's.
"""

from __future__ import annotations

from vpnforensics.groundtruth.lab.drivers import ppp
from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.drivers.own_kernel import INNER, boot_server
from vpnforensics.groundtruth.lab.network import SERVER_OUTER

_MPPE = ("require-mppe-128", "nomppe-stateful")


class Pptp(Driver):
    """One pptpd, one pptp a client; MS-CHAPv2, MPPE with 128 bits, stateless."""

    kind = "pptp"
    transport = "gre"
    usual_port = 1723
    programs = ("pptpd", "pptp", "pppd", "linux.uml", "busybox")
    packages = ("pptpd", "pptp-linux", "ppp", "user-mode-linux", "busybox")
    kernel_modules = ("ppp_generic", "ppp_async", "ppp_mppe")

    def start_server(self) -> None:
        """It gives every client the address beside its secret."""
        ppp.write_secrets(self)
        place = boot_server(self)
        settings = self.folder / "pptpd.conf"
        settings.write_text(f"listen {SERVER_OUTER}\ndelegate\nnoipparam\nconnections 100\n")
        options = ppp.options(self, "server", "require-mschap-v2", *_MPPE)
        command = f"pptpd --fg --conf {settings} --option {options} --pidfile {self.folder}/pptpd.pid"
        self.processes.start("pptpd", place, ppp.in_own_places(self, command))
        listening = ["sh", "-c", f"ss -Hltn sport = :{self.port} | grep -q ."]
        self.processes.wait_for("pptpd", lambda: self.processes.succeeds(place, listening))

    def start_client(self, client: Client) -> None:
        """The program that speaks PPTP is pppd's terminal."""
        pty = f'pty "pptp {SERVER_OUTER} --nolaunchpppd"'
        options = ppp.options(self, client.name, pty, *_MPPE, client=client)
        command = f"pppd nodetach file {options}"
        self.processes.start(f"pppd-{client.name}", client.namespace, ppp.in_own_places(self, command))

    def join(self, client: Client) -> str:
        """Once PPP has its address."""
        return ppp.wait_until_joined(self, client)

    def server_devices(self) -> list[str]:
        """The decrypted side of the server's kernel, all clients."""
        return [INNER]
