"""A flood from outside, from many ports, at a given rate.

``python -m tests.reftunnel.flood KIND PUBLIC_KEY HOST PORT COUNT RATE_HZ``; the kinds:

``initiations``  right mac1, rubbish inside: what costs the receiver most
``bad-mac1``     the length and type of an initiation, and rubbish
``transport``    data of sessions that do not exist
``short``        16 bytes of nothing

Prints what it managed, messages a second, at the end or when it is told to end.
"""

from __future__ import annotations

import random
import signal
import socket
import sys
import time
from collections.abc import Callable

from vpnforensics.reftunnel.cookie import MacStamper
from vpnforensics.reftunnel.keys import PublicKey

KINDS = ("initiations", "bad-mac1", "transport", "short")
_DIFFERENT = 4096
_BURST = 50


def maker(kind: str, key: PublicKey) -> Callable[[], bytes]:
    """Function that makes the next message."""
    chance, stamper = random.Random(1), MacStamper(key)
    return {
        "initiations": lambda: stamper.stamp(b"\1\0\0\0" + chance.randbytes(112), 0.0),
        "bad-mac1": lambda: b"\1\0\0\0" + chance.randbytes(144),
        "transport": lambda: b"\4\0\0\0" + chance.randbytes(140),
        "short": lambda: chance.randbytes(16),
    }[kind]


def main(kind: str, key: str, target: tuple[str, int], count: int, rate_hz: float) -> None:
    make = maker(kind, PublicKey.from_text(key))
    # Made before: the machine that floods must not be the one that is slow.
    messages = [make() for _ in range(min(count, _DIFFERENT))]
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(64)]
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    start, sent = time.monotonic(), 0
    while sent < count and not told:
        time.sleep(max(0.0, start + sent / rate_hz - time.monotonic()))
        for number in range(sent, min(sent + _BURST, count)):
            socks[number % 64].sendto(messages[number % _DIFFERENT], target)
        sent += _BURST
    print(f"{sent / (time.monotonic() - start):.0f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], (sys.argv[3], int(sys.argv[4])), int(sys.argv[5]), float(sys.argv[6]))
