"""Connections that are made and kept, and say nothing, or drop by drop.

``python -m tests.reftunnel.attacks.strangers HOST PORT COUNT``, until it is ended; a line when all are made.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time


def main(host: str, port: int, count: int) -> None:
    socks = []
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect((host, port))
        socks.append(sock)
        time.sleep(0.001)
    print("made", flush=True)
    for sock in socks[::2]:
        # The start of a message that never comes whole.
        with contextlib.suppress(OSError):
            sock.send(b"\0")
    time.sleep(3600)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
