"""Which TCP services are relays, or may be: what their connections open with.

A relay (a proxy, a tunnel through ssh, Tor) has no packets to know it by. In clear is, at most, how its
connections open:

==============  ======================================================================  ==============
protocol        opens with                                                              confidence
==============  ======================================================================  ==============
``socks5``      05, methods; 05, the chosen one (RFC 1928, 3)                           own shape
``socks4``      04, 01 or 02, port and address; 00, 5a (SOCKS 4 and 4A memos)           own shape
``http-proxy``  ``CONNECT host:port`` or a method with ``http://`` (RFC 9110, 9.3.6;    own shape
                RFC 9112, 3.2.2-3)
``tor``         TLS whose records hold whole cells: 514 k + 17 (tor-spec, 3; RFC 8446)  shaped
``ssh``         ``SSH-`` (RFC 4253, 4.2)                                                possible
``tls``         a TLS handshake (trojan, stunnel, HTTPS proxies; and the web)           possible
``stream``      nothing that is in clear (Shadowsocks, VMess)                           possible
==============  ======================================================================  ==============

What is only possible is a candidate: a file copy is ssh, too, and most TLS is the web. It becomes a tunnel
where its writes obey one of the protocol's write laws against the egress side of the case
(:mod:`vpnforensics.align.relays`), that is where its server plays a double role: many come in, and what they
bring goes out. Who only looks at an ingress capture cannot see that.

Connections joined in their middle have no opening; those of a service that has others are taken for the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable
from vpnforensics.flows.grouping import changes, runs
from vpnforensics.packets.table import PROTO_TCP
from vpnforensics.tunnels import stream, tls
from vpnforensics.tunnels.http_messages import METHODS
from vpnforensics.tunnels.protocol import (
    LIKENESS,
    OWN_SHAPE,
    POSSIBLE,
    SHAPED,
    Datagrams,
    be16,
    looks_sealed,
)
from vpnforensics.tunnels.write_law import CELL_BYTES
from vpnforensics.tunnels.writes import WriteTable

CONFIDENCE = {
    "socks5": OWN_SHAPE,
    "socks4": OWN_SHAPE,
    "http-proxy": OWN_SHAPE,
    "tor": SHAPED,
    "ssh": LIKENESS / 2,
    "tls": POSSIBLE / 2,
    "stream": POSSIBLE,
}
_TLS_EXTRA_BYTES = 17  # content type and tag of TLS 1.3
_LOOKED_AT = 256
"""Connections of a service that are looked at, and writes that are compared as ciphertext: the first ones."""
_LEAST_CELLS, _CELL_SHARE = 8, 0.7
"""So many of its records hold whole cells, but for the next. Of each connection, the handshake's five do not;
of another service's records, one in 514 looks as if it did."""
_CELL_CHUNK_BYTES = 4048
"""What Tor hands to TLS at once of more than that: a chunk of 4,096 bytes, less its header (tor 0.4.9,
src/lib/buf/buffers.c)."""
_LEAST_WRITES = 4
_MOSTLY = 0.5
"""More of a service's connections than that open alike: a first packet may be lost, or lie before the
capture."""


@dataclass(frozen=True, slots=True)
class Relay:
    """One service that relays, or may."""

    protocol: str
    server: int
    """Address id."""
    port: int
    connections: npt.NDArray[np.int64]
    """Their numbers in the flow table."""

    @property
    def confidence(self) -> float:
        """As :class:`~vpnforensics.tunnels.protocol.Recognition` has it."""
        return CONFIDENCE[self.protocol]


