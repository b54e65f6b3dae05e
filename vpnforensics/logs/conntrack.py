"""``conntrack -E -o timestamp``, the kernel's own account of who stands behind a translated port.

A line holds the connection as its opener sees it and, reversed, as the far side sees it. Source:
``conntrack(8)``; ``nfct_snprintf_conntrack`` of libnetfilter_conntrack; recorded from conntrack-tools 1.4.7.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar

from vpnforensics.logs.ledger import Line
from vpnforensics.logs.session import Session, Translation, address, endpoint

_PAIR = r"src=(\S+) dst=(\S+) (?:sport=(\d+) dport=(\d+)|type=\d+ code=\d+ id=(\d+))"
_EVENT = re.compile(
    rf"\s*\[(NEW|UPDATE|DESTROY)\] (?:ipv[46] +\d+ +)?([\w-]+) +\d+ (?:\S+ )*?{_PAIR} (?:\S+ )*?{_PAIR}"
)
_PROTOS = {"ipv6-icmp": "icmpv6"}


class Conntrack:
    """Translations by their two tuples; what is not translated, as to the server itself, is left out."""

    name: ClassVar[str] = "conntrack"
    programs: ClassVar[tuple[str, ...]] = ("conntrack",)
    dated: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self._path = path
        self._open: dict[tuple[str, str, str, str], Translation] = {}
        self._closed: list[Translation] = []

    def feed(self, line: Line) -> bool:
        """An event of a connection."""
        event = _EVENT.match(line.text)
        if event is None:
            return False
        kind, proto, source, far, source_port, far_port, echo, _, near, _, near_port, reply_echo = (
            event.groups()
        )
        proto = _PROTOS.get(proto, proto)
        inner = endpoint(source, source_port or echo)
        outer = endpoint(near, near_port or reply_echo)
        if not inner or not outer or address(source) == address(near):
            return False
        key = (proto, inner, outer, endpoint(far, far_port or echo))
        self._event(kind, key, line)
        return True

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The translations, in the order they are told."""
        found = sorted([*self._closed, *self._open.values()], key=lambda each: each.line)
        return [], found

    def _event(self, kind: str, key: tuple[str, str, str, str], line: Line) -> None:
        at_ns = line.ts_ns if line.ts_ns >= 0 else None
        if kind == "NEW" or key not in self._open:
            before = self._open.pop(key, None)
            if before is not None:
                self._closed.append(before)
            begin_ns = at_ns if kind == "NEW" else None
            self._open[key] = Translation(*key, begin_ns, None, self._path, line.number)
        if kind == "DESTROY":
            self._closed.append(replace(self._open.pop(key), end_ns=at_ns))
