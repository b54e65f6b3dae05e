"""Packets as sequences that a network reads: gaps and sizes of each direction, from a moment on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Int32s, Ints
from vpnforensics.validation.baselines.sightings import Sightings

Float32s = npt.NDArray[np.float32]

CHANNELS = 4
"""Gaps down and up, sizes down and up."""
_LARGEST = 1500.0
"""Bytes that count as 1."""
_GAP_SCALE = 1e-4, 6.0
"""A gap of so many seconds counts as little; in natural logarithms, one of 40 ms above it as 1."""


def sequences(packets: Sightings, sender: int, begin_ns: Ints, end_ns: Ints | None, length: int) -> Float32s:
    """The first packets of one sender from each of several moments on.

    Parameters
    ----------
    packets : Sightings
    sender : int
        Tunnel or flow.
    begin_ns : ndarray of int64, shape (n,)
    end_ns : ndarray of int64, shape (n,), or None
        What comes from then on is left out.
    length : int
        Packets of each direction.

    Returns
    -------
    ndarray of float32, shape (n, length, 4)
        0 where there are no more packets. The first gap counts from ``begin_ns``.
    """
    found = np.zeros((len(begin_ns), length, CHANNELS), np.float32)
    for up in (0, 1):
        ts_ns, size = packets.of(sender, up)
        first = np.searchsorted(ts_ns, begin_ns)
        last = len(ts_ns) if end_ns is None else np.searchsorted(ts_ns, end_ns)[:, None]
        row = first[:, None] + np.arange(length)
        there = row < last
        found[:, :, up], found[:, :, 2 + up] = _gaps_and_sizes(ts_ns, size, begin_ns, row, there)
    return found


def _gaps_and_sizes(
    ts_ns: Ints, size: Int32s, begin_ns: Ints, row: Ints, there: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if not len(ts_ns):
        return np.zeros(row.shape), np.zeros(row.shape)
    at = np.minimum(row, len(ts_ns) - 1)
    before = np.hstack([begin_ns[:, None], ts_ns[at[:, :-1]]])
    seconds = np.maximum(ts_ns[at] - before, 0) * 1e-9
    scale, decades = _GAP_SCALE
    return np.where(there, np.log1p(seconds / scale) / decades, 0.0), np.where(
        there, size[at] / _LARGEST, 0.0
    )
