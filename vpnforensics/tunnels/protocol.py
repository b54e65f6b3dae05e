"""What a VPN protocol has to say: how to know it, where its records are, how it changes lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vpnforensics.tunnels.length_map import LengthMap

U8 = npt.NDArray[np.uint8]


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

    def take(self, index: npt.NDArray[np.bool_]) -> Datagrams:
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


class VpnProtocol(Protocol):
    """One VPN protocol; each lives in a module of its own."""

    name: str
    server_ports: tuple[int, ...]

    def recognise(self, sample: Datagrams) -> Recognition | None:
        """Judge a conversation by a sample of its datagrams; ``None`` where it cannot be this protocol."""
        ...

    def records(self, datagrams: Datagrams) -> Records:
        """Which datagrams carry an inner packet, and their counters."""
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
