"""Web traffic: pages over several parallel connections, single transfers, QUIC, long polls."""

from __future__ import annotations

import numpy as np

from vpnforensics.groundtruth.simulate.network.columns import SINCE_OPENING
from vpnforensics.groundtruth.simulate.traffic.conversation import (
    DOWN,
    MS,
    NOBODY,
    SECOND,
    TCP,
    UDP,
    UP,
    Conversation,
    Internet,
    lognormal,
)
from vpnforensics.groundtruth.simulate.traffic.dns import lookup

_HTTPS = 443
_LARGEST_OBJECT = 2_500_000


def tls_handshake(random: np.random.Generator, talk: Conversation) -> None:
    """TLS 1.3 by its sizes (RFC 8446): hello, server flight with certificates or a resumption, finished."""
    # Browsers with a post-quantum key share send about 1,750 bytes, everyone else about 560.
    hello = lognormal(random, 560, 0.12) if random.random() < 0.6 else random.uniform(1750, 1840)
    talk.up(hello, 0.2 * MS)
    resumed = random.random() < 0.35
    answer = random.uniform(230, 290) if resumed else lognormal(random, 3600, 0.25)
    talk.down(answer, lognormal(random, 0.6 * MS, 0.5))
    talk.up(80 if random.random() < 0.6 else 64, lognormal(random, 0.6 * MS, 0.4))


def _exchange(random: np.random.Generator, talk: Conversation, size_bytes: float, wait_ns: float) -> None:
    talk.up(lognormal(random, 420, 0.55), wait_ns)
    talk.down(min(size_bytes, _LARGEST_OBJECT) + lognormal(random, 320, 0.3), lognormal(random, 4 * MS, 1.0))


def _finish(random: np.random.Generator, talk: Conversation) -> None:
    """Connections end at once, by the browser later, by time-out at the server, or outlive the capture."""
    chance = random.random()
    if chance < 0.25:
        talk.close(UP, lognormal(random, 2 * MS, 1.0))
    elif chance < 0.5:
        talk.close(UP, lognormal(random, 3 * SECOND, 1.0))
    elif chance < 0.8:
        talk.close(DOWN, random.choice([5, 15, 30, 60]) * SECOND)
    else:
        talk.close(NOBODY, 0)


def browse(
    random: np.random.Generator, internet: Internet, device: int, start_ns: int, scale: float, client_ns: int
) -> list[Conversation]:
    """One page: lookups, the page, then objects over parallel connections to the same and other hosts.

    Object sizes are log-normal with a heavy tail (median about 6 kB), as the HTTP Archive reports them.
    ``client_ns`` is the client's one-way delay to the server: what follows the page waits for it.
    """
    site = internet.pick(random)
    talks = lookup(random, internet, device, start_ns)
    round_trip = 2 * (client_ns + int(internet.distance_ns[site]))
    opened = start_ns + 2 * client_ns + int(4 * MS + lognormal(random, 1.5 * MS, 0.8))
    main = Conversation("browse", TCP, site, _HTTPS, device, opened)
    tls_handshake(random, main)
    _exchange(random, main, scale * lognormal(random, 18_000, 0.9), 0.3 * MS)
    for _ in range(int(random.poisson(2.0 * scale))):
        _exchange(random, main, scale * lognormal(random, 6_000, 1.5), lognormal(random, 2 * MS, 1.5))
    _finish(random, main)
    talks.append(main)
    follow = opened + 4 * round_trip + int(15 * MS)
    others = [site] * int(random.integers(0, 3))
    others += [internet.pick(random) for _ in range(int(random.poisson(2.2)))]
    for host in others:
        begin = follow + int(random.exponential(60 * MS))
        if host != site:
            talks += lookup(random, internet, device, begin)
            begin += 2 * client_ns + int(5 * MS)
        talk = Conversation("browse", TCP, host, _HTTPS, device, begin)
        tls_handshake(random, talk)
        for _ in range(int(random.geometric(0.5))):
            _exchange(random, talk, scale * lognormal(random, 6_000, 1.5), lognormal(random, 2 * MS, 1.5))
        _finish(random, talk)
        talks.append(talk)
    return talks


