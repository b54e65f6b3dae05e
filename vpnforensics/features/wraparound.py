"""Arithmetic of counters that wrap: 16-bit IP IDs and 32-bit TCP timestamps, in this one place.

A step is read as the signed difference of least magnitude (RFC 1982, RFC 7323 section 5.2). That is right
as long as a counter moves by less than half its range between two packets: 24.8 days at 1000 Hz, 35 minutes
at 1 MHz, and 32,767 packets.

https://www.rfc-editor.org/rfc/rfc1982
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def signed_difference(later: npt.NDArray[Any], earlier: npt.NDArray[Any], bits: int) -> Ints:
    """``later - earlier`` modulo ``2**bits``, in ``[-2**(bits-1), 2**(bits-1))``."""
    half = 1 << (bits - 1)
    difference: Ints = (later.astype(np.int64) - earlier.astype(np.int64) + half) % (1 << bits) - half
    return difference


def unwrap(counter: npt.NDArray[Any], bits: int) -> Ints:
    """A wrapping counter as it would be without the wrap; the first value stays.

    Parameters
    ----------
    counter : ndarray of integers, shape (n,)
        In order of time; small steps back (reordering) are kept as such.
    bits : int
        Width of the counter.

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    if not len(counter):
        return np.zeros(0, np.int64)
    steps = signed_difference(counter[1:], counter[:-1], bits)
    return np.cumsum(np.r_[np.int64(counter[0]), steps])


def swap_bytes(ip_id: npt.NDArray[Any]) -> Ints:
    """16-bit values with their bytes exchanged, as a little-endian host without ``htons`` sends them."""
    wide = ip_id.astype(np.int64)
    return (wide >> 8 & 0xFF) | (wide & 0xFF) << 8
