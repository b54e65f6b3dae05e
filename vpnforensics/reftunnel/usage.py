"""The usage log that a VPN operator may keep, and that privacy services promise not to: off by default.

One JSON object a line: ``connect``, ``disconnect``, ``roam``; with the peer's public key, outer endpoint,
inner addresses, and on disconnect the bytes carried. With the log off this module is never constructed, and
nothing about a peer reaches a disk.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vpnforensics.reftunnel.events import Connected, Disconnected, Moved
from vpnforensics.reftunnel.files import log_file
from vpnforensics.reftunnel.peers import Peer

_BEGINNING = b'{"ts_ns": '


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
        self._file = os.fdopen(
            log_file(path, "the usage log", _BEGINNING), "a", encoding="utf-8", buffering=1
        )
        self._since_ns: dict[Peer, int] = {}
        self._base: dict[Peer, tuple[int, int]] = {}

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
                self._write(wall_ns, "roam", peer, old_endpoint=str(event.old))
        else:
            self._disconnect(peer, wall_ns)

    def close(self, wall_ns: int) -> None:
        """Write the end of every connection that is still up."""
        for peer in list(self._since_ns):
            self._disconnect(peer, wall_ns)
        self._file.close()

    def _disconnect(self, peer: Peer, wall_ns: int) -> None:
        since_ns = self._since_ns.pop(peer, None)
        if since_ns is None:
            return
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
        self._file.write(json.dumps(row) + "\n")
