"""A user who reads: pages of many sizes over HTTP, names asked for over UDP, and seconds of nothing between.

``python browse.py visit HOST FIRST COUNT SEED`` fetches ``fFIRST`` and the following from port 8000 and asks
for names at port 5300; ``python browse.py answer SEED`` is who answers there, until it is ended.
"""

from __future__ import annotations

import random
import socket
import sys
import time
import urllib.request

NAMES_PORT = 5300


def visit(host: str, first: int, count: int, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(first, first + count):
        for _ in range(chance.randint(1, 3)):
            _ask(host, chance)
            time.sleep(chance.uniform(0.02, 0.1))
        # One connection a page, closed by the server's HTTP/1.0: each is a flow of its own.
        cookie = {"Cookie": "c" * chance.randint(10, 600)}
        page_asked = urllib.request.Request(f"http://{host}:8000/f{number}", headers=cookie)
        with urllib.request.urlopen(page_asked, timeout=20) as page:
            while page.read(1 << 16):
                time.sleep(chance.uniform(0.0, 0.02))
        time.sleep(chance.uniform(0.1, 1.1))


def _ask(host: str, chance: random.Random) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((host, NAMES_PORT))
        sock.send(chance.randbytes(chance.randint(28, 70)))
        sock.recv(2048)


def answer(seed: int) -> None:
    chance = random.Random(seed)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", NAMES_PORT))
        while True:
            query, address = sock.recvfrom(2048)
            sock.sendto(query + chance.randbytes(chance.randint(16, 400)), address)


if __name__ == "__main__":
    if sys.argv[1] == "visit":
        visit(sys.argv[2], *map(int, sys.argv[3:6]))
    else:
        answer(int(sys.argv[2]))
