"""OpenVPN's status file (``--status``), once or one after the other, in its three versions.

Version 1 parts by commas and names its columns; 2 and 3 begin lines with what they are, and part by commas
and tabulators. Source: ``multi_print_status`` in ``src/openvpn/multi.c``; recorded from 2.6.
"""

from __future__ import annotations

from typing import ClassVar

from vpnforensics.logs.ledger import Entry, Ledger, Line
from vpnforensics.logs.session import Session, Translation, address, count, seconds_ns, split_endpoint

_CLIENT, _ROUTE = "CLIENT_LIST", "ROUTING_TABLE"
_V1 = {
    _CLIENT: ["Common Name", "Real Address", "Bytes Received", "Bytes Sent", "Connected Since"],
    _ROUTE: ["Virtual Address", "Common Name", "Real Address", "Last Ref"],
}
_HEADINGS = {"OpenVPN CLIENT LIST": "", "ROUTING TABLE": _ROUTE, "GLOBAL STATS": ""}
_Key = tuple[str, str, str]


class OpenVpnStatus:
    """A client that a later snapshot lacks has gone by then."""

    name: ClassVar[str] = "openvpn-status"
    programs: ClassVar[tuple[str, ...]] = ()
    dated: ClassVar[bool] = False

    def __init__(self, path: str) -> None:
        self._ledger = Ledger("openvpn", path)
        self._columns = dict(_V1)
        self._part = ""
        self._now_ns = -1
        self._there: dict[_Key, Entry] = {}

    def feed(self, line: Line) -> bool:
        """One line of a snapshot."""
        text = line.raw
        if text in _HEADINGS:
            self._part = _HEADINGS[text]
            return True
        if text == "END":
            self._end_snapshot(line)
            return True
        if "," not in text and "\t" not in text:
            return False
        cells = text.split("\t" if "\t" in text else ",")
        kind = cells[0]
        if kind in ("TITLE", "GLOBAL_STATS", "Max bcast/mcast queue length", "dco_enabled"):
            return True
        if kind in ("Updated", "TIME") and len(cells) > 1:
            self._now_ns = _seconds(cells[2]) if len(cells) > 2 else (line.ns_of(cells[1]) or -1)
            return True
        if kind == "HEADER" and len(cells) > 3:
            self._columns[cells[1]] = cells[2:]
            return True
        if kind in (_CLIENT, _ROUTE):
            return self._row(kind, cells[1:], line)
        if cells == _V1[_CLIENT]:
            self._part, self._columns[_CLIENT] = _CLIENT, cells
            return True
        return bool(self._part) and (cells == _V1[_ROUTE] or self._row(self._part, cells, line))

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The sessions."""
        return self._ledger.sessions(), []

    def _row(self, kind: str, cells: list[str], line: Line) -> bool:
        row = dict(zip(self._columns[kind], cells, strict=False))
        where = split_endpoint(row.get("Real Address", ""))
        if not where:
            return False
        name = row.get("Common Name", "")
        if kind == _ROUTE:
            for (user, place, _), entry in self._there.items():
                if (user, place) == (name, where):
                    entry.assign(address(row.get("Virtual Address", "").rstrip("C")))
            return True
        since = row.get("Connected Since (time_t)", "")
        since_ns = _seconds(since) if since else (line.ns_of(row.get("Connected Since", "")) or -1)
        key = (name, where, str(since_ns))
        now = Line(line.number, max(self._now_ns, since_ns), "", "", line.ns_of)
        entry = self._ledger.open.get(key) or self._ledger.begin(key, now, at_ns=since_ns)
        entry.last_ns = max(entry.last_ns, now.ts_ns)
        login = row.get("Username", "")
        entry.user = name if name != "UNDEF" else (login if login != "UNDEF" else "")
        entry.move(where)
        entry.assign(address(row.get("Virtual Address", "")), address(row.get("Virtual IPv6 Address", "")))
        entry.received_bytes = count(row.get("Bytes Received", ""))
        entry.sent_bytes = count(row.get("Bytes Sent", ""))
        self._there[key] = entry
        return True

    def _end_snapshot(self, line: Line) -> None:
        now = Line(line.number, self._now_ns, "", "", line.ns_of)
        for key in [key for key in self._ledger.open if key not in self._there]:
            self._ledger.close(key, now)
        self._there, self._part = {}, ""


def _seconds(text: str) -> int:
    found = seconds_ns(text)
    return -1 if found is None else found
