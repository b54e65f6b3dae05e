"""Where a relay in clear was asked to connect to: host and port, from the first bytes of a connection.

SOCKS5: version, command, 0, address type, address, port (RFC 1928, 4). SOCKS4: version, command, port,
address (the SOCKS 4 protocol, as its authors wrote it down). CONNECT: host, colon, port (RFC 9110, 9.3.6). A
host stays the bytes that named it: whether two are alike is what is asked. A packet table keeps 32 bytes of
each payload, so that of longer names the beginning is known, and no port.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable

_SOCKS5, _SOCKS4, _CONNECT = 5, 4, b"CONNECT "
_IPV4, _NAME, _IPV6 = 1, 3, 4
_FIRST_PACKETS = 16
_MOST_PORT = 65535
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Destination:
    """What was asked for."""

    host: bytes
    port: int
    """:data:`UNKNOWN` where it was cut off."""


def destinations(
    conversations: FlowTable, numbers: npt.NDArray[np.integer], forward: npt.NDArray[np.bool_]
) -> dict[int, Destination]:
    """The destination of each conversation that asks for one.

    Parameters
    ----------
    conversations : FlowTable
    numbers : ndarray of integers
        Which conversations.
    forward : ndarray of bool, shape (conversations,)
        Whether the flow table's client is one.
    """
    packets, found = conversations.packets, {}
    for number in numbers.tolist():
        rows = conversations.rows_of(number)[:_FIRST_PACKETS]
        asked = rows[(packets.payload_bytes[rows] > 0) & (conversations.up[rows] == forward[number])]
        for row in asked.tolist():
            head = packets.head[row, : packets.payload_bytes[row]].tobytes()
            destination = requested(head)
            if destination is not None:
                found[number] = destination
                break
    return found


def requested(head: bytes) -> Destination | None:
    """What a payload that begins so asks for; ``None`` where it is no request."""
    if head.startswith(_CONNECT):
        target, ended, _ = head[len(_CONNECT) :].partition(b" ")
        host, _, port = target.rpartition(b":")
        whole = bool(ended) and port.isdigit() and int(port) <= _MOST_PORT
        return Destination(host or target, int(port) if whole else UNKNOWN)
    if len(head) >= 9 and head[0] == _SOCKS4 and head[1] in (1, 2):
        return Destination(head[4:8], int.from_bytes(head[2:4], "big"))
    if len(head) < 10 or head[0] != _SOCKS5 or head[1] != 1 or head[2] != 0:
        return None
    at, size = {_IPV4: (4, 4), _IPV6: (4, 16), _NAME: (5, head[4])}.get(head[3], (0, 0))
    host, port = head[at : at + size], head[at + size : at + size + 2]
    if not size:
        return None
    return Destination(host, int.from_bytes(port, "big") if len(port) == 2 else UNKNOWN)
