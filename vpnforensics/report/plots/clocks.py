"""The clocks of the two captures, and the delay between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.features.drawing import DOWN, INK, UP, Drawn, axes, legend
from vpnforensics.report.quantities import many, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vpnforensics.report.result import CaseResult

_MOST_POINTS = 20_000
_CLOUD = (0.03, 0.97)
"""Quantiles between which the clouds lie; what is drawn goes half as far again."""


class AlignmentPoints(NamedTuple):
    """What a picture of the alignment shows; differences are egress minus ingress time, less the offset."""

    at_s: npt.NDArray[np.float64]
    """Egress time of each packet drawn, since the first."""
    difference_ns: npt.NDArray[np.int64]
    up: npt.NDArray[np.bool_]
    line_s: npt.NDArray[np.float64]
    line_ns: npt.NDArray[np.float64]
    """The clock line, at its two ends."""
    limits_ns: tuple[float, float]
    """Between which the clouds and the line lie."""
    beyond: int
    """Packets drawn that lie outside."""
    count_up: int
    count_down: int


def alignment_points(case: CaseResult, most: int = _MOST_POINTS) -> AlignmentPoints:
    """The matched packets about the clock line, at most so many of them, evenly chosen.

    Raises
    ------
    ValueError
        No flow is linked, so no packets are matched.
    """
    found = case.alignment
    every = _matched(case)
    matched = every.iloc[:: -(-len(every) // most)]
    egress_ns = matched["egress_ns"].to_numpy(np.int64)
    difference = egress_ns - matched["ingress_ns"].to_numpy(np.int64) - found.offset_ns
    start = int(egress_ns.min())
    at_s = (egress_ns - start) / 1e9
    line_s = np.array([0.0, float(at_s.max())])
    line_ns = found.drift_ppm * 1e3 * (line_s + (start - found.reference_ns) / 1e9)
    limits = _clouds(difference, line_ns)
    up = int(every["up"].sum())
    return AlignmentPoints(
        at_s,
        difference,
        matched["up"].to_numpy(bool),
        line_s,
        line_ns,
        limits,
        int(((difference < limits[0]) | (difference > limits[1])).sum()),
        up,
        len(every) - up,
    )


def draw_alignment(case: CaseResult, ax: Axes | None = None) -> Drawn:
    """Egress minus ingress time of every matched packet, and the clock line that was estimated.

    Packets going up left the server later than they came (above the line), those going down earlier (below
    it): the line is where a server without delay would put both. The picture shows the clouds; how many
    packets lie beyond it stands in its title.

    Parameters
    ----------
    case : CaseResult
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    Drawn
        Numbers: ``at_s``, ``difference_ns`` (less the offset), ``up``, of each packet drawn.

    Raises
    ------
    ValueError
        No flow is linked, so no packets are matched.
    """
    points = alignment_points(case)
    ax = axes(ax, 7.2, 3.4)
    found = case.alignment
    at_s, difference, up = points.at_s, points.difference_ns, points.up
    line_s, line_ns, limits = points.line_s, points.line_ns, points.limits_ns
    unit, name = _unit(np.array(limits))
    for side, mark, colour, label in (
        (up, "^", UP, f"up (client to Internet): {many(points.count_up, 'packet')}"),
        (~up, "v", DOWN, f"down: {many(points.count_down, 'packet')}"),
    ):
        ax.plot(
            at_s[side], difference[side] / unit, mark, ms=2.4, alpha=0.5, mew=0, color=colour, label=label,
            rasterized=True,
        )  # fmt: skip
    ax.plot(line_s, line_ns / unit, color=INK, lw=1.2, label=f"clock line, {found.drift_ppm:+.2f} ppm")
    if found.offset_interval_ns[0] != found.offset_interval_ns[1]:
        low, high = (edge - found.offset_ns for edge in found.offset_interval_ns)
        ax.fill_between(
            line_s, (line_ns + low) / unit, (line_ns + high) / unit, color=INK, alpha=0.15, lw=0,
            label="95 % interval",
        )  # fmt: skip
    ax.set_ylim(limits[0] / unit, limits[1] / unit)
    ax.set_xlabel("egress time since the first linked packet, s")
    ax.set_ylabel(f"egress − ingress\n− {found.offset_ns / 1e9:,.6f} s, {name}")
    more = f" ({many(points.beyond, 'packet')} beyond)" if points.beyond else ""
    ax.set_title(f"Clocks of the two captures{more}", loc="left", fontsize=10, pad=38)
    legend(ax, ncols=2)
    return Drawn(ax, pd.DataFrame({"at_s": at_s, "difference_ns": difference, "up": up}))


def draw_delay_law(case: CaseResult, ax: Axes | None = None) -> Drawn:
    """The delay through the server: of the matched packets, and the law that the engine used.

    Of a case that was opened from its file the law is known by its medians only; its packets are read anew.

    Parameters
    ----------
    case : CaseResult
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    Drawn
        Numbers: ``direction``, ``low_ns``, ``high_ns`` and ``packets`` of each bar.

    Raises
    ------
    ValueError
        The engine had no delay law.
    """
    law = case.delay_law
    if not law:
        raise ValueError("this case has no delay law: its clocks are not aligned, or it was matched exactly")
    ax = axes(ax, 7.2, 3.4)
    matched = _matched(case)
    delay_ns = matched["delay_ns"].to_numpy(np.int64)
    up = matched["up"].to_numpy(bool)
    high = float(np.quantile(delay_ns, 0.995))
    low = min(0.0, float(np.quantile(delay_ns, 0.002)))
    unit, name = _unit(np.array([low, high]))
    bins = np.linspace(low, high, 90)
    numbers = []
    sides = ((up, UP, "up", "-", 0), (~up, DOWN, "down", "--", 1))
    for side, colour, label, style, which in sides:
        if not side.any():
            continue
        counts = np.histogram(delay_ns[side], bins)[0]
        numbers.append(
            pd.DataFrame({"direction": label, "low_ns": bins[:-1], "high_ns": bins[1:], "packets": counts})
        )
        share = 1.0 / side.sum() / (bins[1] - bins[0]) * unit
        ax.stairs(
            counts * share, bins / unit, fill=True, color=colour, alpha=0.25,
            label=f"{label}: {many(int(side.sum()), 'matched packet')}",
        )  # fmt: skip
        if label in law:
            centers = law["low_ns"] + (np.arange(len(law[label])) + 0.5) * law["step_ns"]
            drawn = (centers >= low) & (centers <= high)
            ax.plot(centers[drawn] / unit, np.asarray(law[label])[drawn] * unit, style, color=colour, lw=1.3)
        median = law["median_ns"][which]
        ax.axvline(
            median / unit, color=colour, lw=0.9, ls=(0, (4, 3)) if which else ":",
            label=f"{label}: median {span(median)}",
        )  # fmt: skip
    ax.set_yscale("log")
    ax.set_xlim(low / unit, high / unit)
    ax.set_xlabel(f"delay through the server, {name}")
    ax.set_ylabel(f"share of packets per {name}")
    of_law = "estimated (line), and " if "up" in law else ""
    ax.set_title(f"Delay law: {of_law}of the matched packets (area)", loc="left", fontsize=10, pad=38)
    legend(ax, ncols=2)
    return Drawn(ax, pd.concat(numbers, ignore_index=True))


def _matched(case: CaseResult) -> pd.DataFrame:
    """Pairings with an outer packet."""
    matched = case.pairings[case.pairings["ingress_frame"].notna()]
    if not len(matched):
        raise ValueError("no flow is linked, so no packets are matched")
    return matched


def _clouds(difference: npt.NDArray[np.int64], line_ns: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Limits that show nearly all packets and all of the line, whatever the outliers."""
    low, high = np.quantile(difference, _CLOUD)
    low, high = min(low, line_ns.min()), max(high, line_ns.max())
    room = 0.5 * (high - low) + 1.0
    return float(low - room), float(high + room)


def _unit(values_ns: npt.NDArray[Any]) -> tuple[float, str]:
    """The unit in which the values are small numbers."""
    largest = float(np.abs(values_ns).max())
    return next(((u, n) for u, n in ((1e3, "µs"), (1e6, "ms")) if largest < 3e3 * u), (1e9, "s"))
