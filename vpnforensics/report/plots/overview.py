"""All flows in time, and one flow among what chance does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from vpnforensics.features.drawing import DOWN, INK, MISSING, UP, Drawn, axes, legend
from vpnforensics.report.dataframes import plain_rows
from vpnforensics.report.escaping import visible
from vpnforensics.report.quantities import many, ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vpnforensics.report.result import CaseResult

_MOST_LANES = 30
_LANE = 0.8
"""Share of a lane's height that flows take."""
_LEAST_ROWS = 4
"""Lanes with fewer rows are drawn as if they had so many: bars of one height say that they are alike."""
_LEAST_SHARE = 0.002
"""Flows shorter than this share of the picture are drawn as long as it, so that they are seen."""


class Lanes(NamedTuple):
    """Flows in time, laid out so that none covers another."""

    table: pd.DataFrame
    """``flow``, ``lane``, ``row`` and ``rows`` in it, ``first_s`` and ``last_s``."""
    lanes: list[str]
    counts: pd.Series[int]
    """Flows of each lane, those of lanes that are not shown as well."""
    hidden: int
    """Lanes not shown."""
    least_s: float
    """As long as this, the shortest flows are drawn."""


def timeline_lanes(case: CaseResult) -> Lanes:
    """All flows of a case, one lane a tunnel and one for those not linked.

    Raises
    ------
    ValueError
        The case has no flows.
    """
    ends = case.endpoints
    if not len(ends):
        raise ValueError("this case has no flows")
    table = pd.DataFrame({"flow": ends["id"], "lane": case.links["tunnel"]})
    table["lane"] = table["lane"].where(table["lane"].notna(), "not linked")
    start = int(ends["first_ns"].min())
    table["first_s"] = (ends["first_ns"] - start) / 1e9
    table["last_s"] = (ends["last_ns"] - start) / 1e9
    counts = table["lane"].value_counts()
    order = [t for t in case.tunnels["id"] if t in counts.index]
    order = sorted(sorted(order, key=lambda t: -counts[t])[:_MOST_LANES], key=order.index)
    lanes = [*order, *(["not linked"] if "not linked" in counts.index else [])]
    table = table[table["lane"].isin(lanes)].sort_values("first_s", kind="stable")
    least_s = _LEAST_SHARE * max(float(table["last_s"].max()), 1e-9)
    table["row"], table["rows"] = _rows(table, least_s)
    return Lanes(table, lanes, counts, len(counts) - len(lanes), least_s)


def draw_timeline(case: CaseResult, ax: Axes | None = None) -> Drawn:
    """Flows as bars in time, on the egress clock: one lane a tunnel, and one for those not linked.

    Flows of a lane that were at one time stand above each other. Of more tunnels than fit, those with most
    flows are drawn.

    Parameters
    ----------
    case : CaseResult
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    Drawn
        Numbers: ``flow``, ``lane``, ``row`` and ``rows`` in it, ``first_s``, ``last_s``.

    Raises
    ------
    ValueError
        The case has no flows.
    """
    ends = case.endpoints
    table, lanes, counts, hidden, least_s = timeline_lanes(case)
    ax = axes(ax, 8.0, min(1.4 + 0.5 * len(lanes), 12.0))
    for number, lane in enumerate(lanes):
        mine = table[table["lane"] == lane]
        height = _LANE / max(int(mine["rows"].iloc[0]), _LEAST_ROWS)
        bottom = len(lanes) - 1 - number - _LANE / 2 + mine["row"] * height
        linked = lane != "not linked"
        ax.barh(
            bottom + height / 2, np.maximum(mine["last_s"] - mine["first_s"], least_s), left=mine["first_s"],
            height=height * 0.85, color=UP if linked else MISSING, lw=0,
        )  # fmt: skip
    clients = case.tunnels.set_index("id")
    names = [
        visible(f"{lane}  {clients['user'][lane] or clients['client'][lane]}")
        if lane in clients.index
        else lane
        for lane in lanes
    ]
    labels = [f"{name} ({counts[lane]:,})" for name, lane in zip(names, lanes, strict=True)]
    ax.set_yticks(range(len(lanes) - 1, -1, -1), labels)
    ax.set_xlabel(f"seconds since {ends['first'].min():%Y-%m-%d %H:%M:%S} UTC, egress clock")
    more = f"; {many(hidden, 'more tunnel')} not shown" if hidden else ""
    ax.set_title(f"{many(len(ends), 'flow')} in time{more}", loc="left", fontsize=10)
    return Drawn(ax, table.reset_index(drop=True))


