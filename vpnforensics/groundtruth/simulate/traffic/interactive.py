"""Interactive and real-time traffic: ssh, voice, ping, idle connections."""

from __future__ import annotations

import numpy as np

from vpnforensics.groundtruth.simulate.network.columns import SINCE_OPENING
from vpnforensics.groundtruth.simulate.traffic.conversation import (
    DOWN,
    ICMP,
    MS,
    SECOND,
    TCP,
    UDP,
    UP,
    Conversation,
    Internet,
    lognormal,
)


def ssh(
    random: np.random.Generator, internet: Internet, device: int, start_ns: int, scale: float, end_ns: int
) -> list[Conversation]:
    """A login, then key strokes with echo and command output.

    chacha20-poly1305 packets carry 36 bytes for one key (RFC 4253 framing); inter-key times are
    log-normal around 180 ms (Dhakal et al. 2018) with pauses for thought between commands.
    """
    talk = Conversation("ssh", TCP, internet.pick(random), 22, device, start_ns)
    talk.up(40, 0.5 * MS)
    talk.down(40, 8 * MS)
    talk.up(1536, MS)
    talk.down(1080, 3 * MS)
    talk.up(1208, 5 * MS)
    talk.down(564, 12 * MS)
    for request, answer in ((60, 44), (76, 60), (620, 28), (112, 500), (480, 108)):
        talk.up(request, lognormal(random, 2 * MS, 0.6))
        talk.down(answer, lognormal(random, 6 * MS, 0.8))
    when = start_ns + SECOND
    while when < end_ns and len(talk.messages) < 4000:
        for _ in range(int(random.integers(3, 18))):
            gap = lognormal(random, 180 * MS, 0.5)
            talk.up(36, gap)
            talk.down(36, lognormal(random, 0.3 * MS, 0.5))
            when += int(gap)
        talk.up(36, lognormal(random, 150 * MS, 0.4))
        output = 4 * int(lognormal(random, 120, 1.3) * max(scale, 0.1) / 4)
        talk.down(36 + output, lognormal(random, 4 * MS, 1.2))
        pause = lognormal(random, 2.5 * SECOND, 0.9)
        if random.random() < 0.06:
            break
        when += int(pause)
        talk.up(36, pause)
        talk.down(36, lognormal(random, 0.3 * MS, 0.5))
    talk.close(UP, 30 * MS)
    return [talk]


def voip(
    random: np.random.Generator, internet: Internet, device: int, start_ns: int, scale: float, end_ns: int
) -> list[Conversation]:
    """A call: 172-byte RTP datagrams (G.711, RFC 3551) or variable Opus ones each 20 ms both ways."""
    port = 16384 + 2 * int(random.integers(0, 8000))
    talk = Conversation("voip", UDP, internet.pick(random), port, device, start_ns, lead=0x80)
    length = min(lognormal(random, 40 * SECOND * scale, 0.7), max(end_ns - start_ns, SECOND))
    count = int(length // (20 * MS))
    opus = random.random() < 0.5
    tick = np.arange(count) * 20 * MS
    offset = random.integers(5 * MS, 19 * MS)
    sizes = np.clip(random.normal(105, 22, (2, count)), 40, 180) if opus else np.full((2, count), 172.0)
    times = np.concatenate([tick, tick + 60 * MS + offset]) + random.exponential(0.12 * MS, 2 * count)
    towards = np.repeat([UP, DOWN], count)
    for i in np.argsort(times, kind="stable"):
        (talk.up if towards[i] == UP else talk.down)(sizes.flat[i], times[i], SINCE_OPENING)
    return [talk]


def ping(
    random: np.random.Generator, internet: Internet, device: int, start_ns: int, scale: float, end_ns: int
) -> list[Conversation]:
    """Echo requests of 56 data bytes each second."""
    talk = Conversation("ping", ICMP, internet.pick(random), 0, device, start_ns)
    count = max(1, min(int(random.integers(4, 30) * scale), (end_ns - start_ns) // SECOND))
    for i in range(count):
        talk.up(56, SECOND if i else 0)
        talk.down(56, 20_000)
    return [talk]


def telemetry(
    random: np.random.Generator, internet: Internet, device: int, start_ns: int, scale: float, end_ns: int
) -> list[Conversation]:
    """A TCP connection that reports about five times a second until the end: a clock to read."""
    talk = Conversation("telemetry", TCP, internet.pick(random), 8883, device, start_ns)
    when = 0.0
    while not talk.messages or start_ns + when < end_ns:
        talk.up(random.uniform(60, 400), when, SINCE_OPENING)
        when += random.exponential(0.2 * SECOND)
    return [talk]


def idle(
    random: np.random.Generator, internet: Internet, device: int, start_ns: int, scale: float, end_ns: int
) -> list[Conversation]:
    """A push-notification connection: a small exchange, then a heartbeat now and then."""
    talk = Conversation("idle", TCP, internet.pick(random), 5228, device, start_ns)
    talk.up(517, MS)
    talk.down(2900, 2 * MS)
    talk.up(64, MS)
    when = start_ns
    while when < end_ns and len(talk.messages) < 200:
        gap = lognormal(random, 20 * SECOND * scale, 0.5)
        first = random.random() < 0.7
        (talk.up if first else talk.down)(random.uniform(28, 90), gap)
        (talk.down if first else talk.up)(random.uniform(28, 60), MS)
        when += int(gap)
    talk.close(DOWN, 600 * SECOND)
    return [talk]
