"""OpenVPN's server log: what it writes to standard output, ``--log`` or syslog at ``verb 3`` and above.

Source: ``src/openvpn/multi.c``, ``ssl.c``, ``forward.c`` of OpenVPN 2.4 to 2.6; recorded from 2.6.
"""

from __future__ import annotations

import re
from typing import ClassVar

from vpnforensics.logs.ledger import Ledger, Line
from vpnforensics.logs.session import Session, Translation, address, split_endpoint

_WHERE = r"(?:\[AF_INET6?\])?(\S+)"
_INITIATED = re.compile(rf"\S* ?\[(.*?)\] Peer Connection Initiated with {_WHERE}")
_LEARNED = re.compile(r"(.*)/(\S+) MULTI: (?:Learn: (\S+) -> |primary virtual IP(?:v6)? for \S+: (\S+))")
_ENDED = re.compile(r"(?:(.*)/)?(\S+) SIG\w+\[[^\]]*\] received, client-instance (?:exiting|restarting)")
_STOPPED = re.compile(r"SIG\w+\[[^\]]*\] received, process (?:exiting|restarting)")
_FLOATED = re.compile(rf"(?:(.*)/)?(\S+) peer \d+ \((.*)\) floated from {_WHERE} to {_WHERE}")
_LOGGED_IN = re.compile(
    r"(?:.*/)?(\S+) TLS: Username/Password authentication (?:succeeded|deferred) for username '(.*?)'"
)


class OpenVpn:
    """Sessions by the client's endpoint, which every line of a client begins with."""

    name: ClassVar[str] = "openvpn"
    programs: ClassVar[tuple[str, ...]] = ("openvpn", "ovpn")
    dated: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self._ledger = Ledger(self.name, path)
        self._logged_in: dict[str, str] = {}

    def feed(self, line: Line) -> bool:
        """Connection initiated, address learnt, client moved, instance ended, process ended."""
        text = line.text
        if " Peer Connection Initiated with " in text:
            return self._initiated(line)
        if " MULTI: " in text:
            found = _LEARNED.match(text)
            where = split_endpoint(found[2]) if found else ""
            if not found or where not in self._ledger.open:
                return False
            self._ledger.tell(where, line).assign(address(found[3] or found[4]))
            return True
        if "SIG" in text and " received, " in text:
            return self._ended(line)
        if " floated from " in text:
            return self._floated(line)
        if " authentication " in text and (found := _LOGGED_IN.match(text)):
            self._logged_in[split_endpoint(found[1])] = found[2]
            return True
        return False

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The sessions."""
        return self._ledger.sessions(), []

    def _initiated(self, line: Line) -> bool:
        found = _INITIATED.match(line.text)
        where = split_endpoint(found[2]) if found else ""
        if not found or not where:
            return False
        entry = self._ledger.begin(where, line)
        entry.user = found[1] or self._logged_in.pop(where, "")
        entry.move(where)
        return True

    def _ended(self, line: Line) -> bool:
        if found := _ENDED.match(line.text):
            return self._ledger.close(split_endpoint(found[2]), line) is not None
        return bool(_STOPPED.match(line.text)) and self._ledger.close_all(line)

    def _floated(self, line: Line) -> bool:
        found = _FLOATED.match(line.text)
        if not found:
            return False
        before, after = split_endpoint(found[4]), split_endpoint(found[5])
        entry = self._ledger.tell(before, line)
        entry.user = entry.user or found[3]
        entry.move(before)
        entry.move(after)
        self._ledger.open[after] = self._ledger.open.pop(before)
        return True
