"""OpenVPN's server log: what it writes to standard output, ``--log`` or syslog at ``verb 3`` and above.

Source: ``src/openvpn/multi.c``, ``ssl.c``, ``forward.c`` of OpenVPN 2.4 to 2.6; recorded from 2.6.
"""

from __future__ import annotations

import re
from typing import ClassVar

from vpnforensics.logs.ledger import Ledger, Line
from vpnforensics.logs.session import Session, Translation, address, split_endpoint

_INITIATED = " Peer Connection Initiated with "
_MULTI, _FLOATED, _LOGIN = " MULTI: ", " floated from ", " TLS: Username/Password authentication "
_LEARNED = re.compile(r"(?:Learn: (\S+) -> |primary virtual IP(?:v6)? for \S+: (\S+))")
_ENDED = re.compile(r"\w+\[[^\]]*\] received, client-instance (?:exiting|restarting)")
_STOPPED = re.compile(r"SIG\w+\[[^\]]*\] received, process (?:exiting|restarting)")
_LOGGED_IN = re.compile(r"(?:succeeded|deferred) for username '(.*?)'")


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
        if _INITIATED in text:
            return self._initiated(line)
        if _MULTI in text:
            head, _, rest = text.partition(_MULTI)
            found, where = _LEARNED.match(rest), _where(head)
            if not found or where not in self._ledger.open:
                return False
            self._ledger.tell(where, line).assign(address(found[1] or found[2]))
            return True
        if "SIG" in text and " received, " in text:
            return self._ended(line)
        if _FLOATED in text:
            return self._floated(line)
        if _LOGIN in text:
            head, _, rest = text.partition(_LOGIN)
            if found := _LOGGED_IN.match(rest):
                self._logged_in[_where(head)] = found[1]
                return True
        return False

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The sessions."""
        return self._ledger.sessions(), []

    def _initiated(self, line: Line) -> bool:
        """``ADDRESS [NAME] Peer Connection Initiated with [AF_INET]ADDRESS``."""
        head, _, rest = line.text.partition(_INITIATED)
        where = _address(rest)
        if not where or not head.endswith("]"):
            return False
        entry = self._ledger.begin(where, line)
        entry.user = head[head.find("[") + 1 : -1] or self._logged_in.pop(where, "")
        entry.move(where)
        return True

    def _ended(self, line: Line) -> bool:
        """``NAME/ADDRESS SIGUSR1[...] received, client-instance restarting``, or all of the process."""
        head, _, rest = line.text.partition(" SIG")
        if _ENDED.match(rest):
            return self._ledger.close(_where(head), line) is not None
        return bool(_STOPPED.match(line.text)) and self._ledger.close_all(line)

    def _floated(self, line: Line) -> bool:
        """``... peer 1 (NAME) floated from ADDRESS to [AF_INET]ADDRESS``."""
        head, _, rest = line.text.partition(_FLOATED)
        old, _, new = rest.partition(" to ")
        before, after = _address(old), _address(new)
        if not before or not after or not head.endswith(")"):
            return False
        entry = self._ledger.tell(before, line)
        entry.user = entry.user or head[head.rfind("(") + 1 : -1]
        entry.move(before)
        entry.move(after)
        self._ledger.open[after] = self._ledger.open.pop(before)
        return True


def _where(prefix: str) -> str:
    """The client that a line is about: ``NAME/ADDRESS``, or before it has a name, ``ADDRESS``."""
    return split_endpoint(prefix.rpartition("/")[2])


def _address(text: str) -> str:
    """The address that a text begins with."""
    return split_endpoint(text.partition(" ")[0].removeprefix("[AF_INET]").removeprefix("[AF_INET6]"))
