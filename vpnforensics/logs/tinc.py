"""tinc 1.0 and 1.1 at debug level 1 and above: meta connections between nodes.

Source: ``src/protocol_auth.c``, ``connection.c``, ``net.c`` of tinc; recorded from 1.0.36. The port is the
one of the meta connection over TCP; the tunnel's UDP comes from another, of the same address.
"""

from __future__ import annotations

import re
from typing import ClassVar

from vpnforensics.logs.ledger import Ledger, Line
from vpnforensics.logs.session import Session, Translation, endpoint

_STARTS = ("Connection ", "Closing ", "Terminating")  # a look is quicker than three matches
_UP = re.compile(r"Connection with (\S+) \((\S+) port (\d+)\) activated")
_DOWN = re.compile(r"(?:Closing connection with|Connection closed by) (\S+) \((\S+) port (\d+)\)")
_STOPPED = re.compile(r"Terminating$")


class Tinc:
    """Sessions by node and meta connection."""

    name: ClassVar[str] = "tinc"
    programs: ClassVar[tuple[str, ...]] = ("tincd", "tinc")
    dated: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self._ledger = Ledger(self.name, path)

    def feed(self, line: Line) -> bool:
        """A meta connection up, down, or the daemon ended."""
        if not line.text.startswith(_STARTS):
            return False
        if up := _UP.match(line.text):
            entry = self._ledger.begin((up[1], up[2], up[3]), line)
            entry.user = up[1]
            entry.move(endpoint(up[2], up[3]))
            return True
        if down := _DOWN.match(line.text):
            return self._ledger.close((down[1], down[2], down[3]), line) is not None
        return bool(_STOPPED.match(line.text)) and self._ledger.close_all(line)

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The sessions."""
        return self._ledger.sessions(), []
