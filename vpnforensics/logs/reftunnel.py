"""The reference tunnel's own usage log: one JSON object a line (``docs/reference-tunnel.md``)."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from vpnforensics.logs.ledger import Ledger, Line
from vpnforensics.logs.session import Session, Translation, as_count, host_route, split_endpoint

_EVENTS = ("connect", "roam", "disconnect")


class RefTunnel:
    """Sessions by the peer's public key."""

    name: ClassVar[str] = "reftunnel"
    programs: ClassVar[tuple[str, ...]] = ()
    dated: ClassVar[bool] = False

    def __init__(self, path: str) -> None:
        self._ledger = Ledger(self.name, path)

    def feed(self, line: Line) -> bool:
        """One event."""
        if not line.raw.startswith('{"'):
            return False
        try:
            row = json.loads(line.raw)
        except (ValueError, RecursionError):
            return False
        if not isinstance(row, dict) or row.get("event") not in _EVENTS or as_count(row.get("ts_ns")) is None:
            return False
        self._event(row, Line(line.number, row["ts_ns"], "", "", line.ns_of))
        return True

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The sessions."""
        return self._ledger.sessions(), []

    def _event(self, row: dict[str, Any], now: Line) -> None:
        peer = str(row.get("peer", ""))
        entry = self._ledger.begin(peer, now) if row["event"] == "connect" else self._ledger.tell(peer, now)
        entry.user = peer
        entry.move(split_endpoint(str(row.get("endpoint") or "")))
        addresses = row.get("addresses")
        for each in addresses if isinstance(addresses, list) else ():
            entry.assign(host_route(str(each)))
        if row["event"] != "disconnect":
            return
        since = as_count(row.get("since_ns"))
        if entry.begin_ns is None and since is not None:
            entry.begin_ns = entry.first_ns = since
        for name in ("received_bytes", "sent_bytes"):
            setattr(entry, name, as_count(row.get(name)))
        self._ledger.close(peer, now)
