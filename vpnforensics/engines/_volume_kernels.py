"""Loops over the pieces of streams: what a burst finds in its window, which bytes flows take, from whom."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.kernels import inner_kernel, kernel


class Stock(NamedTuple):
    """Pieces of the outer streams, by stream and time."""

    ts_ns: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    """Bytes of each that no flow has taken."""
    taker: npt.NDArray[np.int64]
    """Flow that took half of it or more, -1 for none."""


class Wanted(NamedTuple):
    """What bursts look for: rows ``first[k]:stop[k]`` of the pieces, and how many bytes."""

    first: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    begin_ns: npt.NDArray[np.int64]
    need: npt.NDArray[np.int64]
    most: npt.NDArray[np.int64]
    flow: npt.NDArray[np.int64]
    rival: npt.NDArray[np.int64]
    """Flow that gives back what it took, -1 for none."""


class Found(NamedTuple):
    """And what each found or took."""

    size: npt.NDArray[np.int64]
    """Bytes."""
    apart_ns: npt.NDArray[np.int64]
    """Time of the first of them since the burst's beginning."""
    whole: npt.NDArray[np.bool_]
    """Whether pieces in a row have neither less nor more than needed."""


@inner_kernel
def _there(stock, row, rival):  # type: ignore[no-untyped-def]
    """Bytes of a piece that can be had."""
    return stock.size[row] if rival >= 0 and stock.taker[row] == rival else stock.left[row]


@inner_kernel
def _whole(stock, wanted, k):  # type: ignore[no-untyped-def]
    """The pieces in a row that have what is needed and hardly more, those that begin nearest; -1 for none."""
    found, end, rival = np.int64(-1), np.int64(-1), wanted.rival[k]
    behind, have = wanted.first[k], np.int64(0)
    for row in range(wanted.first[k], wanted.stop[k]):
        here = _there(stock, row, rival)
        if here == 0:
            continue
        if behind < row:
            behind, have = np.int64(row), np.int64(0)
        while behind < wanted.stop[k] and have < wanted.need[k]:
            have += _there(stock, behind, rival)
            behind += 1
        if have < wanted.need[k]:
            break
        apart = abs(stock.ts_ns[row] - wanted.begin_ns[k])
        if have <= wanted.most[k] and (found < 0 or apart < abs(stock.ts_ns[found] - wanted.begin_ns[k])):
            found, end = np.int64(row), behind
        have -= here
    return found, end


@inner_kernel
def _nearest(stock, wanted, k):  # type: ignore[no-untyped-def]
    """The nearest piece of which anything is left; -1 for none."""
    found = np.int64(-1)
    for row in range(wanted.first[k], wanted.stop[k]):
        apart = abs(stock.ts_ns[row] - wanted.begin_ns[k])
        some = _there(stock, row, wanted.rival[k]) > 0
        if some and (found < 0 or apart < abs(stock.ts_ns[found] - wanted.begin_ns[k])):
            found = np.int64(row)
    return found


@kernel
def look(stock, wanted, found):  # type: ignore[no-untyped-def]
    """What is left in each window; ``found`` is filled."""
    for k in range(wanted.first.size):
        for row in range(wanted.first[k], wanted.stop[k]):
            found.size[k] += _there(stock, row, wanted.rival[k])
        row, _ = _whole(stock, wanted, k)
        found.whole[k] = row >= 0
        if row < 0:
            row = _nearest(stock, wanted, k)
        if row >= 0:
            found.apart_ns[k] = stock.ts_ns[row] - wanted.begin_ns[k]


@inner_kernel
def _take(stock, wanted, found, k, row, some):  # type: ignore[no-untyped-def]
    stock.left[row] -= some
    found.size[k] += some
    if 2 * some >= stock.size[row]:
        stock.taker[row] = wanted.flow[k]


@inner_kernel
def _take_some(stock, wanted, found, k, first, stop, step):  # type: ignore[no-untyped-def]
    for row in range(first, stop, step):
        some = min(stock.left[row], wanted.need[k] - found.size[k])
        if some > 0:
            _take(stock, wanted, found, k, row, some)


@kernel
def take(stock, wanted, order, found):  # type: ignore[no-untyped-def]
    """Bursts take what they need, in an order: pieces that have just that, then whatever is nearest, from
    there on first; ``stock`` and ``found`` are changed.
    """
    for k in order:
        row, stop = _whole(stock, wanted, k)
        if row >= 0:
            found.whole[k] = True
            found.apart_ns[k] = stock.ts_ns[row] - wanted.begin_ns[k]
            for at in range(row, stop):
                _take(stock, wanted, found, k, at, stock.left[at])
    for k in order:
        if found.whole[k]:
            continue
        row = _nearest(stock, wanted, k)
        if row >= 0:
            found.apart_ns[k] = stock.ts_ns[row] - wanted.begin_ns[k]
            _take_some(stock, wanted, found, k, row, wanted.stop[k], 1)
            _take_some(stock, wanted, found, k, row - 1, wanted.first[k] - 1, -1)


@kernel
def name_rivals(stock, wanted, bytes_of, rival, piece):  # type: ignore[no-untyped-def]
    """The other flow that took most of each window, and its largest piece there.

    ``bytes_of`` has an entry a flow, 0; ``rival`` and ``piece``, -1, are filled.
    """
    for k in range(wanted.first.size):
        for row in range(wanted.first[k], wanted.stop[k]):
            taker = stock.taker[row]
            if taker < 0 or taker == wanted.flow[k]:
                continue
            bytes_of[taker] += stock.size[row]
            if rival[k] < 0 or bytes_of[taker] > bytes_of[rival[k]]:
                rival[k] = taker
        for row in range(wanted.first[k], wanted.stop[k]):
            taker = stock.taker[row]
            if taker < 0 or taker == wanted.flow[k]:
                continue
            bytes_of[taker] = 0
            if taker == rival[k] and (piece[k] < 0 or stock.size[row] > stock.size[piece[k]]):
                piece[k] = row
