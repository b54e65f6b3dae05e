"""Loops over the pairs of a contest: what each side tells the other, and who takes whom."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.kernels import kernel


class Grouped(NamedTuple):
    """Pairs by one of their sides: ``row[start[g]:start[g + 1]]`` are those of member g."""

    start: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]


@kernel
def tell(side, weight, heard, told):  # type: ignore[no-untyped-def]
    """Each member's message along each of its pairs: the chance that no other of its pairs holds.

    ``told`` is filled with 1 / (1 + sum over the member's other pairs of weight times ``heard``); the sums of
    the others are taken from both ends, since a difference would lose them beside a large one.

    Returns
    -------
    float
        Largest change, as a natural logarithm.
    """
    most = 0.0
    behind = np.empty(side.row.size)
    for g in range(side.start.size - 1):
        first, stop = side.start[g], side.start[g + 1]
        total = 0.0
        for at in range(stop - 1, first - 1, -1):
            behind[at] = total
            total += weight[side.row[at]] * heard[side.row[at]]
        total = 0.0
        for at in range(first, stop):
            pair = side.row[at]
            new = 1.0 / (1.0 + total + behind[at])
            total += weight[pair] * heard[pair]
            most = max(most, abs(np.log(new / told[pair])))
            told[pair] = new
    return most


@kernel
def take(order, flow, connection, of_flow, of_connection):  # type: ignore[no-untyped-def]
    """Pairs taken in an order, each flow and each connection once; the row is put into both of the last."""
    for pair in order:
        if of_flow[flow[pair]] < 0 and of_connection[connection[pair]] < 0:
            of_flow[flow[pair]] = pair
            of_connection[connection[pair]] = pair
