"""strongSwan's charon, in syslog, the journal or a ``filelog`` (with ``time_format``), at its default levels.

Source: ``src/libcharon/sa/ike_sa.c``, ``sa/ikev2/tasks/child_create.c`` and ``child_delete.c``,
``network/receiver.c``; recorded from 5.9.8.
"""

from __future__ import annotations

import re
from typing import ClassVar

from vpnforensics.logs.ledger import Ledger, Line
from vpnforensics.logs.session import Session, Translation, address, count, endpoint, host_route

_MESSAGE = re.compile(r"(?:\w+: )?(\d+)\[(?:IKE|NET|CFG|ENC|KNL|CHD)\] (?:<[^>]*> )?(.*)")
_STARTS = (
    "received packet: ", "received EAP identity", "XAuth authentication", "IKE_SA ", "CHILD_SA ",
    "closing CHILD_SA", "deleting ", "assigning virtual IP", "SIGTERM", "SIGINT",
)  # fmt: skip
_RECEIVED = re.compile(r"received packet: from ([0-9a-fA-F:.]+)\[(\d+)\]")
_UP = re.compile(
    r"IKE_SA ([^\[\]]*)\[(\d+)\] established between [^\[\]]*\[[^\]]*\]\.\.\.([0-9a-fA-F:.]+)\[(.*)\]$"
)
_DOWN = re.compile(r"deleting IKE_SA ([^\[\]]*)\[(\d+)\] between ")
_CHILD = re.compile(r"CHILD_SA ([^{}]*)\{\d+\} established with SPIs .*? and TS (.*?) === (.*)$")
_CLOSING = re.compile(
    r"(?:closing|deleting) CHILD_SA ([^{}]*)\{\d+\} with SPIs \S+ \((\d+) bytes\) \S+ \((\d+) bytes\)"
)
_ASSIGNED = re.compile(r"assigning virtual IP (\S+) to peer '(.*)'")
_IDENTITY = re.compile(r"(?:received EAP identity|XAuth authentication of) '(.*?)'")
_STOPPED = re.compile(r"(?:SIGINT|SIGTERM) received, shutting down")


class StrongSwan:
    """Sessions by the number of the IKE_SA; a rekeyed one goes on under another number.

    A worker thread writes what belongs together: a packet's sender, whom it authenticates, what it is given.
    """

    name: ClassVar[str] = "strongswan"
    programs: ClassVar[tuple[str, ...]] = ("charon", "charon-systemd", "ipsec", "strongswan")
    dated: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self._ledger = Ledger(self.name, path)
        self._sender: dict[str, tuple[str, str]] = {}
        self._identity: dict[str, str] = {}
        self._given: dict[str, list[str]] = {}
        self._current: dict[str, str] = {}

    def feed(self, line: Line) -> bool:
        """A message of one thread."""
        found = _MESSAGE.match(line.text) if "[" in line.text[:20] else None
        thread, text = (found[1], found[2]) if found else ("", line.text)  # the journal keeps threads apart
        if not text.startswith(_STARTS):
            return False
        if received := _RECEIVED.match(text):
            self._sender[thread] = (received[1], received[2])
            self._current.pop(thread, None)
            return False
        return (
            self._up(thread, text, line)
            or self._child(thread, text, line)
            or self._down(thread, text, line)
            or self._told(thread, text, line)
        )

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The sessions."""
        return self._ledger.sessions(), []

    def _up(self, thread: str, text: str, line: Line) -> bool:
        found = _UP.match(text)
        if found is None:
            return False
        number, host = found[2], found[3]
        sender, port = self._sender.get(thread, ("", ""))
        where = endpoint(host, port if sender == host else "")
        user = self._identity.pop(thread, "") or found[4]
        self._current[thread] = number
        rekeyed = next(
            (n for n, e in self._ledger.open.items() if (e.user, e.endpoint) == (user, where)), None
        )
        if rekeyed is not None:  # its successor is up before it is deleted
            self._ledger.open[number] = self._ledger.open.pop(rekeyed)
            return True
        entry = self._ledger.begin(number, line)
        entry.user = user
        entry.move(where)
        entry.assign(*self._given.pop(thread, ()))
        return True

    def _child(self, thread: str, text: str, line: Line) -> bool:
        if found := _CHILD.match(text):
            entry = self._ledger.open.get(self._current.get(thread, ""))
            if entry is None:
                return False
            entry.last_ns = line.ts_ns
            entry.assign(*(host_route(each.partition("[")[0]) for each in found[3].split()))
            return True
        if found := _CLOSING.match(text):
            entry = self._ledger.open.get(self._current.get(thread, ""))
            if entry is None:
                named = [e for e in self._ledger.open.values() if e.user == found[1]]
                entry = named[0] if len(named) == 1 else None
            if entry is None:
                return False
            entry.received_bytes = (entry.received_bytes or 0) + (count(found[2]) or 0)
            entry.sent_bytes = (entry.sent_bytes or 0) + (count(found[3]) or 0)
            return True
        return False

    def _down(self, thread: str, text: str, line: Line) -> bool:
        if found := _DOWN.match(text):
            return self._ledger.close(found[2], line) is not None
        if _STOPPED.match(text):
            return self._ledger.close_all(line)
        return False

    def _told(self, thread: str, text: str, line: Line) -> bool:
        if found := _IDENTITY.match(text):
            self._identity[thread] = found[1]
            return True
        if found := _ASSIGNED.match(text):
            entry = self._ledger.open.get(self._current.get(thread, ""))
            if entry is not None:
                entry.assign(address(found[1]))
            else:
                self._given.setdefault(thread, []).append(address(found[1]))
            return True
        return False
