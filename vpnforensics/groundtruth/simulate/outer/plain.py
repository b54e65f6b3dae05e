"""Tunnels with little or nothing in clear: nebula, tinc, and protocols nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    Framing,
    Ints,
    add_set_up,
    idle_gaps,
    put,
    ranks,
    tap_times,
    write_control,
)

_NEBULA_VERSION, _NEBULA_MESSAGE, _NEBULA_TEST = 1 << 4, 1, 4
NEBULA_OVERHEAD_BYTES: Final = 32
_PROBE_NS: Final = 10_000_000_000


def frame_nebula(datagrams: Datagrams, end: Endpoint) -> tuple[Datagrams, Framed]:
    """A 16-byte header with the receiver's index and a 64-bit counter, and a tag of 16.

    https://github.com/slackhq/nebula, header/header.go.
    """
    index = end.random.integers(0, 1 << 32, 2)

    def handshake(side: int, counter: int, length: int, wait_ns: int) -> Control:
        receiver = int(index[DOWN]) if side == DOWN else 0
        head = bytes([_NEBULA_VERSION, 0, 0, 0]) + receiver.to_bytes(4, "big") + counter.to_bytes(8, "big")
        return Control(side, wait_ns, length, head)

    script = [handshake(UP, 1, 358, 0), handshake(DOWN, 2, 382, 600_000)]
    datagrams, script, _ = add_set_up(datagrams, end, script)
    datagrams = datagrams.ordered()
    n = len(datagrams)
    head = np.zeros((n, HEAD_BYTES), np.uint8)
    control = datagrams.kind == CONTROL
    head[:, 0] = _NEBULA_VERSION | _NEBULA_MESSAGE
    put(head, 4, index[datagrams.side], 4, "big")
    put(head, 8, ranks(~control, datagrams.side) + 3, 8, "big")
    head_length = np.full(n, 16)
    write_control(head, head_length, control, script)
    length = np.where(control, datagrams.size, datagrams.size + NEBULA_OVERHEAD_BYTES)
    return datagrams, Framed(length, head, head_length)


def tinc_bytes(inner: Ints) -> Ints:
    """UDP payload of tinc 1.0: Ethernet header and sequence number, CBC to 16, 4 bytes of MAC."""
    return 4 + 16 * ((inner + 18) // 16 + 1)


def constant_bytes(inner: Ints) -> Ints:
    """UDP payload of an unknown protocol that adds 37 bytes."""
    return inner + 37


def block_bytes(inner: Ints) -> Ints:
    """UDP payload of an unknown protocol in blocks of 32, with 29 bytes around them."""
    return 29 + 32 * -(-(inner + 1) // 32)


def _frame(datagrams: Datagrams, end: Endpoint, *, size: Callable[[Ints], Ints]) -> tuple[Datagrams, Framed]:
    """All bytes encrypted; two messages to set up; a small probe each way after 10 s of silence."""
    first = int(end.random.integers(120, 400)), int(end.random.integers(120, 400))
    script = [Control(UP, 0, first[0]), Control(DOWN, 900_000, first[1])]
    datagrams, _, ready_ns = add_set_up(datagrams, end, script)
    for side in (UP, DOWN):
        sent = np.sort(datagrams.sent_ns[(datagrams.side == side) & (datagrams.kind == DATA)])
        probes = idle_gaps(sent[sent > ready_ns], _PROBE_NS, ready_ns, end.end_ns)
        datagrams = datagrams.with_own(side, probes, tap_times(end, side, probes), KEEPALIVE, 8)
    datagrams = datagrams.ordered()
    n = len(datagrams)
    length = np.where(datagrams.kind == CONTROL, datagrams.size, size(datagrams.size))
    return datagrams, Framed(length, np.zeros((n, HEAD_BYTES), np.uint8), np.zeros(n, np.int64))


frame_tinc: Framing = partial(_frame, size=tinc_bytes)
frame_constant: Framing = partial(_frame, size=constant_bytes)
frame_block: Framing = partial(_frame, size=block_bytes)
