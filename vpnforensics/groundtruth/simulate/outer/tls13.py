"""What rides in TLS 1.3 (RFC 8446): trojan's connections, and Tor's cells.

A record of application data is 5 bytes in clear, content, its type and a tag of 16: n + 22 on the wire.
Handshakes have the lengths of OpenSSL's, as the lab recorded them, with an EC certificate.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vpnforensics.groundtruth.simulate.outer import tls
from vpnforensics.groundtruth.simulate.outer.datagrams import DOWN, UP, Bytes, Control, Ints, put

RECORD_BYTES: Final = 5 + 1 + 16
CHUNK_BYTES: Final = 16_384
CLOSE_BYTES: Final = 2 + RECORD_BYTES  # the alert close_notify
CELL_BYTES: Final = 514  # link protocol 4 and later: 4 bytes of circuit, 1 of command, 509 (tor-spec, 3)
CELL_CONTENT_BYTES: Final = 498  # 509 less the header of a relay cell (tor-spec, 6.1)
CELLS_A_RECORD: Final = 31  # 16 KiB
SENDME_AFTER_BYTES: Final = CELLS_A_RECORD * CELL_CONTENT_BYTES - 1
"""With congestion control (proposal 324) the receiver of 31 cells says so."""
_MS = 1_000_000


def header(length: Ints, counter: Ints) -> Bytes:
    """Of records of application data."""
    head = np.zeros((len(length), 5), np.uint8)
    head[:, 0] = tls.APPLICATION
    head[:, 1] = head[:, 2] = 3
    put(head, 3, length - 5, 2, "big")
    return head


def _records(side: int, wait_ns: int, *lengths: int) -> list[Control]:
    """Encrypted records, sent together."""
    waits = [wait_ns] + [0] * (len(lengths) - 1)
    heads = (tls.record(tls.APPLICATION, b"", length) for length in lengths)
    return [Control(side, w, n, h) for w, n, h in zip(waits, lengths, heads, strict=True)]


def handshake(random: np.random.Generator) -> list[Control]:
    """One round trip: hellos, then the certificate hidden, and the client's Finished."""
    client, server = tls.hello(random, UP, 508), tls.hello(random, DOWN, 118)
    change = tls.record(tls.CHANGE_CIPHER, b"\x01", 6)
    return [
        Control(UP, 0, 517, tls.record(tls.HANDSHAKE, client, 517)),
        Control(DOWN, _MS, 127, tls.record(tls.HANDSHAKE, server, 127)),
        Control(DOWN, 0, 6, change),
        *_records(DOWN, 0, 28, 442, 101, 74),
        Control(UP, _MS, 6, change),
        *_records(UP, 0, 74),
    ]


def trojan_request_bytes(name: int) -> int:
    """Hex digest of the password, CRLF, command, address, port, CRLF; no record of its own."""
    return 56 + 2 + 1 + (1 + 1 + name + 2) + 2


def link_set_up(random: np.random.Generator) -> list[Control]:
    """TLS; a link of Tor (VERSIONS; CERTS, AUTH_CHALLENGE, NETINFO; NETINFO); a circuit of three hops."""
    cell = RECORD_BYTES + CELL_BYTES
    link = [
        *_records(UP, _MS, RECORD_BYTES + 13),
        *_records(DOWN, _MS, RECORD_BYTES + 13 + 900 + 45 + CELL_BYTES),
        *_records(UP, _MS, cell),
    ]
    hop = [*_records(UP, _MS, cell), *_records(DOWN, 2 * _MS, cell)]
    circuit = 3 * hop
    return handshake(random) + link + circuit
