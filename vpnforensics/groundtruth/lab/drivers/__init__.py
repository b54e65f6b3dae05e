"""One VPN program a module. A driver starts its server and its clients and names their tun devices."""

from __future__ import annotations

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.drivers.http_proxy import HttpProxy, HttpProxySquid
from vpnforensics.groundtruth.lab.drivers.l2tp import L2tp
from vpnforensics.groundtruth.lab.drivers.nebula import Nebula
from vpnforensics.groundtruth.lab.drivers.ocserv import OcservDtls, OcservTls
from vpnforensics.groundtruth.lab.drivers.openvpn import OpenVpnTcp, OpenVpnUdp
from vpnforensics.groundtruth.lab.drivers.pptp import Pptp
from vpnforensics.groundtruth.lab.drivers.reftunnel import RefTunnel, RefTunnelTcp
from vpnforensics.groundtruth.lab.drivers.shadowsocks import Shadowsocks
from vpnforensics.groundtruth.lab.drivers.socks import Socks, SocksDante
from vpnforensics.groundtruth.lab.drivers.softether import SoftEther
from vpnforensics.groundtruth.lab.drivers.ssh import (
    SshSocks,
    SshSocksEtm,
    SshSocksGcm,
    SshTun,
    SshTunEtm,
    SshTunGcm,
)
from vpnforensics.groundtruth.lab.drivers.strongswan import StrongSwan
from vpnforensics.groundtruth.lab.drivers.strongswan_kernel import StrongSwanKernel
from vpnforensics.groundtruth.lab.drivers.stunnel import StunnelOpenVpn, StunnelSocks
from vpnforensics.groundtruth.lab.drivers.tinc import Tinc
from vpnforensics.groundtruth.lab.drivers.tor import Tor, TorFar
from vpnforensics.groundtruth.lab.drivers.trojan import Trojan
from vpnforensics.groundtruth.lab.drivers.v2ray import V2Ray
from vpnforensics.groundtruth.lab.drivers.wireguard import WireGuard

DRIVERS: dict[str, type[Driver]] = {
    driver.kind: driver
    for driver in (
        WireGuard,
        OpenVpnUdp,
        OpenVpnTcp,
        OcservDtls,
        OcservTls,
        StrongSwan,
        StrongSwanKernel,
        Pptp,
        L2tp,
        Tinc,
        Nebula,
        SshTun,
        SshTunGcm,
        SshTunEtm,
        SshSocks,
        SshSocksGcm,
        SshSocksEtm,
        Shadowsocks,
        Socks,
        SocksDante,
        HttpProxy,
        HttpProxySquid,
        StunnelSocks,
        StunnelOpenVpn,
        Trojan,
        V2Ray,
        Tor,
        TorFar,
        SoftEther,
        RefTunnel,
        RefTunnelTcp,
    )
}

__all__ = ["DRIVERS", "Client", "Driver"]
