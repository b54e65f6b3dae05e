"""Countermeasures on the encrypted side: padded lengths, constant-rate cover traffic."""

from __future__ import annotations

import numpy as np

from vpnforensics.groundtruth.simulate.outer.datagrams import (
    DOWN,
    DUMMY,
    UP,
    Datagrams,
    Endpoint,
    Ints,
    tap_times,
)
from vpnforensics.groundtruth.simulate.spec import Countermeasures


def padded(inner: Ints, measures: Countermeasures, mtu: int) -> Ints:
    """Inner lengths after padding, never above the MTU (and never below the packet itself)."""
    size = inner
    if measures.pad_block:
        size = -(-size // measures.pad_block) * measures.pad_block
    if measures.pad_buckets:
        buckets = np.array(sorted({*measures.pad_buckets, mtu}), np.int64)
        size = buckets[np.minimum(np.searchsorted(buckets, size), len(buckets) - 1)]
    if measures.pad_mtu:
        size = np.full(len(size), mtu, np.int64)
    return np.maximum(np.minimum(size, mtu), inner)


def add_cover(datagrams: Datagrams, measures: Countermeasures, mtu: int, end: Endpoint) -> Datagrams:
    """Dummies in every slot that no packet took, both ways, as long as real packets when those are padded."""
    slot_ns = int(1e9 / measures.cover_hz)
    first, last = end.start_ns // slot_ns + 1, end.end_ns // slot_ns
    for side in (UP, DOWN):
        mine = datagrams.side == side
        free = np.setdiff1d(np.arange(first, last), datagrams.sent_ns[mine] // slot_ns)
        when = free * slot_ns
        size = int(padded(np.array([mtu if measures.pad_mtu else 576]), measures, mtu)[0])
        datagrams = datagrams.with_own(side, when, tap_times(end, side, when), DUMMY, size)
    return datagrams
