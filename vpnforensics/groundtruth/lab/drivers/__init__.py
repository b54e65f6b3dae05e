"""One VPN program a module. A driver starts its server and its clients and names their tun devices."""

from __future__ import annotations

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.drivers.openvpn import OpenVpnUdp
from vpnforensics.groundtruth.lab.drivers.wireguard import WireGuard

DRIVERS: dict[str, type[Driver]] = {d.name: d for d in (WireGuard, OpenVpnUdp)}

__all__ = ["DRIVERS", "Client", "Driver"]
