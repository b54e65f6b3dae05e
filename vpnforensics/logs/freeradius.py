"""FreeRADIUS's ``detail`` files: accounting requests of the VPN server, as they came.

A record is a line with the time, and a line for each attribute, indented. Source: ``rlm_detail(5)``; RFC 2866
(accounting), RFC 2869, 5.1 and 5.2 (counters above 4 GiB), RFC 3162 (IPv6); recorded from 3.2.1.
"""

from __future__ import annotations

import re
from typing import ClassVar

from vpnforensics.logs.ledger import Ledger, Line
from vpnforensics.logs.session import Session, Translation, address, as_count, count, seconds_ns

_ATTRIBUTE = re.compile(r"\s+([A-Za-z0-9-]+)(?::\d+)? [:+=]?= (.*)")


class FreeRadius:
    """Sessions by the server's address and its session id."""

    name: ClassVar[str] = "freeradius"
    programs: ClassVar[tuple[str, ...]] = ()
    dated: ClassVar[bool] = False

    def __init__(self, path: str) -> None:
        self._ledger = Ledger(self.name, path)
        self._record: dict[str, str] = {}
        self._head: Line | None = None

    def feed(self, line: Line) -> bool:
        """A line of a record; its attributes are taken together where the next record begins."""
        found = _ATTRIBUTE.match(line.raw)
        if found is None:
            self._take()
            return False
        if not self._record:
            self._head = line
        self._record.setdefault(found[1], found[2].strip().strip("\"'"))
        return True

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The sessions."""
        self._take()
        return self._ledger.sessions(), []

    def _take(self) -> None:
        record, head = self._record, self._head
        self._record = {}
        kind = record.get("Acct-Status-Type", "")
        if head is None or not kind:
            return
        key = (
            record.get("NAS-IP-Address") or record.get("NAS-Identifier", ""),
            record.get("Acct-Session-Id", ""),
        )
        at_ns = self._time(record, head)
        now = Line(head.number, at_ns, "", "", head.ns_of)
        if kind in ("Accounting-On", "Accounting-Off"):  # the server starts anew: nobody is connected
            for each in [k for k in self._ledger.open if k[0] == key[0]]:  # type: ignore[index]
                self._ledger.close(each, now)
            return
        entry = self._ledger.begin(key, now) if kind == "Start" else self._ledger.tell(key, now)
        lasted = record.get("Acct-Session-Time", "")
        if entry.begin_ns is None and (lasted_ns := seconds_ns(lasted)) is not None:
            entry.begin_ns = at_ns - lasted_ns
            entry.first_ns = min(entry.first_ns, entry.begin_ns)
        entry.user = record.get("User-Name", entry.user)
        entry.move(address(record.get("Tunnel-Client-Endpoint") or record.get("Calling-Station-Id", "")))
        entry.assign(
            address(record.get("Framed-IP-Address", "")), address(record.get("Framed-IPv6-Address", ""))
        )
        entry.received_bytes = (
            _octets(record, "Input") if "Acct-Input-Octets" in record else entry.received_bytes
        )
        entry.sent_bytes = _octets(record, "Output") if "Acct-Output-Octets" in record else entry.sent_bytes
        if kind == "Stop":
            self._ledger.close(key, now)

    def _time(self, record: dict[str, str], head: Line) -> int:
        """When it happened: the server's clock if the record has it, else when it came, less its delay."""
        stamp_ns = seconds_ns(record.get("Timestamp", ""))
        at_ns = head.ts_ns if stamp_ns is None else stamp_ns
        return at_ns - (seconds_ns(record.get("Acct-Delay-Time", "")) or 0)


def _octets(record: dict[str, str], way: str) -> int | None:
    low, high = record.get(f"Acct-{way}-Octets", "0"), record.get(f"Acct-{way}-Gigawords", "0")
    return as_count(((count(high) or 0) << 32) + (count(low) or 0))
