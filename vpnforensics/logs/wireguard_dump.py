"""``wg show INTERFACE dump``, or of all, taken again and again, each behind a line with its time.

Columns of a peer: public key, preshared key, endpoint, allowed addresses, latest handshake (seconds since the
epoch), bytes received and sent, keepalive. Source: ``wg(8)``; ``src/show.c`` of wireguard-tools; recorded
from 1.0.20210914. The dump holds the interface's private key: it is read over, and never kept.

WireGuard has no sessions. Here one begins with a handshake, lasts as long as the next comes before keys
expire, and ends with the last dump in which bytes were counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from vpnforensics.logs.ledger import Entry, Ledger, Line
from vpnforensics.logs.session import Session, Translation, count, host_route, seconds_ns, split_endpoint

_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")
_PEER_COLUMNS, _INTERFACE_COLUMNS = 8, 4
_NS = 1_000_000_000
KEYS_LAST_NS = 180 * _NS
"""Reject-After-Time (WireGuard, Donenfeld 2017, 6.1): without a new handshake nothing passes any more."""


@dataclass(slots=True)
class _Peer:
    """What the last dump said of a peer."""

    handshake_s: int
    received_bytes: int
    sent_bytes: int
    counted_ns: int
    base: tuple[int, int] = (0, 0)


class WireGuardDump:
    """Sessions by interface and peer."""

    name: ClassVar[str] = "wireguard-dump"
    programs: ClassVar[tuple[str, ...]] = ("wg",)
    dated: ClassVar[bool] = False

    def __init__(self, path: str) -> None:
        self._ledger = Ledger("wireguard", path)
        self._peers: dict[tuple[str, str], _Peer] = {}

    def feed(self, line: Line) -> bool:
        """One line of a dump."""
        cells = line.raw.split("\t")
        interface = ""
        if len(cells) in (_PEER_COLUMNS + 1, _INTERFACE_COLUMNS + 1):
            interface, *cells = cells
        if len(cells) == _INTERFACE_COLUMNS:
            return all(_KEY.fullmatch(key) or key == "(none)" for key in cells[:2])
        if len(cells) != _PEER_COLUMNS or not _KEY.fullmatch(cells[0]):
            return False
        if any(count(cell) is None for cell in cells[5:7]) or seconds_ns(cells[4]) is None:
            return False
        self._seen((interface, cells[0]), cells, line)
        return True

    def end(self) -> tuple[list[Session], list[Translation]]:
        """The sessions; one whose keys had expired by the last dump has ended."""
        return self._ledger.sessions(), []

    def _seen(self, key: tuple[str, str], cells: list[str], line: Line) -> None:
        handshake_s, received, sent = map(int, cells[4:7])
        before, now_ns = self._peers.get(key), max(line.ts_ns, handshake_s * _NS)
        now = Line(line.number, now_ns, "", "", line.ns_of)
        entry = self._ledger.open.get(key)
        if handshake_s and (before is None or handshake_s != before.handshake_s):
            entry = self._handshake(key, before, handshake_s, (received, sent), now)
        counted = before is None or (received, sent) != (before.received_bytes, before.sent_bytes)
        peer = _Peer(handshake_s, received, sent, now_ns if counted or before is None else before.counted_ns)
        peer.base = before.base if before is not None else (0, 0)
        if received < peer.base[0] or sent < peer.base[1]:  # the interface was set up anew
            peer.base = (0, 0)
        self._peers[key] = peer
        if entry is None:
            return
        entry.user = key[1]
        entry.move(split_endpoint(cells[2]))
        entry.assign(*map(host_route, cells[3].split(",")))
        entry.received_bytes, entry.sent_bytes = received - peer.base[0], sent - peer.base[1]
        entry.last_ns = max(entry.last_ns, peer.counted_ns)
        if now_ns > handshake_s * _NS + KEYS_LAST_NS:
            self._ledger.close(key, now, at_ns=peer.counted_ns)
            peer.base = (received, sent)

    def _handshake(
        self, key: tuple[str, str], before: _Peer | None, handshake_s: int, counts: tuple[int, int], now: Line
    ) -> Entry:
        """A handshake that the dump before did not have: a session's first, or one in it."""
        if key in self._ledger.open:
            return self._ledger.tell(key, now)
        if before is None and counts[0] and now.ts_ns > handshake_s * _NS + _NS * 2:
            entry = self._ledger.tell(key, now)  # what was before the first dump is not known
            entry.first_ns = handshake_s * _NS
            return entry
        return self._ledger.begin(key, now, at_ns=handshake_s * _NS)