def find_relays(conversations: FlowTable, writes: WriteTable, forward: npt.NDArray[np.bool_]) -> list[Relay]:
    """The services among TCP conversations that relay or may, by their first connection.

    Parameters
    ----------
    conversations : FlowTable
    writes : WriteTable
        Of them, or some of them: only those are looked at.
    forward : ndarray of bool, shape (conversations,)
        Whether the flow table's client is one.
    """
    numbers = np.flatnonzero((conversations.proto == PROTO_TCP) & (np.diff(writes.start) > 0))
    server = np.where(forward, conversations.dst, conversations.src)
    server_port = np.where(forward, conversations.dport, conversations.sport)
    service = server[numbers].astype(np.int64) << 16 | server_port[numbers]
    order = np.argsort(service, kind="stable")
    first = np.flatnonzero(changes(service[order]))
    found = []
    for mine in np.split(numbers[order], first[1:]) if len(order) else ():
        protocol = _protocol(conversations, writes, mine, forward)
        if protocol:
            one = int(mine[0])
            found.append(Relay(protocol, int(server[one]), int(server_port[one]), mine))
    return sorted(found, key=lambda relay: int(relay.connections[0]))


def _protocol(
    conversations: FlowTable,
    writes: WriteTable,
    numbers: npt.NDArray[np.int64],
    forward: npt.NDArray[np.bool_],
) -> str:
    """What a service's connections open with, most of them; "" where that is no relay."""
    numbers = numbers[:_LOOKED_AT]
    _, rows = runs(writes.start[numbers], writes.start[numbers + 1])
    head = conversations.packets.head[writes.first_row[rows]]
    up = writes.up[rows] == forward[writes.connection[rows]]
    opens, size = writes.opens[rows], writes.size[rows]
    if len(rows) < _LEAST_WRITES or up.all() or not up.any():
        return ""
    asked, answered = (_Openings(head[opens & side], size[opens & side]) for side in (up, ~up))
    if asked.socks5() and answered.begins(b"\x05", size=2):
        return "socks5"
    if asked.socks4() and answered.begins(b"\x00\x5a", size=8):
        return "socks4"
    if asked.proxied():
        return "http-proxy"
    if asked.begins(stream.SSH_BANNER) or answered.begins(stream.SSH_BANNER):
        return "ssh"
    data = (head[:, 0] == tls.APPLICATION_DATA) & (head[:, 1] == 3)
    inside = be16(head[data], 3) - _TLS_EXTRA_BYTES
    cells = inside[inside != _CELL_CHUNK_BYTES] % CELL_BYTES == 0
    if len(cells) >= _LEAST_CELLS and cells.mean() >= _CELL_SHARE:
        return "tor"
    if asked.begins(b"\x16\x03") or (not len(asked.head) and data.mean() > 0.5):
        return "tls"
    some = slice(0, _LOOKED_AT)
    sample = Datagrams(size[some].astype(np.int32), head[some], up[some], PROTO_TCP, (0, 0))
    return "stream" if looks_sealed(sample, 0) and looks_sealed(sample, 8) is not False else ""


@dataclass(frozen=True, eq=False)
class _Openings:
    """First writes of one direction of a service's connections."""

    head: npt.NDArray[np.uint8]
    size: npt.NDArray[np.int64]

    def begins(self, text: bytes, *, size: int = 0) -> bool:
        """Whether most begin so, and are so long."""
        like = (self.head[:, : len(text)] == np.frombuffer(text, np.uint8)).all(axis=1)
        return _most(like & (self.size == size) if size else like)

    def socks5(self) -> bool:
        """Version 5, a number of methods, and so many."""
        head = self.head
        return _most((head[:, 0] == 5) & (head[:, 1] > 0) & (self.size == 2 + head[:, 1].astype(np.int64)))

    def socks4(self) -> bool:
        """Version 4, a command, a port and an address, a user."""
        return _most((self.head[:, 0] == 4) & np.isin(self.head[:, 1], (1, 2)) & (self.size >= 9))

    def proxied(self) -> bool:
        """Requests with the whole address."""
        texts = [row.tobytes() for row in self.head]
        whole = [
            t.startswith(b"CONNECT ") or t.startswith(tuple(m + b" http://" for m in METHODS)) for t in texts
        ]
        return _most(np.array(whole, np.bool_))


def _most(flags: npt.NDArray[np.bool_]) -> bool:
    return bool(len(flags)) and bool(flags.mean() > _MOSTLY)
