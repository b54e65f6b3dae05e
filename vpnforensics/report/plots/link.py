"""One link, packet by packet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.features.drawing import DOWN, INK, MISSING, UP, Drawn, axes
from vpnforensics.report.quantities import many, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vpnforensics.report.result import CaseResult


def draw_link(case: CaseResult, flow: str, ax: Axes | None = None, *, first: int = 40) -> Drawn:
    """A flow's packets above, the outer packets that carried them below, lines between.

    Bars are as high as packets are long; those going down are hatched. Packets stand in order, with their
    times written below: drawn to scale, those of a burst would stand on top of each other. Lines cross where
    the tunnel carried packets of one direction in another order.

    Parameters
    ----------
    case : CaseResult
    flow : str
        A linked flow's id, as ``"f12"``.
    ax : matplotlib.axes.Axes, optional
    first : int
        How many of the flow's packets to draw.

    Returns
    -------
    Drawn
        Numbers: the packets drawn, as :meth:`CaseResult.explain` gives them.

    Raises
    ------
    KeyError
        No such flow.
    ValueError
        It is not linked.
    """
    every = case.explain(flow)
    if not len(every):
        raise ValueError(f"{flow} is not linked, so no outer packets are matched to it")
    packets = every.head(first)
    ax = axes(ax, max(6.4, min(10.0, 2.4 + 0.2 * len(packets))), 3.6)
    carried = packets["ingress_frame"].notna().to_numpy()
    up = packets["up"].to_numpy(bool)
    inner = packets["inner_bytes"].to_numpy(float)
    outer = packets["outer_bytes"].fillna(0).to_numpy(float)
    x = np.arange(len(packets))
    shift = _places(packets, carried)
    gap = 0.16 * max(inner.max(), outer.max())
    for side, colour, hatch in ((up, UP, ""), (~up, DOWN, "////")):
        look: dict[str, Any] = {
            "width": 0.62,
            "color": colour,
            "hatch": hatch,
            "edgecolor": "white",
            "linewidth": 0,
        }
        ax.bar(x[side], inner[side], bottom=gap, **look)
        mine = side & carried
        ax.bar(x[mine] + shift[mine], -outer[mine], bottom=-gap, alpha=0.55, **look)
        for i in np.flatnonzero(mine):
            ax.plot([x[i], x[i] + shift[i]], [gap, -gap], color=colour, lw=0.9, alpha=0.8)
    ax.plot(x[~carried], np.full(int((~carried).sum()), -gap), "x", color=MISSING, ms=5)
    _label(ax, packets, gap, int(max(inner.max(), outer.max())))
    row = case.beside.set_index("flow").loc[flow]
    shown = many(len(every), "packet")
    if len(packets) < len(every):
        shown = f"first {len(packets)} of {shown}"
    found = int(every["ingress_frame"].notna().sum())
    matched = "all matched" if found == len(every) else f"{found:,} matched"
    ax.set_title(
        f"{flow} ({row['proto']} to {row['dst']}) in {row['tunnel']}: {shown}, {matched}",
        loc="left",
        fontsize=10,
    )
    return Drawn(ax, packets)


def _places(packets: pd.DataFrame, carried: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """How far from its packet's place an outer packet stands: where the tunnel's order differs."""
    shift = np.zeros(len(packets))
    order = packets["ingress_ns"].to_numpy(np.int64, na_value=0)
    for side in (packets["up"].to_numpy(bool), ~packets["up"].to_numpy(bool)):
        mine = np.flatnonzero(side & carried)
        shift[mine[np.argsort(order[mine], kind="stable")]] = mine
        shift[mine] -= mine
    return shift


def _label(ax: Axes, packets: pd.DataFrame, gap: float, longest: int) -> None:
    """Sides, lengths and times."""
    egress_ns = packets["egress_ns"].to_numpy(np.int64)
    since = egress_ns - egress_ns[0]
    x = np.arange(len(packets))
    step = -(-len(packets) // 8)
    ax.set_xlim(-0.8, max(len(packets), 4) - 0.2)
    ax.set_ylim(-gap - longest * 1.08, gap + longest * 1.08)
    ax.set_xticks(x[::step], [span(int(ns)) if ns else "0" for ns in since[::step]])
    ax.set_xlabel("packets in order; time since the first, on the egress clock")
    ticks = [t for t in (20, 50, 100, 200, 500, 1000, 1500, 3000, 9000) if t <= longest][-2:] or [longest]
    ax.set_yticks(
        [*(gap + t for t in ticks), *(-gap - t for t in ticks)], [*map(str, ticks), *map(str, ticks)]
    )
    ax.set_ylabel("outer, bytes      inner, bytes")
    ax.axhline(gap, color=INK, lw=0.6)
    ax.axhline(-gap, color=INK, lw=0.6)
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=UP, label="up"),
        Patch(facecolor=DOWN, hatch="////", edgecolor="white", label="down"),
    ]
    if packets["ingress_frame"].isna().any():
        handles.append(Line2D([], [], ls="", marker="x", color=MISSING, label="no outer packet"))
    ax.legend(handles=handles, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
