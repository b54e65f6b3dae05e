"""Pictures of a case: the clocks, one link packet by packet, the server's delay.

Each takes and returns matplotlib axes, and shows numbers that stand in the result: nothing is fitted here.
Needs the ``plot`` extra; matplotlib is imported when a picture is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vpnforensics.report.quantities import many, span
from vpnforensics.report.result import CaseResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UP, DOWN, MISSING, INK = "#2166ac", "#d6604d", "#9a9a9a", "#333333"
"""Blue and red that stay apart for colour-blind readers and in grey print."""
_MOST_POINTS = 20_000


class CasePlots:
    """Pictures of one case; :attr:`vpnforensics.report.result.CaseResult.plot`.

    Parameters
    ----------
    case : CaseResult
    """

    def __init__(self, case: CaseResult) -> None:
        self.case = case

    def alignment(self, ax: Axes | None = None) -> Axes:
        """Egress minus ingress time of every matched packet, and the clock line that was estimated.

        Packets going up left the server later than they came (above the line), those going down earlier
        (below it): the line is where a server without delay would put both.

        Raises
        ------
        ValueError
            No flow is linked, so no packets are matched.
        """
        ax = _axes(ax, 7.2, 3.4)
        found = self.case.alignment
        every = self._matched()
        step = -(-len(every) // _MOST_POINTS)
        matched = every.iloc[::step]
        egress_ns = matched["egress_ns"].to_numpy(np.int64)
        difference = egress_ns - matched["ingress_ns"].to_numpy(np.int64) - found.offset_ns
        up = matched["up"].to_numpy(bool)
        start = int(egress_ns.min())
        at_s = (egress_ns - start) / 1e9
        line_s = np.array([0.0, float(at_s.max())])
        since_reference_s = line_s + (start - found.reference_ns) / 1e9
        line_ns = found.drift_ppm * 1e3 * since_reference_s
        unit, name = _unit(np.concatenate([difference, line_ns]))
        count_up = int(every["up"].sum())
        for side, colour, label in (
            (up, UP, f"up (client to Internet): {many(count_up, 'packet')}"),
            (~up, DOWN, f"down: {many(len(every) - count_up, 'packet')}"),
        ):
            ax.plot(
                at_s[side], difference[side] / unit, ".", ms=2.2, alpha=0.45, mew=0, color=colour,
                label=label, rasterized=True,
            )  # fmt: skip
        ax.plot(line_s, line_ns / unit, color=INK, lw=1.2, label=f"clock line, {found.drift_ppm:+.2f} ppm")
        if found.offset_interval_ns[0] != found.offset_interval_ns[1]:
            low, high = (edge - found.offset_ns for edge in found.offset_interval_ns)
            ax.fill_between(
                line_s, (line_ns + low) / unit, (line_ns + high) / unit, color=INK, alpha=0.15, lw=0,
                label="95 % interval",
            )  # fmt: skip
        ax.set_ylim(_robust(difference / unit))
        ax.set_xlabel("egress time since the first linked packet, s")
        ax.set_ylabel(f"egress − ingress\n− {found.offset_ns / 1e9:,.6f} s, {name}")
        ax.set_title("Clocks of the two captures", loc="left", fontsize=10)
        _legend(ax, ncols=2)
        return ax

    def pairs(self, flow: str, ax: Axes | None = None, *, first: int = 40) -> Axes:
        """A flow's packets above, the outer packets that carried them below, lines between.

        Bars are as high as packets are long. Packets stand in order, with their times written below: drawn
        to scale, those of a burst would stand on top of each other. Lines cross where the tunnel carried
        packets of one direction in another order.

        Parameters
        ----------
        flow : str
            A linked flow's id, as ``"f12"``.
        ax : matplotlib.axes.Axes, optional
        first : int
            How many of the flow's packets to draw.

        Raises
        ------
        KeyError
            No such flow.
        ValueError
            It is not linked.
        """
        every = self.case.explain(flow)
        if not len(every):
            raise ValueError(f"{flow} is not linked, so no outer packets are matched to it")
        packets = every.head(first)
        ax = _axes(ax, max(6.4, min(10.0, 2.4 + 0.2 * len(packets))), 3.6)
        carried = packets["ingress_frame"].notna().to_numpy()
        up = packets["up"].to_numpy(bool)
        inner = packets["inner_bytes"].to_numpy(float)
        outer = packets["outer_bytes"].fillna(0).to_numpy(float)
        x = np.arange(len(packets))
        shift = self._places(packets, carried)
        gap = 0.16 * max(inner.max(), outer.max())
        for side, colour in ((up, UP), (~up, DOWN)):
            ax.bar(x[side], inner[side], bottom=gap, width=0.62, color=colour)
            mine = side & carried
            ax.bar(x[mine] + shift[mine], -outer[mine], bottom=-gap, width=0.62, color=colour, alpha=0.55)
            for i in np.flatnonzero(mine):
                ax.plot([x[i], x[i] + shift[i]], [gap, -gap], color=colour, lw=0.9, alpha=0.8)
        ax.plot(x[~carried], np.full(int((~carried).sum()), -gap), "x", color=MISSING, ms=5)
        _label_pairs(ax, packets, gap, int(max(inner.max(), outer.max())))
        link = self.case.links.loc[self.case.links["flow"] == flow].iloc[0]
        row = self.case.endpoints.loc[self.case.endpoints["id"] == flow].iloc[0]
        shown = many(len(every), "packet")
        if len(packets) < len(every):
            shown = f"first {len(packets)} of {shown}"
        found = int(every["ingress_frame"].notna().sum())
        matched = "all matched" if found == len(every) else f"{found:,} matched"
        ax.set_title(
            f"{flow} ({row['proto']} to {row['dst']}) in {link['tunnel']}: {shown}, {matched}",
            loc="left",
            fontsize=10,
        )
        return ax

    @staticmethod
    def _places(packets: Any, carried: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """How far from its packet's place an outer packet stands: where the tunnel's order differs."""
        shift = np.zeros(len(packets))
        order = packets["ingress_ns"].to_numpy(np.int64, na_value=0)
        for side in (packets["up"].to_numpy(bool), ~packets["up"].to_numpy(bool)):
            mine = np.flatnonzero(side & carried)
            shift[mine[np.argsort(order[mine], kind="stable")]] = mine
            shift[mine] -= mine
        return shift

    def delay_law(self, ax: Axes | None = None) -> Axes:
        """The delay through the server: of the matched packets, and the law that the engine used.

        Raises
        ------
        ValueError
            The engine had no delay law.
        """
        law = self.case.delay_law
        if not law:
            raise ValueError(
                "this case has no delay law: its clocks are not aligned, or it was matched exactly"
            )
        ax = _axes(ax, 7.2, 3.4)
        matched = self._matched()
        delay_ns = matched["delay_ns"].to_numpy(np.int64)
        up = matched["up"].to_numpy(bool)
        centers = law["low_ns"] + (np.arange(len(law["up"])) + 0.5) * law["step_ns"]
        high = float(np.quantile(delay_ns, 0.995))
        low = min(0.0, float(np.quantile(delay_ns, 0.002)))
        unit, name = _unit(np.array([low, high]))
        bins = np.linspace(low, high, 90)
        drawn = (centers >= low) & (centers <= high)
        sides = ((up, UP, "up", law["up"], 0), (~up, DOWN, "down", law["down"], 1))
        for side, colour, label, density, which in sides:
            if not side.any():
                continue
            share = 1.0 / side.sum() / (bins[1] - bins[0]) * unit
            counts = np.histogram(delay_ns[side], bins)[0]
            ax.stairs(
                counts * share, bins / unit, fill=True, color=colour, alpha=0.25,
                label=f"{label}: {many(int(side.sum()), 'matched packet')}",
            )  # fmt: skip
            ax.plot(centers[drawn] / unit, np.asarray(density)[drawn] * unit, color=colour, lw=1.3)
            median = law["median_ns"][which]
            ax.axvline(
                median / unit, color=colour, lw=0.9, ls=(0, (4, 3)), label=f"{label}: median {span(median)}"
            )
        ax.set_yscale("log")
        ax.set_xlim(low / unit, high / unit)
        ax.set_xlabel(f"delay through the server, {name}")
        ax.set_ylabel(f"share of packets per {name}")
        ax.set_title(
            "Delay law: estimated (line), and of the packets then matched (area)", loc="left", fontsize=10
        )
        _legend(ax, ncols=2)
        return ax

    def _matched(self) -> Any:
        """Pairings with an outer packet."""
        matched = self.case.pairings[self.case.pairings["ingress_frame"].notna()]
        if not len(matched):
            raise ValueError("no flow is linked, so no packets are matched")
        return matched


def _label_pairs(ax: Axes, packets: Any, gap: float, longest: int) -> None:
    """Sides, lengths and times of a picture of pairs."""
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

    handles: list[Any] = [Patch(color=UP, label="up"), Patch(color=DOWN, label="down")]
    if packets["ingress_frame"].isna().any():
        handles.append(Line2D([], [], ls="", marker="x", color=MISSING, label="no outer packet"))
    ax.legend(handles=handles, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8.5)
    ax.xaxis.label.set_fontsize(9)
    ax.yaxis.label.set_fontsize(9)
    return ax


def _legend(ax: Axes, ncols: int) -> None:
    legend = ax.legend(frameon=False, fontsize=8, ncols=ncols, loc="upper right", markerscale=3)
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        if handle is not None:
            handle.set_alpha(0.15 if "interval" in text.get_text() else 0.9)


def _unit(values_ns: npt.NDArray[Any]) -> tuple[float, str]:
    """The unit in which most of the values are small numbers."""
    largest = float(np.quantile(np.abs(values_ns), 0.98))
    return next(((u, n) for u, n in ((1e3, "µs"), (1e6, "ms")) if largest < 3e3 * u), (1e9, "s"))


def _robust(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Limits that hold nearly all values, whatever the outliers."""
    low, high = np.quantile(values, (0.005, 0.995))
    room = 0.35 * (high - low) + 1e-9
    return float(low - 0.25 * room), float(high + room)
