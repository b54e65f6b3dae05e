"""What the kernel must know of the tunnel: addresses, routes, NAT; set up, and taken down in reverse.

Addresses and plain routes vanish with the TUN. What would outlive it (policy rules, the nftables table, the
forwarding switch) is undone by a stack of closures, last first, even if setting up fails half-way.

A full tunnel (an allowed network of length 0) follows wg-quick(8): the default route goes into a table of its
own, packets without our mark are sent there, and the main table keeps only its specific routes.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.nftables.expressions import genex, masq
from pyroute2.nftables.main import NFTables

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.config import DEFAULT_MTU, TunnelConfig
from vpnforensics.reftunnel.routing import IPNetwork

DEFAULT_MARK = 51820

OVERHEAD_BYTES = 80
"""Of IPv6, UDP and a transport message, around an inner packet: what WireGuard reckons with."""

_MIN_MTU = 576
_QUEUE_PACKETS = 1000
_FIB_RULE_INVERT = 2
_NFPROTO_INET = 1
_META_IIFNAME, _META_OIFNAME = 6, 7
_IFNAMSIZ = 16
_HOOK_POSTROUTING, _PRIORITY_SRCNAT = 4, 100
_FORWARDING = {
    4: Path("/proc/sys/net/ipv4/ip_forward"),
    6: Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}
_SRC_VALID_MARK = Path("/proc/sys/net/ipv4/conf/all/src_valid_mark")


def outer_mark(config: TunnelConfig) -> int:
    """Mark that outer packets must carry; a full tunnel needs one even if none is configured."""
    if config.mark or not _is_full(config):
        return config.mark
    return DEFAULT_MARK


def _is_full(config: TunnelConfig) -> bool:
    return config.table == 0 and any(
        network.prefixlen == 0 for peer in config.peers for network in peer.allowed_ips
    )


def fitting_mtu(config: TunnelConfig) -> int:
    """MTU of the tunnel's interface: that of the configuration, else what fits the ways to the peers.

    As wg-quick(8) has it, that is the MTU of the link by which an endpoint is reached, or of that of the
    default route, less `OVERHEAD_BYTES`; but never more than 1420. What ICMP said of a path is not asked:
    anybody can forge it.
    """
    if config.mtu or config.transport == "tcp":
        return config.mtu or DEFAULT_MTU
    hosts = [peer.endpoint.host for peer in config.peers if peer.endpoint is not None]
    with IPRoute() as ipr:
        sizes = [_link_mtu(ipr, host) for host in hosts or ["192.0.2.1"]]
    return max(_MIN_MTU, min([DEFAULT_MTU, *(size - OVERHEAD_BYTES for size in sizes if size)]))


def _link_mtu(ipr: IPRoute, host: str) -> int:
    """MTU of the link by which a host is reached; 0 if there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        (route,) = ipr.route("get", dst=host, family=family)
        (link,) = ipr.get_links(route.get_attr("RTA_OIF"))
    except (NetlinkError, OSError, ValueError):
        return 0
    return int(link.get_attr("IFLA_MTU") or 0)


