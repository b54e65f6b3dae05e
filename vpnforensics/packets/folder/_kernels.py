"""Loop over packets: those of one flow and direction together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.kernels import kernel

_NOBODY = -1


class Ends(NamedTuple):
    """Columns that name a flow and a direction of it, each of shape (n,)."""

    src: npt.NDArray[np.int32]
    dst: npt.NDArray[np.int32]
    proto: npt.NDArray[np.uint8]
    sport: npt.NDArray[np.uint16]
    dport: npt.NDArray[np.uint16]


@kernel
def flows_together(ends: Any, seed: Any, slots: Any, order: Any) -> None:
    """An order of rows in which those of equal ends stand together, as they came; so do the ends.

    Parameters
    ----------
    ends : Ends
    seed : uint64
        Where ends are looked for depends on it, so that none can be made that all clash; the order does not.
    slots : ndarray of int32, shape (a power of two, more than n)
        Room; all -1.
    order : ndarray of int64, shape (n,)
        Receives the rows.
    """
    n = len(order)
    mask = np.uint64(len(slots) - 1)
    first = np.empty(n, np.int32)
    group = np.empty(n, np.int32)
    start = np.zeros(n + 1, np.int64)
    groups = 0
    for row in range(n):
        src, dst, proto = ends.src[row], ends.dst[row], ends.proto[row]
        sport, dport = ends.sport[row], ends.dport[row]
        mixed = (np.uint64(src) << np.uint64(32) | np.uint64(dst)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed += np.uint64(sport) << np.uint64(24) | np.uint64(dport) << np.uint64(8) | np.uint64(proto)
        mixed = (mixed ^ seed) * np.uint64(0xBF58476D1CE4E5B9)
        cell = np.int64((mixed ^ (mixed >> np.uint64(32))) & mask)
        while True:
            known = slots[cell]
            if known == _NOBODY:
                slots[cell] = groups
                first[groups] = row
                known = groups
                groups += 1
                break
            like = first[known]
            if (
                ends.src[like] == src
                and ends.dst[like] == dst
                and ends.sport[like] == sport
                and ends.dport[like] == dport
                and ends.proto[like] == proto
            ):
                break
            cell = (cell + 1) & np.int64(mask)
        group[row] = known
        start[known + 1] += 1
    for known in range(groups):
        start[known + 1] += start[known]
    for row in range(n):
        order[start[group[row]]] = row
        start[group[row]] += 1