def transfer(
    random: np.random.Generator, internet: Internet, device: int, start_ns: int, scale: float, towards: int
) -> list[Conversation]:
    """A single large download or upload (median 4 MB and 1.5 MB)."""
    host = internet.pick(random)
    kind = "download" if towards == DOWN else "upload"
    talk = Conversation(kind, TCP, host, _HTTPS if random.random() < 0.6 else 80, device, start_ns)
    if talk.port == _HTTPS:
        tls_handshake(random, talk)
    if towards == DOWN:
        talk.up(lognormal(random, 300, 0.4), 0.3 * MS)
        talk.down(min(scale * lognormal(random, 4_000_000, 0.8), 60_000_000), lognormal(random, 3 * MS, 0.8))
    else:
        talk.up(min(scale * lognormal(random, 1_500_000, 0.8), 30_000_000), 0.3 * MS)
        talk.down(lognormal(random, 250, 0.3), lognormal(random, 5 * MS, 0.8))
    talk.close(UP if random.random() < 0.7 else DOWN, lognormal(random, 2 * MS, 1.0))
    return [talk]


def _quic_initial(client: bytes, server: bytes, answer: int, size: int) -> bytes:
    """Long header of an Initial packet (RFC 9000, section 17.2.2); its protected part is left to chance."""
    ids = (client, server) if answer else (server, client)
    head = b"\xc3\x00\x00\x00\x01" + b"".join(bytes([len(i)]) + i for i in ids) + b"\x00"
    return head + (0x4000 | (size - len(head) - 2)).to_bytes(2, "big")


def long_poll(
    random: np.random.Generator, internet: Internet, device: int, start_ns: int, scale: float, end_ns: int
) -> list[Conversation]:
    """A request that hangs for seconds, an answer, the next request, until the end."""
    talk = Conversation("longpoll", TCP, internet.pick(random), _HTTPS, device, start_ns)
    tls_handshake(random, talk)
    when = start_ns
    while when < end_ns and len(talk.messages) < 400:
        hold = lognormal(random, 8 * SECOND * scale, 0.7)
        talk.up(lognormal(random, 350, 0.2), lognormal(random, 3 * MS, 0.8))
        talk.down(lognormal(random, 260, 0.6), hold)
        when += int(hold)
    return [talk]


def quic(
    random: np.random.Generator, internet: Internet, device: int, start_ns: int, scale: float, client_ns: int
) -> list[Conversation]:
    """A QUIC download: padded initials, doubling bursts of full datagrams, small acknowledgements."""
    host = internet.pick(random)
    talk = Conversation("quic", UDP, host, _HTTPS, device, start_ns, lead=0x40)
    round_trip = 2 * (client_ns + int(internet.distance_ns[host])) + MS
    full = int(random.choice([1200, 1250, 1230]))
    half = round_trip / 2
    timed: list[tuple[float, int, float]] = [(0, UP, full), (half, DOWN, full), (half + 40_000, DOWN, full)]
    timed += [(round_trip * 1.02, UP, full), (round_trip * 1.04, UP, 300)]
    left = scale * lognormal(random, 60_000, 1.3)
    burst = 10
    when = 1.6 * round_trip
    while left > 0 and len(timed) < 20_000:
        for i in range(burst):
            if left <= 0:
                break
            timed.append((when + i * 45_000, DOWN, full if left > full else max(left, 40)))
            if i % 2:
                timed.append((when + i * 45_000 + round_trip / 2, UP, int(random.integers(33, 40))))
            left -= full - 30
        burst = min(2 * burst, 120)
        when += round_trip
    ids = random.bytes(8), random.bytes(8)
    for i, (moment, towards, size) in enumerate(sorted(timed)):
        (talk.down if towards == DOWN else talk.up)(size, moment, SINCE_OPENING)
        if i < 2:
            talk.payloads[i] = _quic_initial(ids[0], ids[1], i, int(size))
    return [talk]
