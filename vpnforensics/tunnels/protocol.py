"""What a VPN protocol has to say: how to know it, where its records are, how it changes lengths.

A recogniser's confidence is a scale of evidence, and these are its steps; what two protocols claim, the surer
one has. From :data:`SURE` on a conversation is called a tunnel; below, lengths have to prove it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vpnforensics.tunnels.length_map import LengthMap

U8 = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

OWN_SHAPE = 0.99
"""A handshake message of fixed bytes and length, or an IP protocol number of its own."""
OWN_PORT = 0.97
"""Counters and ciphertext in the right places, on the port that the protocol was given."""
CONSISTENT = 0.95
"""Messages that name each other rightly: identifiers echoed, numbers counted, lengths that agree."""
COUNTED = 0.9
"""Data packets under a steady identifier and a counter, both in places that only this protocol has."""
COUNTED_LOOSELY = 0.85
"""The same, in places that another protocol might use so."""
SHAPED = 0.8
"""No field of its own, but size, randomness and counting are all as they have to be."""
SURE = 0.5
LIKENESS = 0.4
"""A protocol that carries VPNs and other things, or a VPN's with too little seen of it."""
POSSIBLE = 0.1
"""Nothing against it."""


@dataclass(frozen=True, eq=False)
class Datagrams:
    """The payloads of one outer conversation, in capture order (for recognition, only its first ones).

    ``head`` is shape (n, 32), zero-filled; ``payload_bytes`` the true length by the headers.
    """

    payload_bytes: npt.NDArray[np.int32]
    head: U8
    up: npt.NDArray[np.bool_]
    proto: int
    ports: tuple[int, int]

    def __len__(self) -> int:
        return len(self.payload_bytes)

    @property
    def sides(self) -> tuple[Flags, Flags]:
        """The datagrams of either direction."""
        return self.up, ~self.up

    @property
    def two_way(self) -> bool:
        """Whether both ends speak."""
        return bool(self.up.any()) and not bool(self.up.all())

    def take(self, index: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Datagrams:
        """The datagrams at ``index``."""
        return Datagrams(self.payload_bytes[index], self.head[index], self.up[index], self.proto, self.ports)


@dataclass(frozen=True, slots=True)
class Recognition:
    """How sure a recogniser is that a conversation is a tunnel of its protocol."""

    confidence: float
    """0 to 1. At least 0.5 makes a tunnel; less makes a candidate that a learned length map must prove."""
    variant: str = ""
    client_first: bool | None = None
    """Whether the sender of the first datagram is the client, where the protocol says so."""


@dataclass(frozen=True, eq=False)
class Records:
    """The datagrams of a conversation that carry one inner packet each."""

    carries: npt.NDArray[np.bool_]
    counter: npt.NDArray[np.int64]
    """The tunnel's clear packet counter, -1 where there is none."""
    size: npt.NDArray[np.int32] | None = None
    """What the length map is of, where headers of varying length stand before it; ``None``: the payload."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """Datagrams that a round trip to the client shows in, by their numbers in a conversation."""

    offers: tuple[int, ...] = ()
    """Of the server, each answered at once."""
    answers: tuple[int, ...] = ()
    """Of the client, as far as they may be such an answer."""


def handshake_of(offers: Flags, answers: Flags) -> Handshake:
    """The datagrams marked."""
    return Handshake(tuple(np.flatnonzero(offers).tolist()), tuple(np.flatnonzero(answers).tolist()))


def no_handshake(opening: Datagrams) -> Handshake:
    """Of a protocol whose handshakes are not known by sight."""
    return Handshake()


class VpnProtocol(Protocol):
    """One VPN protocol; each lives in a module of its own."""

    name: str
    server_ports: tuple[int, ...]
    copies_ecn: bool
    """Whether the ECN field of the inner header is copied to the outer one."""

    def recognise(self, sample: Datagrams) -> Recognition | None:
        """Judge a conversation by a sample of its datagrams; ``None`` where it cannot be this protocol."""
        ...

    def records(self, datagrams: Datagrams, variant: str) -> Records:
        """Which datagrams carry an inner packet, and their counters."""
        ...

    def handshake(self, opening: Datagrams) -> Handshake:
        """The handshake among a conversation's first datagrams, ``up`` being the client's."""
        ...

    def length_maps(self, datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
        """The length maps this protocol may have, likeliest first; empty where only learning helps."""
        ...


def be16(head: U8, at: int) -> npt.NDArray[np.int64]:
    """Big-endian 16-bit field at byte ``at`` of every head."""
    return _words(head, at, ">u2")


def be32(head: U8, at: int) -> npt.NDArray[np.int64]:
    """Big-endian 32-bit field at byte ``at`` of every head."""
    return _words(head, at, ">u4")


def le32(head: U8, at: int) -> npt.NDArray[np.int64]:
    """Little-endian 32-bit field at byte ``at`` of every head."""
    return _words(head, at, "<u4")


def _words(head: U8, at: int, dtype: str) -> npt.NDArray[np.int64]:
    width = np.dtype(dtype).itemsize
    if head.flags.c_contiguous and at % width == 0 == head.shape[1] % width:
        return head.view(dtype)[:, at // width].astype(np.int64)  # read in place: a third of the time
    return np.ascontiguousarray(head[:, at : at + width]).view(dtype)[:, 0].astype(np.int64)


def counts_up(counter: npt.NDArray[np.int64], *, window: int = 64) -> float:
    """Share of steps of a packet counter that look like one: forward a little, or reordered a little.

    A counter that stands still is not one. Fewer than three packets say nothing (0).
    """
    if len(counter) < 3:
        return 0.0
    step = np.diff(counter)
    return float(np.mean((step != 0) & (np.abs(step) <= window)))


def counts_up_each_way(counter: npt.NDArray[np.int64], up: npt.NDArray[np.bool_]) -> float:
    """:func:`counts_up` of the two directions, weighted by their packets; 0 where neither has three."""
    shares = [(counts_up(counter[side]), int(side.sum())) for side in (up, ~up)]
    spoken = [(share, n) for share, n in shares if n >= 3]
    return sum(share * n for share, n in spoken) / sum(n for _, n in spoken) if spoken else 0.0


def steps_within(
    counter: npt.NDArray[np.int64], key: npt.NDArray[np.int64], *, window: int = 64
) -> npt.NDArray[np.bool_]:
    """Whether each counter is the next one, or nearly, of the last packet with the same key.

    Parameters
    ----------
    counter, key : ndarray of int64, shape (n,)
        In order of capture. A key names who counts: a direction, an identifier, both.

    Returns
    -------
    ndarray of bool, shape (n - distinct keys,)
        The steps, by key and then in order.
    """
    order = np.argsort(key, kind="stable")
    step = np.diff(counter[order])[np.diff(key[order]) == 0]
    return np.asarray((step != 0) & (np.abs(step) <= window))


def used_both_ways(identifier: npt.NDArray[np.int64], up: npt.NDArray[np.bool_]) -> float:
    """Share of packets with an identifier that the other direction has; 0 where each end chose its own."""
    shared = np.intersect1d(identifier[up], identifier[~up]).tolist()
    strays = (min((identifier[up] == i).sum(), (identifier[~up] == i).sum()) for i in shared[:8])
    return float(sum(strays)) / max(len(identifier), 1)


def looks_sealed(sample: Datagrams, at: int) -> bool | None:
    """Whether what stands from byte ``at`` on looks like ciphertext; ``None`` where too little was captured.

    Two packets agree in a byte of ciphertext by chance only, once in 256. Anything with fields (a type, a
    time, the upper half of a number) or text agrees often, or has its upper bits clear.
    """
    body = sample.head[:, at : at + _SEALED_COLUMNS]
    body = body[:, body.any(axis=0)]
    sides = [body[side] for side in sample.sides]
    compared = sum(max(len(side) - 1, 0) for side in sides) * body.shape[1]
    if body.shape[1] < 4 or compared < _LEAST_SEALED_PAIRS:
        return None
    equal = sum(int((side[1:] == side[:-1]).sum()) for side in sides)
    upper = float((body >= 128).mean())
    return equal <= 1 + _MOST_EQUAL_SHARE * compared and abs(upper - 0.5) < float(2.5 / body.size**0.5)


_SEALED_COLUMNS = 8
_LEAST_SEALED_PAIRS = 12
_MOST_EQUAL_SHARE = 0.03
