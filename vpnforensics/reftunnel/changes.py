"""Peers of a running tunnel: one more, one less, or one that is told of differently.

A change goes over the control socket as JSON. What it does not name stays as it is; an allowed network that
another peer had goes to the new one, as `wg set` has it. The kernel's routes follow. The configuration file
does not: the next start reads it again.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, replace
from typing import Any

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.device import Device
from vpnforensics.reftunnel.endpoint import Endpoint, Transport, parse_endpoint
from vpnforensics.reftunnel.keys import PresharedKey, PublicKey
from vpnforensics.reftunnel.peers import PeerConfig
from vpnforensics.reftunnel.routing import IPNetwork

MAX_KEEPALIVE_S = 65_535


@dataclass(frozen=True, slots=True)
class PeerChange:
    """What is to be different of a peer; None leaves it.

    Parameters
    ----------
    public_key : PublicKey
        Which peer.
    allowed_ips : tuple of networks, optional
        All of its inner addresses.
    endpoint : Endpoint, optional
        Where to call it.
    persistent_keepalive_s : int, optional
        0 switches it off.
    preshared_key : PresharedKey, optional
        For the handshakes to come.
    """

    public_key: PublicKey
    allowed_ips: tuple[IPNetwork, ...] | None = None
    endpoint: Endpoint | None = None
    persistent_keepalive_s: int | None = None
    preshared_key: PresharedKey | None = None

    def of(self, before: PeerConfig) -> PeerConfig:
        """The peer after the change."""
        given = {
            "allowed_ips": self.allowed_ips,
            "endpoint": self.endpoint,
            "persistent_keepalive_s": self.persistent_keepalive_s,
            "preshared_key": self.preshared_key,
        }
        named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return replace(before, **named)


def parse_networks(texts: list[str]) -> tuple[IPNetwork, ...]:
    """Networks from their text.

    Raises
    ------
    TunnelError
        One is none.
    """
    try:
        return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise TunnelError(f"allowed IPs: {error}") from None


def parse_change(text: str, transport: Transport) -> PeerChange:
    """Change from the JSON that `pack` made.

    Raises
    ------
    TunnelError
        Something in it is wrong; secrets are not repeated.
    """
    try:
        fields = json.loads(text)
        networks, endpoint = fields.get("allowed_ips"), fields.get("endpoint")
        keepalive_s, preshared = fields.get("keepalive_s"), fields.get("preshared_key")
        if keepalive_s is not None and (
            not isinstance(keepalive_s, int) or not 0 <= keepalive_s <= MAX_KEEPALIVE_S
        ):
            raise TunnelError(f"keepalive: expected a whole number from 0 to {MAX_KEEPALIVE_S}")
        return PeerChange(
            public_key=PublicKey.from_text(fields["public_key"]),
            allowed_ips=None if networks is None else parse_networks(networks),
            endpoint=None if endpoint is None else parse_endpoint(endpoint, transport),
            persistent_keepalive_s=keepalive_s,
            preshared_key=None if preshared is None else PresharedKey.from_text(preshared),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TunnelError("a change that makes no sense") from None


def apply_change(device: Device, change: PeerChange, now: float, *, is_new: bool) -> None:
    """Add or alter a peer.

    Raises
    ------
    TunnelError
        It exists and should be new, or the other way round, or it is ourselves.
    """
    peer = device.peers.get(change.public_key)
    if is_new:
        if peer is not None:
            raise TunnelError(f"peer {change.public_key} is there already")
        device.add_peer(change.of(PeerConfig(change.public_key)), now)
    elif peer is None:
        raise TunnelError(f"there is no peer {change.public_key}")
    else:
        device.alter_peer(peer, change.of(peer.config), now)


def pack(
    public_key: str,
    allowed_ips: list[str] | None,
    endpoint: str | None,
    keepalive_s: int | None,
    preshared_key: str | None,
) -> str:
    """JSON of a change, for the control socket."""
    fields = {
        "public_key": public_key,
        "allowed_ips": allowed_ips,
        "endpoint": endpoint,
        "keepalive_s": keepalive_s,
        "preshared_key": preshared_key,
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None})
