"""IPsec by strongSwan with the kernel's own ESP: IP protocol 50, IKE beside it.

Every end runs on a User-Mode-Linux kernel, which has IPsec where the machine's kernel may not. A client's
packets go through a VTI device (policies with a mark), so that they have a device to be routed into.
"""

from __future__ import annotations

from vpnforensics.groundtruth.lab.drivers.base import Client
from vpnforensics.groundtruth.lab.drivers.own_kernel import INNER, boot_server
from vpnforensics.groundtruth.lab.drivers.strongswan import StrongSwan
from vpnforensics.groundtruth.lab.network import INNER_PREFIX, SERVER_OUTER

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
        self._serve(
            boot_server(self, f"ip route add {INNER_PREFIX}0/24 dev eth0")
        )  # into the policies' tunnels

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
        return [INNER]
