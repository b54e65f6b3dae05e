"""IPsec ESP with AES-GCM (RFC 4303, RFC 4106), bare or in UDP 4500 (RFC 3948), set up by IKEv2 (RFC 7296)."""

from __future__ import annotations

import struct

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

KEEPALIVE_NS = 20_000_000_000
_SA_INIT, _AUTH = 34, 35
_NONCE, _ENCRYPTED = 40, 46


def data_bytes(
    inner: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """SPI, sequence number, IV, packet padded to 4 with its trailer, 16-byte ICV."""
    return 8 + 8 + 4 * -(-(inner + 2) // 4) + 16


def set_up(random: np.random.Generator) -> list[Control]:
    """IKE_SA_INIT and IKE_AUTH over port 4500, each after the non-ESP marker."""
    spi = random.bytes(8)
    peer = random.bytes(8)

    def message(side: int, exchange: int, number: int, length: int, wait_ns: int, answer: bool) -> Control:
        payload = _NONCE if exchange == _SA_INIT else _ENCRYPTED
        other = peer if answer or number else bytes(8)
        flags = 0x20 if answer else 0x08
        ike = spi + other + struct.pack(">BBBBII", payload, 0x20, exchange, flags, number, length)
        generic = struct.pack(">BBH", 0, 0, length - 28)
        return Control(side, wait_ns, 4 + length, bytes(4) + ike + generic)

    ms = 1_000_000
    return [
        message(UP, _SA_INIT, 0, 240, 0, False),
        message(DOWN, _SA_INIT, 0, 248, 2 * ms, True),
        message(UP, _AUTH, 1, 332, 3 * ms, False),
        message(DOWN, _AUTH, 1, 252, 3 * ms, True),
    ]


def frame(datagrams: Datagrams, end: Endpoint) -> tuple[Datagrams, Framed]:
    """ESP in UDP: IKE first, the client keeps the NAT alive with single bytes after 20 s of silence."""
    datagrams, script, ready_ns = add_set_up(datagrams, end, set_up(end.random))
    sent = np.sort(datagrams.sent_ns[(datagrams.side == UP) & (datagrams.kind == DATA)])
    quiet = idle_gaps(sent[sent > ready_ns], KEEPALIVE_NS, ready_ns, end.end_ns)
    datagrams = datagrams.with_own(UP, quiet, tap_times(end, UP, quiet), KEEPALIVE, 0)
    datagrams, framed = frame_bare(datagrams, end)
    write_control(framed.head, framed.head_length, datagrams.kind == CONTROL, script)
    return datagrams, framed


def frame_bare(datagrams: Datagrams, end: Endpoint) -> tuple[Datagrams, Framed]:
    """ESP as IP protocol 50, in the middle of a session."""
    datagrams = datagrams.ordered()
    n = len(datagrams)
    head = np.zeros((n, HEAD_BYTES), np.uint8)
    alive = datagrams.kind == KEEPALIVE
    control = datagrams.kind == CONTROL
    spi = end.random.integers(256, 1 << 32, 2)
    put(head, 0, spi[datagrams.side], 4, "big")
    counter = ranks(~alive & ~control, datagrams.side) + 1
    put(head, 4, counter, 4, "big")
    put(head, 8, counter, 8, "big")
    head[alive] = 0xFF
    length = np.where(alive, 1, np.where(control, datagrams.size, data_bytes(datagrams.size)))
    return datagrams, Framed(length, head, np.where(alive, 1, 16))
