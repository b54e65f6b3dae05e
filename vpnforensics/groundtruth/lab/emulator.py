"""Delay, jitter, rate and loss on a link: a userspace forwarder between veth ends.

The kernels this runs on may lack ``netem``. So one process holds raw packet sockets on a *trunk* interface
(towards the VPN server) and on *branch* interfaces (towards clients or Internet hosts) and forwards
Ethernet frames. The far IPv4 address of a frame picks its path; each path has its own law. As in
netem, a packet waits for the link to be free (rate, tail drop at a queue limit), then for the delay and
the jitter; order is kept unless the law reorders. The forwarder counts what it and the kernel dropped and
how late it was against its own plan, so that a recording it could not keep up with is seen.

Run as ``python -m vpnforensics.groundtruth.lab.emulator PLAN.json REPORT.json``.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32
_PACKET_STATISTICS = 6
_PACKET_IGNORE_OUTGOING = 23
_SOL_PACKET = 263
_ETH_P_IP = 0x0800
_BUFFER_BYTES = 64 << 20
_BATCH = 128
_IDLE_S = 0.05
"""Nothing to forward: how soon a request to stop is heard."""


@dataclass(frozen=True, slots=True)
class LinkLaw:
    """What one direction of a path does to a packet.

    Parameters
    ----------
    delay_ms : float
        Constant part.
    jitter_ms : float
        Mean of an added random part (0: none).
    jitter : {"exponential", "normal", "uniform", "pareto"}
        Its law; normal is folded at zero, Pareto has shape 2.5.
    loss : float
        Probability that a packet is lost.
    rate_mbit : float
        Line rate, Mbit/s (0: unlimited).
    queue_ms : float
        Longest wait for the line; a packet that would wait longer is dropped.
    reorder : float
        Probability that a packet skips the delay, and so overtakes.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    jitter: str = "exponential"
    loss: float = 0.0
    rate_mbit: float = 0.0
    queue_ms: float = 150.0
    reorder: float = 0.0


_JITTER: dict[str, Callable[[random.Random], float]] = {
    "exponential": lambda rng: rng.expovariate(1.0),
    "normal": lambda rng: abs(rng.gauss(0.0, 1.2533)),
    "uniform": lambda rng: 2.0 * rng.random(),
    "pareto": lambda rng: (rng.paretovariate(2.5) - 1.0) * 1.5,
}
"""Laws of mean 1."""


@dataclass(frozen=True, slots=True)
class NetworkPath:
    """A far address, the interface that leads to it, and the laws both ways (*up*: towards the trunk)."""

    address: str
    dev: str
    up: LinkLaw
    down: LinkLaw


def write_plan(path: Path, trunk: str, paths: list[NetworkPath], seed: int) -> None:
    """Write the plan file that the emulator process reads."""
    path.write_text(json.dumps({"trunk": trunk, "seed": seed, "paths": [asdict(p) for p in paths]}))


class _Direction:
    """State of one direction of a path: when the line is free, and when the last packet leaves."""

    def __init__(self, law: LinkLaw, out: socket.socket, rng: random.Random) -> None:
        self.law, self.out, self.rng = law, out, rng
        self.ns_per_byte = 8000.0 / law.rate_mbit if law.rate_mbit else 0.0
        self.free_ns = 0
        self.last_ns = 0

    def due_ns(self, now_ns: int, size_bytes: int) -> int | None:
        """When the packet leaves, or None where it is lost."""
        law, rng = self.law, self.rng
        if law.loss and rng.random() < law.loss:
            return None
        leave = now_ns
        if self.ns_per_byte:
            start = max(now_ns, self.free_ns)
            if start - now_ns > law.queue_ms * 1e6:
                return None
            leave = self.free_ns = start + int(size_bytes * self.ns_per_byte)
        if law.reorder and rng.random() < law.reorder:
            return leave
        leave += int(law.delay_ms * 1e6)
        if law.jitter_ms:
            leave += int(_JITTER[law.jitter](rng) * law.jitter_ms * 1e6)
        self.last_ns = leave = max(leave, self.last_ns)
        return leave


def _open(dev: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP))
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
    sock.bind((dev, _ETH_P_IP))
    sock.setblocking(False)
    return sock


def forward(plan: dict[str, object], stop: list[bool]) -> dict[str, object]:
    """Forward frames by the plan until `stop` is non-empty; return the counts."""
    rng = random.Random(int(str(plan["seed"])))
    trunk = _open(str(plan["trunk"]))
    sockets: dict[str, socket.socket] = {}
    up: dict[bytes, _Direction] = {}
    down: dict[bytes, _Direction] = {}
    paths = plan["paths"]
    assert isinstance(paths, list)
    for path in paths:
        branch = sockets.get(path["dev"]) or sockets.setdefault(path["dev"], _open(path["dev"]))
        key = socket.inet_aton(path["address"])
        up[key] = _Direction(LinkLaw(**path["up"]), trunk, random.Random(rng.random()))
        down[key] = _Direction(LinkLaw(**path["down"]), branch, random.Random(rng.random()))
    queue: list[tuple[int, int, socket.socket, bytes]] = []
    serial = forwarded = lost = unknown = send_errors = 0
    late_ns: list[int] = []
    clock = time.monotonic_ns
    everyone = [trunk, *sockets.values()]
    while not stop:
        if queue:
            wait = (queue[0][0] - clock()) / 1e9
            readable = select.select(everyone, (), (), max(wait, 0.0))[0]
        else:
            readable = select.select(everyone, (), (), _IDLE_S)[0]
        for sock in readable:
            table, start = (down, 30) if sock is trunk else (up, 26)
            for _ in range(_BATCH):
                try:
                    frame = sock.recv(65536)
                except BlockingIOError:
                    break
                direction = table.get(frame[start : start + 4])
                if direction is None:
                    unknown += 1
                    continue
                due = direction.due_ns(clock(), len(frame))
                if due is None:
                    lost += 1
                    continue
                serial += 1
                heapq.heappush(queue, (due, serial, direction.out, frame))
        now = clock()
        while queue and queue[0][0] <= now:
            due, _, out, frame = heapq.heappop(queue)
            try:
                out.send(frame)
                forwarded += 1
            except OSError:
                send_errors += 1
            late_ns.append(now - due)
    late_ns.sort()
    kernel = sum(struct.unpack("II", s.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1] for s in everyone)
    return {
        "forwarded": forwarded,
        "lost_by_law": lost,
        "without_path": unknown,
        "send_errors": send_errors,
        "kernel_drops": kernel,
        "late_us_median": late_ns[len(late_ns) // 2] // 1000 if late_ns else 0,
        "late_us_p99": late_ns[len(late_ns) * 99 // 100] // 1000 if late_ns else 0,
    }


def main() -> None:
    """Entry point of the emulator process."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    report = Path(sys.argv[2])
    stop: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(PermissionError):
        os.nice(-15)
    gc.disable()  # nothing here makes reference cycles, and a collection would show up as jitter
    report.write_text(json.dumps(forward(plan, stop)))


if __name__ == "__main__":
    main()
