"""The usage log that a VPN operator may keep, and that privacy services promise not to: off by default.

One JSON object a line: ``connect``, ``disconnect``, ``roam``; with the peer's public key, outer endpoint,
inner addresses, and on disconnect the bytes carried. With the log off this module is never constructed, and
nothing about a peer reaches a disk.

A peer can move as often as it likes, so of its moves within `ROAM_S` one line tells, with their number. A
disk that takes no more stops no traffic: what could not be written is counted.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.events import Connected, Disconnected, Moved
from vpnforensics.reftunnel.files import log_file
from vpnforensics.reftunnel.peers import Peer

ROAM_S = 10
_ROAM_NS = ROAM_S * 1_000_000_000
_BEGINNING = b'{"ts_ns": '


@dataclass(slots=True)
class _Roams:
    """Moves of a peer that no line tells of yet."""

    count: int = 0
    old: Endpoint | None = None
    written_ns: int = -_ROAM_NS

    def add(self, old: Endpoint | None) -> None:
        if not self.count:
            self.old = old
        self.count += 1


class UsageLog:
    """Writes events of peers to a file, line by line.

    Parameters
    ----------
    path : Path
        Appended to, if it is a usage log; a new one is for its owner only.

    Raises
    ------
    TunnelError
        The file cannot be opened, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self._fd = log_file(path, "the usage log", _BEGINNING)
        self._since_ns: dict[Peer, int] = {}
        self._base: dict[Peer, tuple[int, int]] = {}
        self._roams: dict[Peer, _Roams] = {}
        self._is_torn = False
        self.lost_lines = 0
        """What could not be written."""

    def note(self, event: Connected | Moved | Disconnected, wall_ns: int) -> None:
        """Write an event, if it is one that a log keeps: a rekey is not."""
        peer = event.peer
        if isinstance(event, Connected):
            if peer not in self._since_ns:
                self._since_ns[peer] = wall_ns
                self._base[peer] = (peer.traffic.received_bytes, peer.traffic.sent_bytes)
                self._write(wall_ns, "connect", peer)
        elif isinstance(event, Moved):
            if peer in self._since_ns:
                self._roams.setdefault(peer, _Roams()).add(event.old)
                self.tick(wall_ns)
        else:
            self._disconnect(peer, wall_ns)

    def tick(self, wall_ns: int) -> None:
        """Write of the moves that waited what is due."""
        for peer, roams in self._roams.items():
            if roams.count and not 0 <= wall_ns - roams.written_ns < _ROAM_NS:
                self._write_roams(peer, roams, wall_ns)

    def close(self, wall_ns: int) -> None:
        """Write the end of every connection that is still up."""
        for peer in list(self._since_ns):
            self._disconnect(peer, wall_ns)
        os.close(self._fd)

    def _write_roams(self, peer: Peer, roams: _Roams, wall_ns: int) -> None:
        self._write(wall_ns, "roam", peer, old_endpoint=str(roams.old), moves=roams.count)
        roams.count, roams.written_ns = 0, wall_ns

    def _disconnect(self, peer: Peer, wall_ns: int) -> None:
        since_ns = self._since_ns.pop(peer, None)
        if since_ns is None:
            return
        roams = self._roams.pop(peer, None)
        if roams is not None and roams.count:
            self._write_roams(peer, roams, wall_ns)
        received, sent = self._base.pop(peer)
        self._write(
            wall_ns,
            "disconnect",
            peer,
            since_ns=since_ns,
            received_bytes=peer.traffic.received_bytes - received,
            sent_bytes=peer.traffic.sent_bytes - sent,
        )

    def _write(self, wall_ns: int, event: str, peer: Peer, **more: Any) -> None:
        row = {
            "ts_ns": wall_ns,
            "event": event,
            "peer": str(peer.config.public_key),
            "endpoint": None if peer.endpoint is None else str(peer.endpoint),
            "addresses": [str(network) for network in peer.config.allowed_ips],
            **more,
        }
        line = json.dumps(row).encode() + b"\n"
        if self._is_torn:
            line = b"\n" + line  # the beginning of an earlier one is on the disk
        try:
            written = os.write(self._fd, line)
        except OSError:
            self.lost_lines += 1
            return
        self._is_torn = written < len(line)
        self.lost_lines += self._is_torn
