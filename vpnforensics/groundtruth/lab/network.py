"""The lab's network: namespaces, veth pairs, addresses, static neighbours.

::

    client 1 --+                                  +-- 192.0.2.x (one namespace
    client 2 --+-[access emulator]--[ VPN ]--[internet emulator]    holds all hosts)
    client N --+              ingress^ ^egress

Clients stand in 198.51.100.0/24, the VPN server at 198.51.100.1 and 203.0.113.1, Internet hosts in
192.0.2.0/24, inner addresses in 10.8.0.0/24. Neighbours are static, so nothing but IPv4 crosses the
emulators. Interfaces are made inside the namespaces: the machine's own network is never touched.
"""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroute2 import NetNS, netns

from vpnforensics.groundtruth.lab.processes import in_namespace
from vpnforensics.groundtruth.lab.state import RunState

SERVER_OUTER = "198.51.100.1"
SERVER_PUBLIC = "203.0.113.1"
INNER_PREFIX = "10.8.0."
SERVER_INNER = INNER_PREFIX + "1"
INTERNET = "192.0.2.0/24"
DNS_ADDRESS = "192.0.2.53"
SSH_ADDRESS = "192.0.2.22"
MAX_WEB_SERVERS = 190


def web_addresses(count: int) -> tuple[str, ...]:
    """Public addresses of the web servers."""
    return tuple(f"192.0.2.{60 + i}" for i in range(count))


End = tuple[str, str, str | None]

_OFFLOADS = ("tso", "gso", "gro", "tx", "rx", "sg")
"""Left on, these put 64 KiB super-packets and unfinished checksums into the captures."""


@dataclass(slots=True)
class Network:
    """Builds namespaces and links whose names start with the run's identifier.

    Parameters
    ----------
    state : RunState
        Where every namespace is written down before it is made.
    """

    state: RunState
    _open: dict[str, Any] = field(default_factory=dict)

    def namespace(self, name: str) -> str:
        """Make a namespace with quiet defaults and return its full name."""
        full = f"vf{self.state.run_id}{name}"
        self.state.note("netns", name=full)
        netns.create(full)
        self._open[full] = NetNS(full)
        self._open[full].link("set", index=1, state="up")
        self.sysctl(
            full,
            "net.ipv6.conf.all.disable_ipv6=1",
            "net.ipv6.conf.default.disable_ipv6=1",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.default.rp_filter=0",
            f"net.ipv4.tcp_congestion_control={congestion_control()}",
        )
        return full

    def sysctl(self, namespace: str, *settings: str) -> None:
        """Set kernel parameters of one namespace."""
        subprocess.run(in_namespace(namespace, ["sysctl", "-q", "-w", *settings]), check=True, timeout=10)

    def veth(self, end: End, peer: End) -> None:
        """Join two namespaces by a veth pair; an end is (namespace, interface, MAC or None)."""
        (ns, dev, mac), (peer_ns, peer_dev, peer_mac) = end, peer
        other = {"ifname": peer_dev, "net_ns_fd": peer_ns} | ({"address": peer_mac} if peer_mac else {})
        mine = {"ifname": dev} | ({"address": mac} if mac else {})
        self._open[ns].link("add", kind="veth", peer=other, **mine)
        for where, which in ((ns, dev), (peer_ns, peer_dev)):
            # All at once; one by one where that fails, as where `sg` is fixed.
            every = " ".join(f"{feature} off" for feature in _OFFLOADS)
            each = f"for feature in {' '.join(_OFFLOADS)}; do ethtool -K {which} $feature off; done"
            argv = in_namespace(where, ["sh", "-c", f"ethtool -K {which} {every} || {each}"])
            subprocess.run(argv, check=False, capture_output=True, timeout=20)
            self._open[where].link("set", index=self._index(where, which), state="up")

    def address(self, namespace: str, dev: str, address: str, prefix: int = 24) -> None:
        """Give an interface an address."""
        self._open[namespace].addr(
            "add", index=self._index(namespace, dev), address=address, prefixlen=prefix
        )

    def neighbour(self, namespace: str, dev: str, address: str, mac: str) -> None:
        """A static ARP entry."""
        self._open[namespace].neigh(
            "add", dst=address, lladdr=mac, ifindex=self._index(namespace, dev), state="permanent"
        )

    def route(self, namespace: str, dst: str, *, via: str | None = None, dev: str | None = None) -> None:
        """A route through a gateway or an interface."""
        if "@" in namespace:
            where = (["via", via] if via else []) + (["dev", dev] if dev else [])
            self._ip(namespace, "route", "replace", dst, *where)
            return
        hop: dict[str, Any] = {"gateway": via} if via else {}
        if dev is not None:
            hop["oif"] = self._index(namespace, dev)
        self._open[namespace].route("replace", family=socket.AF_INET, dst=dst, **hop)

    def has_link(self, namespace: str, dev: str) -> bool:
        """Whether the interface exists and is up."""
        if "@" in namespace:
            return ",UP" in self._ip(namespace, "-o", "link")[0].partition(f": {dev}")[2].partition(">")[0]
        found = self._open[namespace].link_lookup(ifname=dev)
        return bool(found) and bool(self._open[namespace].get_links(found[0])[0]["flags"] & 1)

    def exists(self, namespace: str, dev: str) -> bool:
        """Whether the interface exists."""
        if "@" in namespace:
            return f": {dev}" in self._ip(namespace, "-o", "link")[0]
        return bool(self._open[namespace].link_lookup(ifname=dev))

    def etc(self, namespace: str, name: str, text: str, mode: int = 0o644) -> None:
        """Give programs of the namespace their own ``/etc/NAME`` (``ip netns exec`` binds the file)."""
        folder = Path("/etc/netns")
        self.state.note("empty-folder", path=str(folder))
        self.state.note("path", path=str(folder / namespace))
        (folder / namespace).mkdir(parents=True, exist_ok=True)
        (folder / namespace / name).write_text(text)
        (folder / namespace / name).chmod(mode)

    def close(self) -> None:
        """Let go of the netlink sockets; the namespaces are removed by the run's state."""
        for handle in self._open.values():
            handle.close()
        self._open.clear()

    def _ip(self, place: str, *argv: str) -> tuple[str, int]:
        """``ip`` inside a User-Mode-Linux host, where netlink does not reach from here."""
        done = subprocess.run(
            in_namespace(place, ["ip", *argv]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
        return done.stdout.decode(), done.returncode

    def _index(self, namespace: str, dev: str) -> int:
        return int(self._open[namespace].link_lookup(ifname=dev)[0])


def congestion_control() -> str:
    """How the lab's TCP fills a line: by CUBIC, as most systems do, where a namespace may; else by Reno.

    The machine's own default may be BBR, which paces what it sends: recordings would depend on where they
    were made. On lines as short as the lab's CUBIC grows as Reno does (RFC 9438, section 4.3).
    """
    allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text().split()
    return "cubic" if "cubic" in allowed else "reno"


def mac(kind: int, number: int) -> str:
    """A fixed, locally administered MAC address."""
    return f"02:00:5e:10:{kind:02x}:{number:02x}"