class Network:
    """Kernel configuration of one tunnel; use as a context manager.

    Parameters
    ----------
    config : TunnelConfig
        What to set up.

    Raises
    ------
    TunnelError
        The kernel refused something; all that was done before is undone.
    """

    def __init__(self, config: TunnelConfig) -> None:
        self._config = config
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Network:
        try:
            with IPRoute() as ipr:
                outside = self._config.nat
                if outside is not None and not ipr.link_lookup(ifname=outside):
                    raise TunnelError(f"Nat = {outside}: there is no such interface")
                self._link(ipr)
                if self._config.table is not None:
                    self._routes(ipr)
            if self._config.nat is not None:
                self._forward()
                self._masquerade(self._config.nat)
        except NetlinkError as error:
            self._undo.close()
            raise TunnelError(f"the kernel refused to set up {self._config.name}: {error}") from error
        except OSError as error:
            self._undo.close()
            raise TunnelError(f"cannot set up {self._config.name}: {error}") from error
        except TunnelError:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _later(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        def quietly() -> None:
            # Somebody may have removed it by hand; taking down must reach the end.
            with contextlib.suppress(NetlinkError, OSError):
                action(*args, **kwargs)

        self._undo.callback(quietly)

    # -- interface and routes -----------------------------------------------------------------------

    def _link(self, ipr: IPRoute) -> None:
        (index,) = ipr.link_lookup(ifname=self._config.name)
        self._index = index
        for address in self._config.addresses:
            ipr.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
        ipr.link("set", index=index, mtu=self._config.mtu, txqlen=_QUEUE_PACKETS, state="up")

    def _routes(self, ipr: IPRoute) -> None:
        table = self._config.table or 254
        families = set()
        for peer in self._config.peers:
            for network in peer.allowed_ips:
                if network.prefixlen == 0 and self._config.table == 0:
                    families.add(network.version)
                elif not any(network == address.network for address in self._config.addresses):
                    ipr.route("replace", dst=str(network), oif=self._index, table=table)
        for version in sorted(families):
            self._default_route(ipr, version)

    def follow(self, before: Iterable[IPNetwork], after: Iterable[IPNetwork]) -> None:
        """Let the routes be those of the allowed networks `after` a change.

        Raises
        ------
        TunnelError
            The kernel refused it.
        """
        if self._config.table is None:
            return
        table, own = self._config.table or 254, {address.network for address in self._config.addresses}
        try:
            with IPRoute() as ipr:
                for network in set(after) - set(before) - own:
                    ipr.route("replace", dst=str(network), oif=self._index, table=table)
                for network in set(before) - set(after) - own:
                    with contextlib.suppress(NetlinkError):  # removed by hand
                        ipr.route("del", dst=str(network), oif=self._index, table=table)
        except NetlinkError as error:
            raise TunnelError(f"the kernel refused a route: {error}") from error

    def _default_route(self, ipr: IPRoute, version: int) -> None:
        mark = outer_mark(self._config)
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        default = "0.0.0.0/0" if version == 4 else "::/0"
        if any(route.get_attr("RTA_OIF") for route in ipr.get_routes(family=family, table=mark)):
            raise TunnelError(f"another tunnel has its default route in table {mark} already")
        ipr.route("replace", family=family, dst=default, oif=self._index, table=mark)
        rules = (
            {"family": family, "table": mark, "fwmark": mark, "flags": _FIB_RULE_INVERT, "priority": 32764},
            {"family": family, "table": 254, "FRA_SUPPRESS_PREFIXLEN": 0, "priority": 32763},
        )
        for rule in rules:
            try:
                ipr.rule("add", **rule)
            except NetlinkError as error:
                # Left by a tunnel that was killed: its table is empty, and the rule is ours now.
                if error.code != errno.EEXIST:
                    raise
            self._later(_delete_rule, rule)
        if version == 4:
            # Otherwise the answers to marked packets fail the reverse-path check.
            self._switch_on(_SRC_VALID_MARK)

    # -- NAT ----------------------------------------------------------------------------------------

    def _forward(self) -> None:
        for version in {address.version for address in self._config.addresses}:
            self._switch_on(_FORWARDING[version])

    def _switch_on(self, switch: Path) -> None:
        before = switch.read_text()
        if before.strip() != "1":
            switch.write_text("1")
            self._later(switch.write_text, before)

    def _masquerade(self, outside: str) -> None:
        table = f"vpnf-{self._config.name}"
        with contextlib.suppress(NetlinkError):
            _delete_table(table)  # left by a tunnel of this name that was killed
        with NFTables(nfgen_family=_NFPROTO_INET) as nft:
            nft.table("add", name=table)
            self._later(_delete_table, table)
            nft.chain(
                "add",
                table=table,
                name="postrouting",
                type="nat",
                hook="postrouting",
                priority=_PRIORITY_SRCNAT,
                policy=1,
            )
            inside, out = _name_is(_META_IIFNAME, self._config.name), _name_is(_META_OIFNAME, outside)
            nft.rule("add", table=table, chain="postrouting", expressions=(inside, out, masq()))


def _name_is(key: int, name: str) -> list[Any]:
    """Expressions: load an interface name into register 1, and go on only if it is this one."""
    padded = name.encode().ljust(_IFNAMSIZ, b"\0")
    return [
        genex("meta", {"key": key, "dreg": 1}),
        genex("cmp", {"sreg": 1, "op": 0, "data": {"attrs": [("NFTA_DATA_VALUE", padded)]}}),
    ]


def _delete_rule(rule: dict[str, Any]) -> None:
    with IPRoute() as ipr:
        ipr.rule("del", **rule)


def _delete_table(table: str) -> None:
    with NFTables(nfgen_family=_NFPROTO_INET) as nft:
        nft.table("del", name=table)
