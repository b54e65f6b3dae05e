"""OpenSSH's server at its default level, in syslog, the journal or ``sshd -e``.

Source: ``auth.c``, ``packet.c``, ``session.c`` of OpenSSH portable; recorded from 9.2. A process serves one
connection; its number, or the client's endpoint, ties what it says together.
"""

from __future__ import annotations

import re
from typing import ClassVar

from vpnforensics.logs.ledger import Ledger, Line
from vpnforensics.logs.session import Session, Translation, endpoint

_STARTS = ("Accepted ", "Disconnected ", "Connection ", "Received ", "Timeout, ")  # quicker than two matches
_ACCEPTED = re.compile(r"Accepted \S+ for (.+) from (\S+) port (\d+)(?: ssh2)?")
_GONE = re.compile(
    r"(?:Disconnected from|Connection closed by|Connection reset by|Received disconnect from"
    r"|Timeout, client not responding from)(?: (?:authenticating |invalid )?user .+?)? (\S+) port (\d+)"
)


class Sshd:
    """Sessions by endpoint."""

    name: ClassVar[str] = "sshd"
    programs: ClassVar[tuple[str, ...]] = ("sshd", "sshd-session")
    dated: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self._ledger = Ledger(self.name, path)

    def feed(self, line: Line) -> bool:
        """Somebody was let in, or has gone."""
        if not line.text.startswith(_STARTS):
            return False
        if found := _ACCEPTED.match(line.text):
            where = endpoint(found[2], found[3])
            if not where:
                return False
            entry = self._ledger.begin(where, line)
            entry.user = found[1]
            entry.move(where)
            return True
        if found := _GONE.match(line.text):
            return self._ledger.close(endpoint(found[1], found[2]), line) is not None
        return False

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The sessions."""
        return self._ledger.sessions(), []
