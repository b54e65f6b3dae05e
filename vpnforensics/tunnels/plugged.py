"""Protocols of other packages, beside ours: entry points of the group ``vpnforensics.protocols``.

Such an entry point leads to a module, or an object, that is a
:class:`~vpnforensics.tunnels.protocol.VpnProtocol` over datagrams. It is asked of each conversation behind
ours, and has it where it is surest. What it says is checked, and one that fails is left out of the whole
capture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from vpnforensics.errors import PlugInError
from vpnforensics.plugins import FAULTS, PlugIns, plug_ins, reason_of
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import Datagrams, Handshake, Recognition, Records, no_handshake

GROUP = "vpnforensics.protocols"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_ASKED = ("recognise", "records", "length_maps")
OURS = (
    "wireguard", "openvpn", "esp", "nebula", "ike", "dtls", "tinc", "pptp", "l2tp", "unknown", "ssh", "tls",
    "shadowsocks", "socks4", "socks5", "http-proxy", "tor", "plain",
)  # fmt: skip
"""Names that a tunnel of ours may bear."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PluggedProtocol:
    """A protocol of another package; what it says is checked, and its faults bear its name."""

    name: str
    package: str
    server_ports: tuple[int, ...]
    copies_ecn: bool
    asked: Any
    """What the entry point leads to."""

    def recognise(self, sample: Datagrams) -> Recognition | None:
        """See :class:`~vpnforensics.tunnels.protocol.VpnProtocol`."""
        said = self._ask("recognise", sample)
        if said is None:
            return None
        found = self._a(Recognition, said)
        if not 0 <= found.confidence <= 1 or not isinstance(found.variant, str):
            raise self._fault(f"it is sure to {found.confidence!r}, which is not between 0 and 1")
        return found

    def records(self, datagrams: Datagrams, variant: str) -> Records:
        """Likewise."""
        said = self._a(Records, self._ask("records", datagrams, variant))
        size = said.carries if said.size is None else said.size
        for column, kind in ((said.carries, "b"), (said.counter, "iu"), (size, "biu")):
            if np.shape(column) != (len(datagrams),) or np.asarray(column).dtype.kind not in kind:
                raise self._fault("its records are no column of flags and one of counters, one a datagram")
        return Records(np.asarray(said.carries), np.asarray(said.counter, np.int64), said.size)

    def handshake(self, opening: Datagrams) -> Handshake:
        """Likewise; a protocol may leave it out."""
        if not hasattr(self.asked, "handshake"):
            return no_handshake(opening)
        said = self._a(Handshake, self._ask("handshake", opening))
        if not all(isinstance(n, int) and 0 <= n < len(opening) for n in (*said.offers, *said.answers)):
            raise self._fault("its handshake names a datagram that is not there")
        return said

    def length_maps(self, datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
        """Likewise."""
        said = self._ask("length_maps", datagrams, variant)
        if not isinstance(said, tuple | list):
            raise self._fault(f"length_maps returned a {type(said).__name__}, not a tuple")
        return tuple(self._a(LengthMap, each) for each in said)

    def _ask(self, what: str, *given: object) -> Any:
        try:
            return getattr(self.asked, what)(*given)
        except FAULTS as error:
            raise self._fault(reason_of(error)) from error

    def _a(self, kind: type[T], said: object) -> T:
        if not isinstance(said, kind):
            raise self._fault(f"it returned a {type(said).__name__}, not {kind.__name__}")
        return said

    def _fault(self, reason: str) -> PlugInError:
        return PlugInError(GROUP, self.name, self.package, reason)


def installed() -> PlugIns[PluggedProtocol]:
    """The protocols that other packages bring here."""
    return plug_ins(GROUP, _checked)


def _checked(name: str, package: str, loaded: object) -> PluggedProtocol:
    """A protocol as an entry point has it, if it can be one."""
    lacks = [what for what in _ASKED if not callable(getattr(loaded, what, None))]
    if lacks:
        raise ValueError(f"it has no function {', '.join(lacks)}")
    named = getattr(loaded, "name", None)
    if named != name or not _NAME.fullmatch(name):
        raise ValueError(f"it is named {named!r}; both names have to be the same, of small letters")
    if name in OURS:
        raise ValueError("vpnforensics has a protocol of this name")
    ports = tuple(getattr(loaded, "server_ports", ()))
    if not all(isinstance(port, int) and 0 < port < 65536 for port in ports):
        raise ValueError(f"its server_ports are {ports!r}")
    return PluggedProtocol(name, package, ports, bool(getattr(loaded, "copies_ecn", False)), loaded)
