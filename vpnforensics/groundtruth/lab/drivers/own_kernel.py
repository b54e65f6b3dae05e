"""A VPN server on a User-Mode-Linux kernel, which has what the machine's kernel may not.

The server stands before the NAT, as a concentrator does behind a company's router::

    in0 --[bridge]-- eth0 [server kernel: VPN] eth1 -- inner0, NAT, out0
                                                       ^ decrypted, not yet translated

so what the NAT sees of it, and the capture of the inner side, is on this machine's own interfaces.
"""

from __future__ import annotations

from vpnforensics.groundtruth.lab.drivers.base import Driver
from vpnforensics.groundtruth.lab.network import INNER_PREFIX, SERVER_INNER, SERVER_OUTER, mac
from vpnforensics.groundtruth.lab.uml import Line, boot, wait_until_up

INNER = "inner0"
"""The decrypted side of the server's kernel, all clients."""
KERNEL_INNER = INNER_PREFIX + "254"
"""The kernel's own address there."""
_OUTER = "outer0"
_SERVER_NUMBER = 0


def boot_server(driver: Driver, *setup: str) -> str:
    """Start the server's kernel with its modules and these shell commands, and wire it; return its name."""
    clients = tuple((c.outer, mac(4, c.number)) for c in driver.clients)
    lines = (
        Line(_OUTER, mac(1, 1), f"{SERVER_OUTER}/24", clients),
        Line(INNER, mac(7, 2), f"{KERNEL_INNER}/32", ((SERVER_INNER, mac(7, 1)),)),
    )
    everywhere = (
        "sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0",
        f"ip route add {SERVER_INNER} dev eth1",
        f"ip route add default via {SERVER_INNER} dev eth1",
    )
    place = boot(
        "uml-server",
        driver.namespace,
        _SERVER_NUMBER,
        lines,
        driver.processes,
        modules=driver.kernel_modules,
        setup=(*everywhere, *setup),
    )
    _wire(driver)
    wait_until_up(place, driver.processes)
    return place


def _wire(driver: Driver) -> None:
    """The kernel's outer line joins the ingress link; its inner one ends at the NAT."""
    for command in (
        "ip addr flush dev in0",
        f"ip link set in0 address {mac(7, 3)}",
        "ip link add bridge0 type bridge mcast_snooping 0",
        "ip link set in0 master bridge0",
        f"ip link set {_OUTER} master bridge0",
        "ip link set bridge0 up",
        f"ip link set {INNER} address {mac(7, 1)}",
        f"ip addr add {SERVER_INNER}/32 dev {INNER}",
        f"ip route add {KERNEL_INNER} dev {INNER}",
        f"ip neigh add {KERNEL_INNER} lladdr {mac(7, 2)} dev {INNER}",
        f"ip route add {INNER_PREFIX}0/24 via {KERNEL_INNER} dev {INNER}",
    ):
        driver.processes.run(driver.namespace, command.split())
