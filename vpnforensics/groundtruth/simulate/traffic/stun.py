"""STUN binding requests and answers (RFC 8489), each a well-formed message."""

from __future__ import annotations

import struct

import numpy as np

from vpnforensics.groundtruth.simulate.traffic.conversation import SECOND, UDP, Conversation, Internet

_COOKIE = 0x2112A442
_XOR_MAPPED_ADDRESS = 0x0020


def stun(random: np.random.Generator, internet: Internet, device: int, start_ns: int) -> list[Conversation]:
    """A few requests some seconds apart."""
    talk = Conversation("stun", UDP, internet.pick(random), 3478, device, start_ns)
    for i in range(int(random.integers(2, 8))):
        name = random.bytes(12)
        request = struct.pack(">HHI", 0x0001, 0, _COOKIE) + name
        mapped = struct.pack(">HHBB", _XOR_MAPPED_ADDRESS, 8, 0, 1) + random.bytes(6)
        answer = struct.pack(">HHI", 0x0101, len(mapped), _COOKIE) + name + mapped
        talk.up(len(request), float(random.uniform(1, 15)) * SECOND if i else 0)
        talk.down(len(answer), 30_000)
        talk.payloads |= {2 * i: request, 2 * i + 1: answer}
    return [talk]
