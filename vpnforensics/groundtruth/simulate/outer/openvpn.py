"""OpenVPN's packets.

https://openvpn.github.io/openvpn-rfc/openvpn-wire-protocol.html
"""

from __future__ import annotations

from functools import partial

import numpy as np

from vpnforensics.groundtruth.simulate.outer.datagrams import (
    CONTROL,
    DATA,
    DOWN,
    HEAD_BYTES,
    KEEPALIVE,
    UP,
    Bytes,
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

RESET_CLIENT_V2, RESET_SERVER_V2, CONTROL_V1, ACK_V1, DATA_V1, DATA_V2 = 7, 8, 4, 5, 6, 9
PING_NS = 10_000_000_000
PING_BYTES = 16
OVERHEAD_V1_BYTES, OVERHEAD_V2_BYTES = 21, 24


def set_up(random: np.random.Generator) -> list[Control]:
    """Reset both ways, TLS in control packets with acknowledgements, key method 2, pushed options."""
    client = random.bytes(8)
    server = random.bytes(8)
    numbers = {UP: 0, DOWN: 0}

    def packet(opcode: int, side: int, length: int, wait_ns: int) -> Control:
        session = client if side == UP else server
        head = bytes([opcode << 3]) + session
        if opcode in (RESET_CLIENT_V2, CONTROL_V1):
            head += b"\x00" + numbers[side].to_bytes(4, "big")
        elif opcode == RESET_SERVER_V2:
            head += b"\x01" + (0).to_bytes(4, "big") + client + (0).to_bytes(4, "big")
        else:
            head += b"\x01" + numbers[1 - side].to_bytes(4, "big") + (server if side == UP else client)
            length = len(head)
        if opcode != ACK_V1:
            numbers[side] += 1
        return Control(side, wait_ns, length, head)

    ms = 1_000_000
    script = [packet(RESET_CLIENT_V2, UP, 14, 0), packet(RESET_SERVER_V2, DOWN, 26, ms // 2)]
    script += [packet(ACK_V1, UP, 22, ms), packet(CONTROL_V1, UP, 14 + 297, ms)]
    script.append(packet(ACK_V1, DOWN, 22, ms // 3))
    flight = (1214, 1214, 14 + int(random.integers(200, 900)))
    script += [packet(CONTROL_V1, DOWN, length, 3 * ms if length == 1214 else ms // 20) for length in flight]
    script += [packet(ACK_V1, UP, 22, ms // 5), packet(ACK_V1, UP, 22, ms // 20)]
    finish = (1214, 14 + int(random.integers(700, 1150)))
    script += [packet(CONTROL_V1, UP, length, 4 * ms) for length in finish]
    script += [packet(ACK_V1, DOWN, 22, ms // 3), packet(ACK_V1, DOWN, 22, ms // 10)]
    script.append(packet(CONTROL_V1, DOWN, 14 + int(random.integers(230, 290)), 2 * ms))
    script.append(packet(ACK_V1, UP, 22, ms // 3))
    script.append(packet(CONTROL_V1, UP, 14 + 42, 900 * ms))
    script.append(packet(CONTROL_V1, DOWN, 14 + int(random.integers(150, 240)), ms))
    script.append(packet(ACK_V1, UP, 22, ms // 3))
    return script


def frame(datagrams: Datagrams, end: Endpoint, *, version: int = 2) -> tuple[Datagrams, Framed]:
    """Add the set-up and pings, then number and size every packet.

    AES-256-GCM: opcode (and peer id), 32-bit packet id, 16-byte tag. A ping is a data packet of 16 bytes.
    """
    datagrams, script, ready_ns = add_set_up(datagrams, end, set_up(end.random))
    for side in (UP, DOWN):
        quiet = np.sort(datagrams.sent_ns[(datagrams.side == side) & (datagrams.kind == DATA)])
        start = ready_ns + int(end.random.integers(0, 10**9))
        pings = idle_gaps(quiet[quiet > start], PING_NS, start, end.end_ns)
        datagrams = datagrams.with_own(side, pings, tap_times(end, side, pings), KEEPALIVE, PING_BYTES)
    datagrams = datagrams.ordered()
    n = len(datagrams)
    head = np.zeros((n, HEAD_BYTES), np.uint8)
    control = datagrams.kind == CONTROL
    data = ~control
    counter = ranks(data, datagrams.side) + 1
    overhead = write_data_header(head, 0, counter, version, int(end.random.integers(0, 64)))
    head_length = np.full(n, 8 if version == 2 else 5)
    write_control(head, head_length, control, script)
    return datagrams, Framed(np.where(control, datagrams.size, datagrams.size + overhead), head, head_length)


def write_data_header(head: Bytes, at: int, counter: Ints, version: int, peer: int) -> int:
    """Opcode, key id 0, peer id (V2) and packet id into columns of ``head``; returns the overhead."""
    if version == 1:
        head[:, at] = DATA_V1 << 3
        put(head, at + 1, counter, 4, "big")
        return OVERHEAD_V1_BYTES
    head[:, at] = DATA_V2 << 3
    head[:, at + 3] = peer
    put(head, at + 4, counter, 4, "big")
    return OVERHEAD_V2_BYTES


def frame_cbc(datagrams: Datagrams, end: Endpoint) -> tuple[Datagrams, Framed]:
    """DATA_V2 with AES-256-CBC and HMAC-SHA1: the packet id is encrypted, lengths go by 16."""
    datagrams, framed = frame(datagrams, end)
    data = datagrams.kind != CONTROL
    blocks = 4 + 20 + 16 + 16 * ((4 + datagrams.size) // 16) + 16
    return datagrams, Framed(
        np.where(data, blocks, framed.length), framed.head, np.where(data, 4, framed.head_length)
    )


frame_v1: Framing = partial(frame, version=1)
