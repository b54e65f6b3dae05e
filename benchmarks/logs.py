"""How fast usage logs are read: 200,000 lines of each kind of log.

Run: ``python -m benchmarks.logs``. The lines are those of a server's day, over and over: a client connects,
is given an address, makes the noise that servers log, and leaves.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vpnforensics.logs.read import read_logs

LINES = 200_000
TRIES = 3
"""The least counts: a machine that others use makes it longer, and nothing makes it shorter."""


def _stamp(n: int) -> str:
    return f"2026-11-{1 + n // 86400 % 28:02} {n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}"


def _openvpn(n: int) -> list[str]:
    at, who = _stamp(n), f"198.51.{n >> 8 & 255}.{n & 255}:{1024 + n % 60000}"
    return [
        f"{at} {who} TLS: Initial packet from [AF_INET]{who}, sid=12345678 9abcdef0",
        f"{at} {who} VERIFY OK: depth=0, CN=client-{n}",
        f"{at} {who} Control Channel: TLSv1.3, cipher TLSv1.3 TLS_AES_256_GCM_SHA384",
        f"{at} {who} [client-{n}] Peer Connection Initiated with [AF_INET]{who}",
        f"{at} client-{n}/{who} MULTI: Learn: 10.8.{n >> 8 & 255}.{n & 255} -> client-{n}/{who}",
        f"{at} client-{n}/{who} SENT CONTROL [client-{n}]: 'PUSH_REPLY,route-gateway 10.8.0.1' (status=1)",
        f"{at} client-{n}/{who} SIGTERM[soft,remote-exit] received, client-instance exiting",
    ]


def _sshd(n: int) -> list[str]:
    at, where = _stamp(n).replace(" ", "T") + "+00:00 vpn sshd[7]:", f"198.51.100.{n & 255} port {n & 65535}"
    return [
        f"{at} Connection from {where} on 192.0.2.1 port 22",
        f"{at} Accepted publickey for user{n} from {where} ssh2: ED25519 SHA256:x",
        f"{at} Invalid user admin from 192.0.2.66 port 1",
        f"{at} Disconnected from user user{n} {where}",
    ]


def _dump(n: int) -> list[str]:
    head = [str(1_700_000_000 + n)] if n % 50 == 0 else []
    key = f"{n % 50:043}="
    return [
        *head,
        f"{key}\t(none)\t198.51.100.7:{n % 50 + 1}\t10.9.0.{n % 50}/32\t{1_700_000_000 + n}\t{n}\t{n}\toff",
    ]


def _conntrack(n: int) -> list[str]:
    near = f"src=10.8.0.{n & 255} dst=192.0.2.80 sport={n & 65535} dport=443"
    far = f"src=192.0.2.80 dst=203.0.113.1 sport=443 dport={n & 65535}"
    return [f"[{1_700_000_000 + n}.000001]\t    [NEW] tcp      6 120 SYN_SENT {near} [UNREPLIED] {far}"]


def _other(n: int) -> list[str]:
    return [f"Nov 15 10:00:00 vpn dhclient[{n}]: DHCPREQUEST of 192.0.2.7 on eth0", "no log line at all"]


KINDS: dict[str, Callable[[int], list[str]]] = {
    "OpenVPN, plain": _openvpn,
    "sshd, journal": _sshd,
    "wg show dump": _dump,
    "conntrack -E": _conntrack,
    "nothing of VPNs": _other,
}


def main() -> None:
    """Print a line a kind."""
    print(f"{'log':18} {'lines':>8} {'CPU, s':>8} {'sessions':>9} {'translations':>13} {'unknown':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in KINDS.items():
            lines: list[str] = []
            n = 0
            while len(lines) < LINES:
                lines += make(n)
                n += 1
            path = Path(folder) / "log"
            path.write_text("\n".join(lines[:LINES]) + "\n")
            took = float("inf")
            for _ in range(TRIES):
                begin = time.process_time()
                book = read_logs([path])
                took = min(took, time.process_time() - begin)
            told = f"{len(book.sessions):9,} {len(book.translations):13,} {book.files[0].unknown:8,}"
            print(f"{name:18} {book.files[0].lines:8,} {took:8.2f} {told}", flush=True)


if __name__ == "__main__":
    main()
