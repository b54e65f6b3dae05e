"""A bad network: a UDP relay that loses, delays and reorders datagrams, with a seed.

``python relay.py LISTEN_PORT HOST PORT LOSS JITTER_S SEED``, until it is ended.
"""

from __future__ import annotations

import heapq
import itertools
import random
import select
import socket
import sys
import time


def main(port: int, upstream: tuple[str, int], loss: float, jitter_s: float, seed: int) -> None:
    chance = random.Random(seed)
    front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    front.bind(("0.0.0.0", port))
    backs: dict[tuple[str, int], socket.socket] = {}
    clients: dict[socket.socket, tuple[str, int]] = {}
    waiting: list[tuple[float, int, socket.socket, tuple[str, int], bytes]] = []
    order = itertools.count()
    while True:
        sleep_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 1.0
        for sock in select.select([front, *clients], [], [], sleep_s)[0]:
            data, address = sock.recvfrom(65_535)
            if sock is front:
                if address not in backs:
                    backs[address] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    clients[backs[address]] = address
                out, target = backs[address], upstream
            else:
                out, target = front, clients[sock]
            if chance.random() >= loss:
                at = time.monotonic() + chance.random() * jitter_s
                heapq.heappush(waiting, (at, next(order), out, target, data))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, out, target, data = heapq.heappop(waiting)
            out.sendto(data, target)


if __name__ == "__main__":
    main(
        int(sys.argv[1]),
        (sys.argv[2], int(sys.argv[3])),
        float(sys.argv[4]),
        float(sys.argv[5]),
        int(sys.argv[6]),
    )
