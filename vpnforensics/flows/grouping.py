"""Rows of a table by group, and in order of time within one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.flows._kernels import count_groups, place_groups
from vpnforensics.scratch import ascending, beside, blocks


def group_rows(
    group: npt.NDArray[np.integer], groups: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Rows by group, their order kept within it; rows of a negative group are left out.

    Returns
    -------
    rows : ndarray of int32
    start : ndarray of int64, shape (groups + 1,)
        ``rows[start[g]:start[g + 1]]`` are those of group g.
    """
    start = count_groups(group, groups)
    rows = beside(group).empty(int(start[-1]), np.int32)
    place_groups(group, start, rows)
    return rows, start


def rows_in_time(
    group: npt.NDArray[np.integer], groups: int, ts_ns: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Rows by group and time (ties: their order); rows of a negative group are left out.

    Returns
    -------
    rows : ndarray of int32
    start : ndarray of int64, shape (groups + 1,)
        ``rows[start[g]:start[g + 1]]`` are those of group g.
    """
    rows, start = group_rows(group.astype(np.int32, copy=False), groups)
    if not ascending(ts_ns):  # few captures
        rows = rows[np.lexsort((ts_ns[rows], group[rows]))]
    return rows, start


def count_in_groups(
    numbers: npt.NDArray[np.signedinteger], start: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """How many numbers of each group, ``start[g]:start[g + 1]``, are not negative; no group is empty."""
    found = np.empty(len(start) - 1, np.int64)
    for groups in blocks(len(found)):
        first = start[groups]
        some = numbers[first[0] : start[groups.stop]]
        found[groups] = np.add.reduceat(some >= 0, first - first[0], dtype=np.int64)
    return found


def changes(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Whether a row differs from the one before it in any of some columns; the first one does."""
    changed = np.ones(len(columns[0]), np.bool_)
    if len(changed):
        changed[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return changed


def runs(
    first: npt.NDArray[np.integer], stop: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows ``first[k]:stop[k]`` of all k, one after the other: k, and the row, of each."""
    count = stop - first
    of = np.repeat(np.arange(len(count)), count)
    return of, np.arange(len(of)) + np.repeat(stop - np.cumsum(count), count)


def places(keys: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each wanted key stands among the others, none of which is below 0; -1 where it does not."""
    order = np.argsort(keys, kind="stable")
    at = np.r_[order, -1][np.searchsorted(keys, wanted, sorter=order)]
    return np.where(np.r_[keys, -1][at] == wanted, at, -1)
