"""What the lab's programs say: curl, dig and ssh against nginx, dnsmasq and sshd.

A scenario names activities, and the lab runs a program for each. Here are the same programs as scripts, with
the same sites, names and objects (:mod:`vpnforensics.groundtruth.places`), so that one scenario gives like
captures from both. Sizes are what curl 7.88, OpenSSL 3.0, nginx 1.22, dig 9.18, dnsmasq 2.90 and OpenSSH 9.2
were recorded to send.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vpnforensics.groundtruth.places import BULK_BYTES, DOWNLOADS_BYTES, Places
from vpnforensics.groundtruth.simulate.network.columns import AFTER_SENDING
from vpnforensics.groundtruth.simulate.spec import Activity, ActivityKind
from vpnforensics.groundtruth.simulate.traffic import dns
from vpnforensics.groundtruth.simulate.traffic.conversation import (
    ICMP,
    MS,
    SECOND,
    TCP,
    UP,
    Conversation,
    Internet,
    lognormal,
)

_SHELL, _FIRST_WEB = 1, 2
_PARALLEL = 6
_START_NS = 12.0 * MS
"""From the start of curl to its first packet."""
_RECORD_BYTES, _RECORD_OVERHEAD = 16_384, 29
_FRAME_BYTES, _FRAME_OVERHEAD = 8_192, 9
_TYPED = ((29, 2600), (7, 70), (29, 2100), (17, 13), (3, 420), (9, 60), (10, 150), (8, 1600))
"""Command lines of the lab: keys, and bytes of output."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who runs a program: where from, and with what luck."""

    random: np.random.Generator
    internet: Internet
    places: Places
    device: int
    client_ns: int

    def round_trip_ns(self, host: int) -> int:
        """To a host and back."""
        return 2 * (self.client_ns + int(self.internet.distance_ns[host]))

    def some_name(self) -> str:
        """Of a site."""
        site = self.places.sites[int(self.random.integers(len(self.places.sites)))]
        return site.hosts[int(self.random.integers(len(site.hosts)))]

    def some_object(self) -> int:
        """Size of one."""
        return self.places.object_bytes[int(self.random.integers(len(self.places.object_bytes)))]

    def host(self, name: str) -> int:
        """The host that a name resolves to."""
        return _FIRST_WEB + self.places.names[name]


Said = tuple[list[Conversation], float]
"""Conversations, and how long the program runs, about, in ns."""


@dataclass(slots=True)
class _Connection:
    """One of curl's, as far as it is planned."""

    talk: Conversation
    name: str
    free_ns: float


