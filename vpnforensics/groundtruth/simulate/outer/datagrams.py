"""One tunnel's datagrams before they have headers: who sent what when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

HEAD_BYTES: Final = 48
UP, DOWN = 0, 1
DATA, KEEPALIVE, CONTROL, DUMMY = range(4)


@dataclass(frozen=True, slots=True)
class Datagrams:
    """Outer packets of one tunnel, each direction in the order its end sent them.

    Parameters
    ----------
    side : ndarray of int64, shape (n,)
        UP or DOWN.
    sent_ns, tap_ns : ndarray of int64, shape (n,)
        When the tunnel's end sent it, and when it stands at the ingress tap (-1: lost before).
    inner : ndarray of int64, shape (n,)
        Row of the inner packet; -1 for the tunnel's own.
    kind : ndarray of int64, shape (n,)
        DATA, KEEPALIVE, CONTROL or DUMMY.
    size : ndarray of int64, shape (n,)
        For DATA, KEEPALIVE and DUMMY the (padded) inner length; for CONTROL the payload's own.
    """

    side: Ints
    sent_ns: Ints
    tap_ns: Ints
    inner: Ints
    kind: Ints
    size: Ints

    def __len__(self) -> int:
        return len(self.side)

    def with_own(self, side: int, sent_ns: Ints, tap_ns: Ints, kind: int, size: int | Ints) -> Datagrams:
        """Add packets of the tunnel itself."""
        n = len(sent_ns)
        return Datagrams(
            np.concatenate([self.side, np.full(n, side)]),
            np.concatenate([self.sent_ns, sent_ns]),
            np.concatenate([self.tap_ns, tap_ns]),
            np.concatenate([self.inner, np.full(n, -1)]),
            np.concatenate([self.kind, np.full(n, kind)]),
            np.concatenate([self.size, np.broadcast_to(np.asarray(size, np.int64), n)]),
        )

    def ordered(self) -> Datagrams:
        """Sorted by direction, then by sending time."""
        order = np.lexsort((self.sent_ns, self.side))
        return Datagrams(
            self.side[order],
            self.sent_ns[order],
            self.tap_ns[order],
            self.inner[order],
            self.kind[order],
            self.size[order],
        )


@dataclass(frozen=True, slots=True)
class Framed:
    """Payload lengths and first bytes of datagrams.

    Parameters
    ----------
    length : ndarray of int64, shape (n,)
        Payload bytes: of UDP, or of IP for ESP.
    head : ndarray of uint8, shape (n, HEAD_BYTES)
        The first of them.
    head_length : ndarray of int64, shape (n,)
        How many of `head` count; encryption makes the rest.
    """

    length: Ints
    head: Bytes
    head_length: Ints


@dataclass(frozen=True, slots=True)
class Control:
    """A message of a tunnel's set-up: direction, wait after the one before, payload length, first bytes."""

    side: int
    wait_ns: int
    length: int
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a framing may need to know of one tunnel."""

    random: np.random.Generator
    start_ns: int
    end_ns: int
    delay_ns: int
    """One-way access delay, for the tunnel's own packets."""
    keepalive_ns: int
    mtu: int


Framing = Callable[[Datagrams, Endpoint], tuple[Datagrams, Framed]]


def put(head: Bytes, at: int, value: Ints, width: int, order: str = "little") -> None:
    """Write integers into columns of `head`."""
    for i in range(width):
        shift = 8 * (i if order == "little" else width - 1 - i)
        head[:, at + i] = (value >> shift) & 0xFF


def ranks(mask: npt.NDArray[np.bool_], side: Ints) -> Ints:
    """Running number of the masked rows within each direction, from 0 (rows ordered by direction)."""
    counted = np.cumsum(mask)
    before_down = int(counted[np.searchsorted(side, DOWN) - 1]) if side.size and side[0] == UP else 0
    result: Ints = counted - mask - np.where(side == DOWN, before_down, 0)
    return result


def tap_times(end: Endpoint, side: int, sent_ns: Ints) -> Ints:
    """Ingress-tap times of packets of the tunnel's own."""
    if side == DOWN:
        return sent_ns
    jitter = end.random.exponential(0.1e6, len(sent_ns)).astype(np.int64)
    return sent_ns + end.delay_ns + jitter


def silence(sent: Ints, received: Ints, after_ns: int, end_ns: int) -> Ints:
    """Moments of a passive keep-alive: something came, and nothing was sent for ``after_ns`` since.

    Parameters
    ----------
    sent, received : ndarray of int64
        Ascending times of data, of the end in question.
    """
    edges = np.concatenate([sent, [end_ns]])
    earliest = np.searchsorted(received, edges[:-1], side="right")
    found = earliest < len(received)
    if not len(received):
        return edges[:0]
    due = received[np.minimum(earliest, len(received) - 1)] + after_ns
    quiet: Ints = due[found & (due < edges[1:])]
    return quiet


def idle_gaps(sent: Ints, every_ns: int, start_ns: int, end_ns: int) -> Ints:
    """Moments of a persistent keep-alive: each time nothing was sent for ``every_ns``."""
    edges = np.concatenate([[start_ns], sent, [end_ns]])
    counts = (np.diff(edges) - 1) // every_ns
    gaps = np.flatnonzero(counts > 0)
    return np.concatenate(
        [edges[i] + every_ns * np.arange(1, counts[i] + 1) for i in gaps] or [np.empty(0, np.int64)]
    ).astype(np.int64)


def add_set_up(
    datagrams: Datagrams, end: Endpoint, script: list[Control]
) -> tuple[Datagrams, list[Control], int]:
    """Add a set-up; returns its messages in the order their rows will have, and when it is over."""
    sides, sent, tap, lengths = conversation(end, script)
    for side in (UP, DOWN):
        mine = sides == side
        datagrams = datagrams.with_own(side, sent[mine], tap[mine], CONTROL, lengths[mine])
    order = np.lexsort((sent, sides))
    return datagrams, [script[i] for i in order], int(sent[-1]) if len(sent) else end.start_ns


def write_control(
    head: Bytes, head_length: Ints, control: npt.NDArray[np.bool_], messages: list[Control]
) -> None:
    """Put the first bytes of set-up messages into their rows."""
    for row, message in zip(np.flatnonzero(control), messages, strict=True):
        used = min(len(message.head), HEAD_BYTES)
        head[row] = 0
        head[row, :used] = np.frombuffer(message.head[:used], np.uint8)
        head_length[row] = used


def conversation(end: Endpoint, script: list[Control]) -> tuple[Ints, Ints, Ints, Ints]:
    """Sides, sending times, tap times and lengths of a set-up that waits for each answer."""
    now = end.start_ns
    side = []
    sent = []
    previous = UP
    for message in script:
        if message.side != previous:
            now += end.delay_ns
        now += message.wait_ns
        side.append(message.side)
        sent.append(now)
        previous = message.side
    sides = np.array(side, np.int64)
    times = np.array(sent, np.int64)
    tap = np.where(sides == UP, times + end.delay_ns, times)
    return sides, times, tap, np.array([message.length for message in script], np.int64)
