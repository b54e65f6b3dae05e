"""IPsec by strongSwan with the kernel's own ESP: IP protocol 50, IKE beside it.

Every end runs on a User-Mode-Linux kernel, which has IPsec where the machine's kernel may not. The server
stands before the NAT, as a concentrator does behind a company's router::

    in0 --[bridge]-- eth0 [server kernel: ESP] eth1 -- inner0, NAT, out0
                                                       ^ decrypted, not yet translated

so what the NAT sees of it, and the capture of the inner side, is on this machine's own interfaces. A client's
packets go through a VTI device (policies with a mark), so that they have a device to be routed into.
"""

from __future__ import annotations

from vpnforensics.groundtruth.lab.drivers.base import Client
from vpnforensics.groundtruth.lab.drivers.strongswan import StrongSwan
from vpnforensics.groundtruth.lab.network import INNER_PREFIX, SERVER_INNER, SERVER_OUTER, mac
from vpnforensics.groundtruth.lab.uml import Line, boot, wait_until_up

_INNER = "inner0"
_OUTER = "outer0"
_SERVER_NUMBER = 0
_KERNEL_INNER = INNER_PREFIX + "254"
_DEV = "vti1"
_MTU = 1400
_CIPHER_MODULES = (
    "gcm",
    "ghash-generic",
    "ctr",
    "seqiv",
    "hmac",
    "sha512_generic",
    "jitterentropy_rng",
    "drbg",
)
"""AES-GCM, and the random numbers that begin its IVs."""


class StrongSwanKernel(StrongSwan):
    """Charon on both ends, pre-shared keys, AES-128-GCM by the kernel."""

    kind = "strongswan-kernel"
    transport = "esp"
    usual_port = 4500
    programs = (*StrongSwan.programs, "linux.uml", "busybox")
    packages = (*StrongSwan.packages, "user-mode-linux", "busybox")
    kernel_modules = ("xfrm_user", "esp4", *_CIPHER_MODULES, "ip_vti")
    plugins = "kernel-netlink"
    settings = ""

    def start_server(self) -> None:
        """A kernel of its own between the ingress line and the NAT."""
        clients = tuple((c.outer, mac(4, c.number)) for c in self.clients)
        lines = (
            Line(_OUTER, mac(1, 1), f"{SERVER_OUTER}/24", clients),
            Line(_INNER, mac(7, 2), f"{_KERNEL_INNER}/32", ((SERVER_INNER, mac(7, 1)),)),
        )
        setup = (
            "sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0",
            f"ip route add {SERVER_INNER} dev eth1",
            f"ip route add default via {SERVER_INNER} dev eth1",
            f"ip route add {INNER_PREFIX}0/24 dev eth0",  # into the policies' tunnels
        )
        place = boot(
            "uml-server",
            self.namespace,
            _SERVER_NUMBER,
            lines,
            self.processes,
            modules=self.kernel_modules,
            setup=setup,
        )
        self._wire()
        wait_until_up(place, self.processes)
        self._serve(place)

    def _wire(self) -> None:
        """The kernel's outer line joins the ingress link; its inner one ends at the NAT."""
        for command in (
            "ip addr flush dev in0",
            f"ip link set in0 address {mac(7, 3)}",
            "ip link add bridge0 type bridge mcast_snooping 0",
            "ip link set in0 master bridge0",
            f"ip link set {_OUTER} master bridge0",
            "ip link set bridge0 up",
            f"ip link set {_INNER} address {mac(7, 1)}",
            f"ip addr add {SERVER_INNER}/32 dev {_INNER}",
            f"ip route add {_KERNEL_INNER} dev {_INNER}",
            f"ip neigh add {_KERNEL_INNER} lladdr {mac(7, 2)} dev {_INNER}",
            f"ip route add {INNER_PREFIX}0/24 via {_KERNEL_INNER} dev {_INNER}",
        ):
            self.processes.run(self.namespace, command.split())

    def start_client(self, client: Client) -> None:
        """A VTI device takes what the policies of the same mark encrypt."""
        ends = f"local {client.outer} remote {SERVER_OUTER} key {client.number}"
        device = (
            f"ip link add {_DEV} type vti {ends} && sysctl -q -w net.ipv4.conf.{_DEV}.disable_policy=1"
            f" && ip addr add {client.inner}/24 dev {_DEV}"
            f" && ip link set {_DEV} mtu {self.mtu or _MTU} up"
        )
        self._initiate(client, device, f"mark_in = {client.number}", f"mark_out = {client.number}")

    def join(self, client: Client) -> str:
        """Once both ends have keys."""
        self._wait(client.name, f"CHILD_SA {client.name}{{1}} established")
        return _DEV

    def server_devices(self) -> list[str]:
        """The decrypted side of the server's kernel, all clients."""
        return [_INNER]