def _fetch(who: Person, talk: Conversation, kind: str, first: bool, size_bytes: int) -> None:
    """One request and its answer, after the handshake where it is the first."""
    random = who.random
    if first and kind != "http":
        talk.up(517, 0.6 * MS)
        talk.down(int(random.integers(644, 653)), lognormal(random, 1.2 * MS, 0.4))
        talk.up(93, lognormal(random, 1.5 * MS, 0.5))
        talk.down(51, lognormal(random, 0.5 * MS, 0.4))
    if kind == "h2":
        if first:
            talk.down(69, 15_000, AFTER_SENDING)
            talk.up(99, lognormal(random, 0.8 * MS, 0.5))
            talk.up(42, 15_000, AFTER_SENDING)
            talk.up(int(random.integers(65, 72)), 15_000, AFTER_SENDING)
            talk.down(38, lognormal(random, 0.4 * MS, 0.5))
        else:
            talk.up(48, lognormal(random, 1.0 * MS, 0.5))
        frames = -(-size_bytes // _FRAME_BYTES) * _FRAME_OVERHEAD
        talk.down(150, lognormal(random, 0.2 * MS, 0.5), AFTER_SENDING if first else 0)
        talk.down(size_bytes + frames + _tls(size_bytes), 20_000, AFTER_SENDING)
        return
    talk.up(int(random.integers(84, 87)) + 29 * (kind == "https"), lognormal(random, 0.8 * MS, 0.5))
    overhead = 246 + (_tls(size_bytes) if kind == "https" else 0)
    talk.down(size_bytes + overhead, lognormal(random, 0.4 * MS, 0.5))


def _tls(size_bytes: int) -> int:
    return -(-size_bytes // _RECORD_BYTES) * _RECORD_OVERHEAD


def _duration_ns(who: Person, host: int, kind: str, first: bool, size_bytes: int) -> float:
    """How long a transfer takes, about: round trips of set-up and slow start."""
    rounds = 1 + np.log2(1 + size_bytes / 14_000) * (0.5 if first else 0.3)
    if first:
        rounds += 1 if kind == "http" else 3
    return float(rounds * who.round_trip_ns(host) + 4 * MS)


def curl(who: Person, wanted: list[tuple[str, int]], kind: str, start_ns: float) -> Said:
    """Objects by host name and size, at most six at a time; all connections end with the program.

    ``--parallel-immediate``: the first six open a connection each, later ones take an idle one to the same
    name where there is one.
    """
    begin_ns = start_ns + _START_NS * who.random.uniform(0.8, 1.6)
    talks: list[Conversation] = []
    open_: list[_Connection] = []
    slots = [begin_ns + 0.4 * MS * i for i in range(_PARALLEL)]
    for name, size_bytes in wanted:
        slots.sort()
        now_ns = slots[0]
        host = who.host(name)
        idle = next((c for c in open_ if c.name == name and c.free_ns <= now_ns), None)
        if idle is None:
            talks.append(dns.resolve(who.random, who.places, name, who.device, int(now_ns)))
            syn_ns = now_ns + who.round_trip_ns(0) + lognormal(who.random, 2.5 * MS, 0.4)
            talk = Conversation("browse", TCP, host, 80 if kind == "http" else 443, who.device, int(syn_ns))
            talks.append(talk)
            idle = _Connection(talk, name, syn_ns)
            open_.append(idle)
        first = not idle.talk.messages
        _fetch(who, idle.talk, kind, first, size_bytes)
        idle.free_ns = max(idle.free_ns, now_ns) + _duration_ns(who, host, kind, first, size_bytes)
        slots[0] = idle.free_ns
    end_ns = max(connection.free_ns for connection in open_)
    for connection in open_:
        wait_ns = end_ns - connection.free_ns + lognormal(who.random, 4 * MS, 0.8)
        if kind == "https":
            connection.talk.up(31, wait_ns)
            wait_ns = 0.1 * MS
        connection.talk.close(UP, wait_ns)
    return talks, end_ns - start_ns


def browse(who: Person, start_ns: float) -> Said:
    """A page of 3 to 14 objects from the hosts of one site."""
    random = who.random
    site = who.places.sites[int(random.integers(len(who.places.sites)))]
    count = min(len(site.objects), int(random.integers(3, 15)))
    chosen = random.choice(len(site.objects), count, replace=False)
    wanted = [
        (site.hosts[int(random.integers(len(site.hosts)))], who.places.object_bytes[site.objects[i]])
        for i in chosen
    ]
    kind = "http" if random.random() < 1 / 3 else "https" if random.random() < 0.5 else "h2"
    return curl(who, wanted, kind, start_ns)


def download(who: Person, start_ns: float) -> Said:
    """A large file."""
    size_bytes = DOWNLOADS_BYTES[int(who.random.integers(len(DOWNLOADS_BYTES)))]
    talks, _ = curl(who, [(who.some_name(), size_bytes)], "h2", start_ns)
    for talk in talks:
        talk.kind = "download" if talk.proto == TCP else talk.kind
    return talks, 0.5 * SECOND + size_bytes * 400.0  # 20 Mbit/s


def upload(who: Person, start_ns: float) -> Said:
    """Two megabytes, posted once the server has said that it will have them."""
    random, size_bytes = who.random, BULK_BYTES[0]
    host = _FIRST_WEB + int(random.integers(len(who.places.web)))
    opened_ns = start_ns + _START_NS * random.uniform(0.8, 1.6)
    talk = Conversation("upload", TCP, host, 80, who.device, int(opened_ns))
    talk.up(196, 0.4 * MS)
    talk.down(25, lognormal(random, 0.3 * MS, 0.5))
    talk.up(size_bytes, lognormal(random, 0.4 * MS, 0.5))
    talk.down(120, lognormal(random, 2 * MS, 0.5))
    talk.close(UP, lognormal(random, 1 * MS, 0.5))
    return [talk], 0.5 * SECOND + size_bytes * 800.0  # 10 Mbit/s


def idle(who: Person, start_ns: float) -> Said:
    """One small fetch."""
    return curl(who, [(who.some_name(), who.some_object())], "h2", start_ns)


def lookups(who: Person, start_ns: float) -> Said:
    """One, two or four names, one after the other, by dig."""
    random = who.random
    talks: list[Conversation] = []
    when_ns = float(start_ns)
    for _ in range(int(random.choice((1, 1, 2, 4)))):
        when_ns += lognormal(random, 30 * MS, 0.3)
        talks.append(dns.dig(random, who.places, who.device, int(when_ns)))
        when_ns += who.round_trip_ns(0)
    return talks, when_ns - start_ns


def ssh(who: Person, start_ns: float) -> Said:
    """A login, then commands typed key by key, each key echoed."""
    random = who.random
    talk = Conversation("ssh", TCP, _SHELL, 22, who.device, int(start_ns + 25 * MS))
    talk.up(41, 1 * MS)
    talk.down(41, lognormal(random, 12 * MS, 0.4))
    talk.up(1560, 1 * MS)
    talk.down(1088, lognormal(random, 2 * MS, 0.4))
    talk.up(1208, lognormal(random, 20 * MS, 0.8))
    talk.down(1564, lognormal(random, 15 * MS, 0.4))
    talk.up(16, lognormal(random, 15 * MS, 0.5))
    talk.up(44, 0.2 * MS, AFTER_SENDING)
    for answer, request in ((44, 60), (68, 140), (100, 308), (28, 112), (472, 120)):
        talk.down(answer, lognormal(random, 4 * MS, 0.6))
        talk.up(request, lognormal(random, 4 * MS, 0.8))
    talk.down(108, lognormal(random, 5 * MS, 0.5))
    talk.down(44, lognormal(random, 8 * MS, 0.5), AFTER_SENDING)
    pause_ns = random.exponential(0.8 * SECOND)
    lasts_ns = 0.6 * SECOND + pause_ns
    for chosen in random.integers(len(_TYPED), size=int(random.integers(2, 7))):
        keys, output_bytes = _TYPED[int(chosen)]
        for _ in range(keys + 1):
            talk.up(36, pause_ns, AFTER_SENDING)
            talk.down(36, lognormal(random, 0.4 * MS, 0.5))
            pause_ns = random.exponential(0.16 * SECOND)
            lasts_ns += pause_ns
        talk.down(36 + 4 * (output_bytes // 4), lognormal(random, 4 * MS, 0.5), AFTER_SENDING)
        talk.down(44, 0.5 * MS, AFTER_SENDING)
        pause_ns = random.exponential(1.2 * SECOND)
        lasts_ns += pause_ns
    talk.close(UP, 30 * MS)
    return [talk], lasts_ns


def ping(who: Person, start_ns: float) -> Said:
    """Three to eight echo requests, two a second."""
    random = who.random
    host = _FIRST_WEB + int(random.integers(len(who.places.web)))
    talk = Conversation("ping", ICMP, host, 0, who.device, int(start_ns))
    size_bytes, count = int(random.choice((56, 56, 120))), int(random.integers(3, 9))
    for i in range(count):
        talk.up(size_bytes, 0.5 * SECOND if i else 0)
        talk.down(size_bytes, 20_000)
    return [talk], (count - 1) * 0.5 * SECOND


PROGRAMS: dict[ActivityKind, tuple[Callable[[Person, float], Said], float]] = {
    "browse": (browse, 2.0),
    "download": (download, 3.0),
    "upload": (upload, 4.0),
    "ssh": (ssh, 2.0),
    "dns": (lookups, 1.5),
    "ping": (ping, 5.0),
    "idle": (idle, 9.0),
}
"""Each activity's program, and the mean rest after it in seconds, as in the lab."""


def run_program(activity: Activity, who: Person, start_ns: int, end_ns: int) -> list[Conversation]:
    """Runs of an activity's program: one after the other, or as many as the flows asked for take.

    Sizes are the programs' own: ``activity.scale`` is for the models of the wide Internet.
    """
    program, rest_s = PROGRAMS[activity.kind]
    found: list[Conversation] = []
    when = float(start_ns)
    if activity.kind == "idle":
        when += who.random.exponential(rest_s * SECOND)
    while when < end_ns and (activity.flows is None or len(found) < activity.flows):
        if activity.flows is not None:
            when = start_ns + who.random.random() * max(end_ns - start_ns, 1)
        talks, lasts_ns = program(who, when)
        found += talks
        if activity.flows is None:
            when += lasts_ns + who.random.exponential(rest_s * SECOND)
    return found
