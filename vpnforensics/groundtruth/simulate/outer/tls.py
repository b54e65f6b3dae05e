"""TLS and DTLS records with well-formed hellos (RFC 8446, RFC 6347), for tunnels that ride in them."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from vpnforensics.groundtruth.simulate.outer.datagrams import (
    CONTROL,
    DATA,
    DOWN,
    HEAD_BYTES,
    KEEPALIVE,
    UP,
    Control,
    Datagrams,
    Endpoint,
    Framed,
    add_set_up,
    idle_gaps,
    put,
    ranks,
    tap_times,
    write_control,
)

HANDSHAKE, APPLICATION, CHANGE_CIPHER = 22, 23, 20
DTLS_OVERHEAD_BYTES: Final = 38  # record header 13, explicit nonce 8, CSTP type 1, tag 16
DPD_NS: Final = 30_000_000_000
_HELLO: Final = {UP: 1, DOWN: 2}


def hello(random: np.random.Generator, side: int, body_bytes: int) -> bytes:
    """A ClientHello or ServerHello of TLS 1.2, filled up to ``body_bytes`` by a padding extension."""
    if side == UP:
        body = b"\x03\x03" + random.bytes(32) + b"\x20" + random.bytes(32)
        body += struct.pack(">HHH", 4, 0xC02C, 0xC030) + b"\x01\x00"
    else:
        body = b"\x03\x03" + random.bytes(32) + b"\x20" + random.bytes(32) + b"\xc0\x2c\x00"
    padding = body_bytes - len(body) - 6
    body += struct.pack(">HHH", padding + 4, 21, padding) + bytes(padding)
    return bytes([_HELLO[side]]) + len(body).to_bytes(3, "big") + body


def record(kind: int, content: bytes, length: int) -> bytes:
    """A TLS record of ``length`` bytes, of which ``content`` is known."""
    return struct.pack(">BHH", kind, 0x0303, length - 5) + content


def set_up(random: np.random.Generator) -> list[Control]:
    """A TLS handshake, then an HTTPS log-in, as AnyConnect and SSTP begin."""
    ms = 1_000_000
    client, server = hello(random, UP, 240), hello(random, DOWN, 90)
    return [
        Control(UP, ms, 5 + len(client), record(HANDSHAKE, client, 5 + len(client))),
        Control(DOWN, ms, 5 + len(server), record(HANDSHAKE, server, 5 + len(server))),
        Control(DOWN, 0, 1800, record(APPLICATION, b"", 1800)),
        Control(UP, 2 * ms, 64, record(APPLICATION, b"", 64)),
        Control(UP, 3 * ms, 620, record(APPLICATION, b"", 620)),
        Control(DOWN, 4 * ms, 930, record(APPLICATION, b"", 930)),
        Control(UP, 6 * ms, 710, record(APPLICATION, b"", 710)),
        Control(DOWN, 4 * ms, 1210, record(APPLICATION, b"", 1210)),
    ]


def _dtls_set_up(random: np.random.Generator) -> list[Control]:
    ms = 1_000_000

    def message(side: int, number: int, length: int, wait_ns: int) -> Control:
        # Encrypted from the start (a resumed session over the control channel's keys): records of epoch 1.
        head = struct.pack(">BHHHIH", HANDSHAKE, 0xFEFD, 1, 0, number, length - 13)
        return Control(side, wait_ns, length, head)

    return [message(UP, 0, 61, 0), message(DOWN, 0, 61, ms)]


def frame_dtls(datagrams: Datagrams, end: Endpoint) -> tuple[Datagrams, Framed]:
    """AnyConnect's data channel: one DTLS 1.2 record a packet, a dead-peer probe after 30 s of silence.

    The TLS control connection beside it is not simulated.
    """
    datagrams, script, ready_ns = add_set_up(datagrams, end, _dtls_set_up(end.random))
    for side in (UP, DOWN):
        sent = np.sort(datagrams.sent_ns[(datagrams.side == side) & (datagrams.kind == DATA)])
        probes = idle_gaps(sent[sent > ready_ns], DPD_NS, ready_ns, end.end_ns)
        datagrams = datagrams.with_own(side, probes, tap_times(end, side, probes), KEEPALIVE, 0)
    datagrams = datagrams.ordered()
    n = len(datagrams)
    head = np.zeros((n, HEAD_BYTES), np.uint8)
    control = datagrams.kind == CONTROL
    length = np.where(control, datagrams.size, datagrams.size + DTLS_OVERHEAD_BYTES)
    counter = ranks(~control, datagrams.side) + 1
    head[:, 0] = APPLICATION
    head[:, 1], head[:, 2] = 0xFE, 0xFD
    put(head, 3, np.ones(n, np.int64), 2, "big")
    put(head, 5, counter, 6, "big")
    put(head, 11, length - 13, 2, "big")
    put(head, 13, counter, 8, "big")
    head_length = np.full(n, 21)
    write_control(head, head_length, control, script)
    return datagrams, Framed(length, head, head_length)
