"""The Linux kernel's debug messages of WireGuard (``echo module wireguard +p > .../dynamic_debug/control``).

Source: ``drivers/net/wireguard/receive.c``, ``send.c``, ``noise.c``, ``timers.c``, ``peer.c`` of Linux. The
kernel names a peer by a number, not by its key; the number lasts as long as the peer is configured.
"""

from __future__ import annotations

import re
from typing import ClassVar

from vpnforensics.logs.ledger import Ledger, Line
from vpnforensics.logs.session import Session, Translation, split_endpoint
from vpnforensics.logs.wireguard_dump import KEYS_LAST_NS

_MESSAGE = re.compile(
    r"(?:.*?)wireguard: (\S+): (.*?) (?:from|to|for) peer (\d+)(?: \((\S+?)\))?(?:[ ,.].*)?$"
)
_GONE = re.compile(r"(?:.*?)wireguard: (\S+): (?:Peer (\d+) \((\S+?)\) destroyed|Interface destroyed)")
_LIVES = ("Receiving handshake", "Sending handshake response", "Receiving keepalive", "Keypair")


class WireGuardKernel:
    """Sessions by interface and peer: from a handshake until keys are zeroed, or none came for their time."""

    name: ClassVar[str] = "wireguard-kernel"
    programs: ClassVar[tuple[str, ...]] = ("kernel",)
    dated: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self._ledger = Ledger("wireguard", path)
        self._handshake_ns: dict[tuple[str, str], int] = {}

    def feed(self, line: Line) -> bool:
        """A message of the module."""
        if "wireguard: " not in line.text:
            return False
        found = _MESSAGE.match(line.text)
        if found is None:
            return self._gone(line)
        key, what = (found[1], found[3]), found[2]
        if what.startswith("Zeroing out all keys"):
            return self._ledger.close(key, line) is not None
        if not what.startswith(_LIVES) or (what.startswith("Keypair") and "created" not in what):
            return False
        self._expire(key, line)
        if what.startswith(("Receiving handshake", "Keypair")):
            self._handshake_ns[key] = line.ts_ns
        begins = what.startswith("Receiving handshake") and key not in self._ledger.open
        entry = self._ledger.begin(key, line) if begins else self._ledger.tell(key, line)
        entry.user = f"{found[1]} peer {found[3]}"
        entry.move(split_endpoint(found[4] or ""))
        return True

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The sessions."""
        return self._ledger.sessions(), []

    def _expire(self, key: tuple[str, str], line: Line) -> None:
        """Close a session whose keys had expired before this line: what comes is another."""
        entry = self._ledger.open.get(key)
        if entry is not None and line.ts_ns > self._handshake_ns.get(key, line.ts_ns) + KEYS_LAST_NS:
            self._ledger.close(key, line, at_ns=entry.last_ns)

    def _gone(self, line: Line) -> bool:
        found = _GONE.match(line.text)
        if found is None:
            return False
        keys = [key for key in self._ledger.open if key[0] == found[1] and found[2] in (None, key[1])]  # type: ignore[index]
        for key in keys:
            self._ledger.close(key, line)
        return bool(keys)
