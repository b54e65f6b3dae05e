"""The packets of linked flows for the report: delta coded columns, and runs of frame numbers.

A file to hand over cannot hold the packets of any case. Each flow's first packets are listed, as many as fit
when all flows give way alike; of those that have more, all frames are named as runs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.arrays import Bools, Ints

LISTED_PACKETS = 100_000
"""Packets listed one by one in a report: about 4 MB."""
LISTED_RUNS = 600_000
"""Runs of frames named in a report: about 4 MB."""
FIELDS = ("inner_ip_id", "inner_tsval", "outer_ip_id", "outer_tsval")
"""Header fields that pages may draw, of packets going up."""


def packet_lists(
    pairings: pd.DataFrame, flows: Sequence[str], fields: Sequence[Collection[str]] = ()
) -> dict[str, Any]:
    """Packets of each flow, by its number among ``flows``.

    Parameters
    ----------
    pairings : DataFrame
        :attr:`vpnforensics.report.result.CaseResult.pairings`.
    flows : sequence of str
    fields : sequence of collection of str, optional
        For each flow, those of :data:`FIELDS` that its page draws.

    Returns
    -------
    dict
        By flow: ``all``, how many packets it has; ``found``, of how many the outer one is known; ``at``, the
        time of the first; columns of those listed (``t`` time, ``e`` and ``i`` frames at egress and ingress,
        ``l`` inner bytes, negative down, ``o`` outer bytes, ``n`` counter, ``d`` delay), of which ``t``,
        ``e``, ``i`` and ``n`` are differences; ``ef`` and ``if`` number their files where there are several;
        ``fields`` of the packets going up, -1 where one has none; ``runs`` of all frames where not all are
        listed, and whether that was ``cut`` short.
    """
    number = {flow: n for n, flow in enumerate(flows)}
    categories = pairings["flow"].cat.categories
    of_category = np.array([number.get(flow, -1) for flow in categories], np.int64)
    flow = of_category[pairings["flow"].cat.codes.to_numpy()] if len(categories) else np.empty(0, np.int64)
    order = np.argsort(flow, kind="stable")
    columns = _columns(pairings.iloc[order])
    present, start = np.unique(flow[order], return_index=True)
    ends = np.append(start, len(flow))[1:]
    most = even_share(ends - start, LISTED_PACKETS)
    made: dict[str, Any] = {}
    longer = []
    for which, first, end in zip(present.tolist(), start.tolist(), ends.tolist(), strict=True):
        mine = {key: values[first:end] for key, values in columns.items()}
        made[str(which)] = _listed(mine, most, fields[which] if fields else ())
        if end - first > most:
            longer.append((str(which), mine))
    runs = {which: {role: _runs(mine, role) for role in ("e", "i")} for which, mine in longer}
    sizes = [len(first) for sides in runs.values() for _, first, _ in sides.values()]
    share = even_share(np.array(sizes, np.int64), LISTED_RUNS)
    for which, sides in runs.items():
        made[which]["runs"] = {
            role: _by_file(*(each[:share] for each in side)) for role, side in sides.items()
        }
        made[which]["cut"] = any(len(first) > share for _, first, _ in sides.values())
    return made


def even_share(sizes: npt.NDArray[np.integer[Any]], budget: int) -> int:
    """The most that each may have so that all together keep within a budget.

    >>> even_share(np.array([2, 100, 50]), 62), even_share(np.array([2, 3]), 62)
    (30, 3)
    """
    left = budget
    ascending = np.sort(sizes).tolist()
    for n, size in enumerate(ascending):
        if size * (len(ascending) - n) > left:
            return max(left // (len(ascending) - n), 1)
        left -= size
    return int(ascending[-1]) if ascending else 0


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    """What is needed of the pairings as arrays; -1 for what is missing."""
    found = table["ingress_frame"].notna().to_numpy()
    size = table["inner_bytes"].to_numpy(np.int64)
    columns = {
        "t": table["egress_ns"].to_numpy(np.int64),
        "e": table["egress_frame"].to_numpy(np.int64, na_value=-1),
        "l": np.where(table["up"].to_numpy(bool), size, -size),
        "found": found,
    }
    for key, name in (("i", "ingress_frame"), ("o", "outer_bytes"), ("n", "counter"), ("d", "delay_ns")):
        columns[key] = table[name].to_numpy(np.int64, na_value=-1)
    for name in FIELDS:
        if name in table:
            columns[name] = table[name].to_numpy(np.int64, na_value=-1)
    for key, role in (("ef", "egress"), ("if", "ingress")):
        name = f"{role}_file"
        columns[key] = table[name].cat.codes.to_numpy(np.int64) if name in table else np.full(len(table), -1)
    return columns


def _listed(mine: dict[str, Any], most: int, fields: Collection[str]) -> dict[str, Any]:
    first = {key: values[:most] for key, values in mine.items()}
    found = first["found"]
    made: dict[str, Any] = {"all": len(mine["t"]), "found": int(mine["found"].sum()), "at": str(mine["t"][0])}
    made["t"] = _steps(first["t"] - first["t"][0]).tolist()
    made["e"] = _steps(first["e"]).tolist()
    made["l"] = first["l"].tolist()
    for key in ("i", "n"):
        made[key] = _spread(_steps(first[key][found]), found)
    if (first["n"][found] < 0).all():  # a tunnel without a clear counter
        del made["n"]
    for key in ("o", "d"):
        made[key] = _spread(first[key][found], found)
    for key in ("ef", "if"):
        if mine[key].max(initial=0) > 0:
            made[key] = first[key].tolist()
    wanted = {name: first[name][first["l"] > 0] for name in FIELDS if name in fields and name in mine}
    there = {name: values.tolist() for name, values in wanted.items() if (values >= 0).any()}
    return made | ({"fields": there} if there else {})


def _spread(values: Ints, found: Bools) -> list[int | None]:
    """Values at their places, None between them."""
    rest = iter(values.tolist())
    return [next(rest) if there else None for there in found.tolist()]


def _runs(mine: dict[str, Any], role: str) -> tuple[Ints, Ints, Ints]:
    """Runs of a side's frames: of each its file, first and last frame."""
    known = mine["found"] | (role == "e")
    frame, file = mine[role][known], mine[f"{role}f"][known]
    order = np.lexsort((frame, file))
    frame, file = frame[order], file[order]
    begins = np.ones(len(frame), np.bool_)
    begins[1:] = (frame[1:] - frame[:-1] > 1) | (file[1:] != file[:-1])
    ends = np.ones(len(frame), np.bool_)
    ends[:-1] = begins[1:]
    return file[begins], frame[begins], frame[ends]


def _by_file(file: Ints, first: Ints, last: Ints) -> list[list[int]]:
    """Runs as a list for each file: its number, then how far after the last run each begins, and goes on."""
    made = []
    for number in np.unique(file).tolist():
        begin, end = first[file == number], last[file == number]
        gap = begin.copy()
        gap[1:] -= end[:-1]
        made.append([number, *np.stack([gap, end - begin], axis=1).ravel().tolist()])
    return made


def _steps(values: Ints) -> Ints:
    """The first value, then differences."""
    steps = values.copy()
    steps[1:] -= values[:-1]
    return steps
