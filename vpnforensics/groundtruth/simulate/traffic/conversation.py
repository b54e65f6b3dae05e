"""A conversation as a script: who sends how many bytes, and how long after what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from vpnforensics.groundtruth.places import Places
from vpnforensics.groundtruth.simulate.network.columns import AFTER_ARRIVAL

UP, DOWN = 0, 1
TCP, UDP, ICMP = 6, 17, 1
NOBODY = -1
MS = 1_000_000
SECOND = 1_000_000_000


class Message(NamedTuple):
    """One message of a script; ``timing`` says what ``wait_ns`` counts from."""

    towards: int
    size_bytes: int
    wait_ns: int
    timing: int = AFTER_ARRIVAL


@dataclass(slots=True)
class Conversation:
    """One egress flow to be: endpoints, start, script."""

    kind: str
    proto: int
    host: int
    port: int
    device: int
    start_ns: int
    messages: list[Message] = field(default_factory=list)
    closer: int = NOBODY
    """Who sends the first FIN (UP or DOWN), or NOBODY."""
    close_wait_ns: int = 0
    payloads: dict[int, bytes] = field(default_factory=dict)
    """Content of datagrams that must mean something, by message."""
    lead: int = 0
    """First payload byte of datagrams that have no other content: 0x40 QUIC, 0x80 RTP, 0 random."""

    def up(self, size_bytes: float, wait_ns: float = 0, timing: int = AFTER_ARRIVAL) -> None:
        """Add a message from the client."""
        self.messages.append(Message(UP, max(int(size_bytes), 1), int(wait_ns), timing))

    def down(self, size_bytes: float, wait_ns: float = 0, timing: int = AFTER_ARRIVAL) -> None:
        """Add a message from the Internet peer."""
        self.messages.append(Message(DOWN, max(int(size_bytes), 1), int(wait_ns), timing))

    def close(self, by: int, wait_ns: float) -> None:
        """End with a FIN."""
        self.closer = by
        self.close_wait_ns = int(wait_ns)


@dataclass(frozen=True, slots=True)
class Internet:
    """The hosts that clients talk to.

    Parameters
    ----------
    distance_ns : ndarray of int64, shape (hosts,)
        One-way delay from the VPN server. Host 0 and 1 are resolvers.
    popularity : ndarray of float64, shape (hosts,)
        Cumulative share of visits.
    places : Places or None
        Of a scenario: name server, SSH server and web servers, in this order, instead of the wide world.
    """

    distance_ns: np.ndarray[tuple[int], np.dtype[np.int64]]
    popularity: np.ndarray[tuple[int], np.dtype[np.float64]]
    places: Places | None = None

    def pick(self, random: np.random.Generator) -> int:
        """A host by popularity, no resolver."""
        return 2 + int(np.searchsorted(self.popularity, random.random() * self.popularity[-1]))


def make_internet(hosts: int, span_s: tuple[float, float] | None, random: np.random.Generator) -> Internet:
    """Hosts at log-normal distances (median 6 ms: content networks are near servers), Zipf popularity."""
    distance_ns = (random.lognormal(np.log(6.0), 0.9, hosts) * MS).astype(np.int64)
    distance_ns = np.minimum(distance_ns, 160 * MS)
    if span_s is not None:
        low, high = span_s
        distance_ns = ((low + (high - low) * random.random(hosts)) * SECOND).astype(np.int64)
    distance_ns[:2] = (900_000, 1_600_000)
    popularity = np.cumsum(1.0 / np.arange(1, hosts - 1) ** 0.9)
    return Internet(distance_ns, popularity)


def scenario_internet(places: Places) -> Internet:
    """The hosts of a scenario, where its lines put them; all web servers are as popular."""
    delay_ms = [way.delay_ms for way in places.hosts]
    distance_ns = (np.array(delay_ms) * MS).astype(np.int64)
    return Internet(distance_ns, np.arange(1.0, len(places.web) + 1), places)


def lognormal(random: np.random.Generator, median: float, sigma: float) -> float:
    """One log-normal draw by its median."""
    return median * float(random.lognormal(0.0, sigma))