def _rows(table: pd.DataFrame, least_s: float) -> tuple[pd.Series[int], pd.Series[int]]:
    """Row of each flow within its lane, so that no two at one time share one; and rows of its lane."""
    row = pd.Series(0, index=table.index)
    for _, mine in table.groupby("lane"):
        free_at: list[float] = []
        for index, first_s, last_s in zip(mine.index, mine["first_s"], mine["last_s"], strict=True):
            place = next((n for n, free in enumerate(free_at) if free <= first_s), len(free_at))
            free_at[place : place + 1] = [max(last_s, first_s + least_s)]
            row[index] = place
    rows = row.groupby(table["lane"]).transform("max") + 1
    return row, rows


def draw_nulls(case: CaseResult, flow: str, ax: Axes | None = None) -> Drawn:
    """A flow's likelihood ratios among those of comparisons that are known to be false.

    Known to be false are linked flows with the other tunnels: those with any evidence for them are listed
    in the result, all others lie below. A flow that belongs to a tunnel stands far to the right of them.

    Parameters
    ----------
    case : CaseResult
    flow : str
        Its id.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    Drawn
        Numbers: ``flow``, ``tunnel``, ``llr`` and ``known`` (``false`` or, for the flow's own, empty).

    Raises
    ------
    KeyError
        No such flow.
    ValueError
        No likelihood ratio was stated of it.
    """
    if flow not in set(case.lists.endpoints["id"]):
        raise KeyError(f"no flow {flow!r}")
    pairs = case.scores[["flow", "tunnel", "llr", "llr_bounded"]].dropna(subset="llr")
    mine = pairs[pairs["flow"] == flow].sort_values("llr")
    if not len(mine):
        raise ValueError(f"{flow} was compared with no tunnel that had any evidence for it")
    link = case.links.set_index("flow")["tunnel"]
    own = pairs["flow"].map(link)
    false = pairs[own.notna() & (own != pairs["tunnel"]) & (pairs["flow"] != flow)]
    ax = axes(ax, 7.2, 3.0)
    low, high = (float(f(pd.concat([false["llr"], mine["llr"]]))) for f in (np.min, np.max))
    bins = np.linspace(low - 0.25, high + 0.25, 60)
    counts = np.histogram(false["llr"], bins)[0]
    ax.stairs(counts, bins, fill=True, color=MISSING, label=f"known to be false: {many(len(false), 'pair')}")
    top = max(int(counts.max(initial=0)), 1)
    for row in plain_rows(mine):
        carried = row["tunnel"] == link[flow]
        ax.plot(
            [row["llr"]] * 2, [0, top], ls="-" if carried else "--", lw=1.6 if carried else 1.0,
            color=UP if carried else DOWN,
            label=f"{flow} with {row['tunnel']}: {ratio(row['llr'], row['llr_bounded'])}"
            + (" (its link)" if carried else ""),
        )  # fmt: skip
    ax.axvline(0.0, color=INK, lw=0.6, ls=":")
    ax.set_xlabel("log10 likelihood ratio")
    ax.set_ylabel("pairs")
    ax.set_title(f"{flow} among what chance does", loc="left", fontsize=10, pad=26)
    legend(ax, ncols=2)
    numbers = pd.concat([false.assign(known="false"), mine.assign(known="")], ignore_index=True)
    return Drawn(ax, numbers.drop(columns="llr_bounded"))
