"""Addresses to small integers, through a table that attackers cannot crowd."""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.kernels import kernel


@kernel
def mix(x: Any) -> Any:
    """Finaliser of splitmix64: every input bit moves every output bit."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def intern(
    high: Any, low: Any, version: Any, slots: Any, packed: Any, versions: Any, count: Any, seed: Any
) -> Any:
    """Number of an address, a new one (``count``) if it was not seen before."""
    mask = len(slots) - 1
    cell = np.int64(mix(low ^ mix(high ^ seed)) & np.uint64(mask))
    while True:
        number = slots[cell]
        if number < 0:
            slots[cell] = count
            packed[count, 0] = high
            packed[count, 1] = low
            versions[count] = version
            return count
        if packed[number, 1] == low and packed[number, 0] == high and versions[number] == version:
            return number
        cell = (cell + 1) & mask


@kernel
def rebuild_slots(packed: Any, versions: Any, count: Any, slots: Any, seed: Any) -> Any:
    """Enter the first ``count`` addresses into an empty slot table."""
    mask = len(slots) - 1
    for number in range(count):
        cell = np.int64(mix(packed[number, 1] ^ mix(packed[number, 0] ^ seed)) & np.uint64(mask))
        while slots[cell] >= 0:
            cell = (cell + 1) & mask
        slots[cell] = number
