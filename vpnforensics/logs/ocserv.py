"""ocserv's log in syslog or the journal.

Source: ``src/main-misc.c``, ``main-auth.c``, ``worker-vpn.c`` of ocserv; recorded from 1.1.6. Every message
of ``main`` names the user and the client's TCP endpoint; leases show in the worker's messages.
"""

from __future__ import annotations

import re
from typing import ClassVar

from vpnforensics.logs.ledger import Ledger, Line
from vpnforensics.logs.session import Session, Translation, address, count, split_endpoint

_STARTS = ("main", "worker", "ocserv[")  # most lines are of others, and a look is quicker than a match
_MAIN = re.compile(r"(?:ocserv\[\d+\]: )?main\[(.*?)\]: ?(\S+) (.*)")
_WORKER = re.compile(r"(?:ocserv\[\d+\]: )?worker\[(.*?)\]: ?(\S+) (.*)")
_GONE = re.compile(r"user disconnected \(reason: (.*), rx: (\d+), tx: (\d+)\)")
_STOPPED = re.compile(r"(?:ocserv\[\d+\]: )?main: termination request received")
_GIVEN = re.compile(
    r"(?:sending|suggesting) IPv[46] (\S+)|Address: (\S+)|assigned IPv[46](?: to '.*')?: (\S+)"
)


class Ocserv:
    """Sessions by user and TCP endpoint."""

    name: ClassVar[str] = "ocserv"
    programs: ClassVar[tuple[str, ...]] = ("ocserv", "ocserv-main", "ocserv-worker")
    dated: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self._ledger = Ledger(self.name, path)

    def feed(self, line: Line) -> bool:
        """A message of ``main`` or of a client's worker."""
        if not line.text.startswith(_STARTS):
            return False
        found = _MAIN.match(line.text)
        if found is not None:
            return self._main(found[1], split_endpoint(found[2].rstrip(":")), found[3], line)
        if _STOPPED.match(line.text):
            return self._ledger.close_all(line)
        found = _WORKER.match(line.text)
        return found is not None and self._worker(found[1], address(found[2]), found[3], line)

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The sessions."""
        return self._ledger.sessions(), []

    def _main(self, user: str, where: str, text: str, line: Line) -> bool:
        key = (user, where)
        if text.startswith("user logged in"):
            entry = self._ledger.begin(key, line)
            entry.user = user
            entry.move(where)
            return True
        if gone := _GONE.match(text):
            if key not in self._ledger.open and not user:
                return False  # nobody had logged in
            entry = self._ledger.tell(key, line)
            entry.user = user
            entry.move(where)
            entry.received_bytes, entry.sent_bytes = count(gone[2]), count(gone[3])
            self._ledger.close(key, line)
            return True
        given = _GIVEN.search(text)
        if given is not None and key in self._ledger.open:
            self._ledger.tell(key, line).assign(address(given[1] or given[2] or given[3]))
            return True
        return False

    def _worker(self, user: str, host: str, text: str, line: Line) -> bool:
        given = _GIVEN.search(text)
        if given is None:
            return False
        entries = [
            entry for entry in self._ledger.open.values() if entry.user == user and host in entry.endpoint
        ]
        for entry in entries[-1:]:
            entry.assign(address(given[1] or given[2] or given[3]))
        return bool(entries)
