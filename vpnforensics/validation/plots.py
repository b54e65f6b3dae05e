"""Pictures of a validation report, from its document alone (needs the ``plot`` extra).

Nothing is computed here but the scales. Series are told apart by line style as well as by colour.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from vpnforensics.features.drawing import DOWN, INK, MISSING, UP, axes
from vpnforensics.report.escaping import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DET_TICKS = (1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)
_LEAST_RATE = 2e-6
"""Rates below stand at the edge of a DET plot."""
_STYLE: dict[Any, Any] = {"svg.hashsalt": "vpnforensics", "font.size": 9.0, "path.simplify": False}


def svg(figure: Figure) -> str:
    """A figure as SVG; the same figure gives the same text."""
    from matplotlib import rc_context

    target = io.StringIO()
    with rc_context(_STYLE):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": "vpnforensics"})
    return target.getvalue()


def pictures(document: Mapping[str, Any]) -> dict[str, str]:
    """All pictures of a report, as SVG, by the name of their file without its end."""
    from matplotlib import rc_context

    with rc_context(_STYLE):
        found = {
            f"method-{name}": svg(_of_method(name, row))
            for name, row in document["methods"].items()
            if "silent" not in row
        }
        return found | {"conditions": svg(_of_conditions(document)), "stated": svg(_of_stated(document))}


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _of_method(name: str, row: Mapping[str, Any]) -> Figure:
    figure = _figure(11.0, 6.6)
    panels: tuple[Callable[[Axes, Mapping[str, Any]], None], ...] = (
        draw_tippett, draw_det, draw_reliability, draw_ece, draw_nbe, draw_rates,
    )  # fmt: skip
    for ax, draw in zip(figure.subplots(2, 3).flat, panels, strict=True):
        draw(axes(ax, 0, 0), row)
    spoken = f"{row['spoken_true']:,} true, {row['spoken_false']:,} false comparisons that it speaks of"
    figure.suptitle(visible(f"{name}: {spoken}"), x=0.01, ha="left", fontsize=11)
    return figure


def draw_tippett(ax: Axes, row: Mapping[str, Any]) -> None:
    """Share of the true and of the false comparisons that reach each likelihood ratio."""
    curve = row["tippett"]
    ax.step(curve["llr"], curve["true"], where="pre", color=UP, label="true")
    ax.step(curve["llr"], curve["false"], where="pre", color=DOWN, ls="--", label="false")
    ax.axvline(0, color=MISSING, lw=0.7)
    _named(ax, "Tippett", "log10 likelihood ratio", "share that reaches it")
    ax.legend(frameon=False, fontsize=8)


def draw_det(ax: Axes, row: Mapping[str, Any]) -> None:
    """False positives against misses, on normal deviates."""
    deviate = NormalDist().inv_cdf
    curve = row["tippett"]
    false, missed = np.array(curve["false"]), 1 - np.array(curve["true"])
    x, y = ([deviate(min(max(v, _LEAST_RATE), 1 - _LEAST_RATE)) for v in rates] for rates in (false, missed))
    ax.plot(x, y, color=UP, marker=".", ms=3)
    ticks = [deviate(t) for t in _DET_TICKS]
    texts = [f"{t:g}" for t in _DET_TICKS]
    ax.set_xticks(ticks, texts, rotation=45)
    ax.set_yticks(ticks, texts)
    edge = deviate(_LEAST_RATE), deviate(0.6)
    ax.set_xlim(*edge)
    ax.set_ylim(*edge)
    ax.plot(edge, edge, color=MISSING, lw=0.7)
    _named(ax, "DET (none observed: at the edge)", "false positive rate", "miss rate")


def draw_reliability(ax: Axes, row: Mapping[str, Any]) -> None:
    """Likelihood ratios against the best calibration in hindsight (PAV): on the diagonal they are right."""
    curve = row["reliability"]
    x = np.array(curve["llr"], float)
    y = np.array([np.nan if v is None else v for v in curve["pav"]], float)
    seen = np.r_[x, y[np.isfinite(y)], -1.0, 1.0]
    low, high = float(np.nanmin(seen)) - 0.5, float(np.nanmax(seen)) + 0.5
    ax.plot([low, high], [low, high], color=MISSING, lw=0.7)
    ax.plot(x, y, color=UP, marker=".", ms=3)
    for at, end, mark in zip(x, curve["pav"], np.array(curve["true"]) > 0, strict=True):
        if end is None:
            ax.plot(at, high if mark else low, marker="^" if mark else "v", color=INK, ms=4, clip_on=False)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    _named(ax, "Reliability (▲▼: only one kind)", "log10 likelihood ratio", "after PAV")


def draw_ece(ax: Axes, row: Mapping[str, Any]) -> None:
    """Empirical cross-entropy over the prior odds."""
    curve = row["ece"]
    ax.plot(curve["log_odds"], curve["none"], color=MISSING, ls=":", label="no evidence")
    ax.plot(curve["log_odds"], curve["given"], color=DOWN, label="as stated")
    ax.plot(curve["log_odds"], curve["calibrated"], color=UP, ls="--", label="after PAV")
    ax.set_ylim(0, max(0.05, 1.3 * max(*curve["given"], *curve["calibrated"])))
    _named(ax, "ECE", "log10 prior odds", "bits")
    ax.legend(frameon=False, fontsize=8)


def draw_nbe(ax: Axes, row: Mapping[str, Any]) -> None:
    """What deciding by the likelihood ratios gains over deciding without, and the bounds where it ends."""
    curve = row["nbe"]
    ax.plot(curve["at"], curve["decades"], color=UP)
    ax.axhline(0, color=MISSING, lw=0.7)
    for bound in row["elub"]:
        ax.axvline(bound, color=DOWN, ls="--", lw=1)
    low, high = row["elub"]
    _named(ax, f"NBE; ELUB {low:.2f} to {high:.2f}", "log10 threshold", "decades of utility gained")


def draw_rates(ax: Axes, row: Mapping[str, Any]) -> None:
    """Hits at the false positive rates that the comparisons can support."""
    rows = row["at_rates"]
    for n, each in enumerate(rows):
        if each["refused"]:
            ax.text(n, 0.5, "refused", rotation=90, ha="center", va="center", color=MISSING)
            continue
        low, high = each["tpr_interval"]
        ax.plot([n, n], [low, high], color=UP, lw=2)
        ax.plot(n, each["tpr"], marker="o", color=UP)
    ax.set_xticks(range(len(rows)), [f"{each['rate']:g}" for each in rows])
    ax.set_xlim(-0.6, len(rows) - 0.4)
    ax.set_ylim(0, 1.03)
    _named(ax, "Hits at stated false positive rates", "false positive rate", "true positive rate, 95 %")


def _of_conditions(document: Mapping[str, Any]) -> Figure:
    rows = document["conditions"]
    names = list(dict.fromkeys(row["condition"] for row in rows))
    figure = _figure(11.0, 2.6 * ((len(names) + 2) // 3))
    figure.subplots((len(names) + 2) // 3, 3, squeeze=False)
    for ax, name in zip(figure.axes, names, strict=False):
        draw_condition(axes(ax, 0, 0), name, [row for row in rows if row["condition"] == name])
    for ax in figure.axes[len(names) :]:
        ax.set_axis_off()
    figure.suptitle(
        "Flows linked to the tunnel that carried them, by condition", x=0.01, ha="left", fontsize=11
    )
    return figure


def draw_condition(ax: Axes, name: str, rows: list[Mapping[str, Any]]) -> None:
    """Share of the carried flows linked, under each value of a condition."""
    for n, row in enumerate(rows):
        if not row["carried"]:
            continue
        ax.plot([n, n], row["linked_interval"], color=UP, lw=2)
        share = row["linked"] / row["carried"]
        ax.plot(n, share, marker="o", color=UP)
        off, at = (-0.06, "top") if share > 0.5 else (0.06, "bottom")
        ax.text(n, share + off, f"{share:.1%}", ha="center", va=at, fontsize=7.5 if len(rows) < 9 else 6)
        if row["wrong"]:
            ax.text(n, 0.03, f"{row['wrong']} wrong", rotation=90, ha="center", va="bottom", color=DOWN)
    ax.set_xticks(range(len(rows)), [visible(row["value"]) for row in rows], rotation=30, ha="right")
    ax.set_xlim(-0.6, max(len(rows), 2) - 0.4)
    ax.set_ylim(0, 1.04)
    _named(ax, name, "", "share linked, 95 %")


def _of_stated(document: Mapping[str, Any]) -> Figure:
    figure = _figure(7.0, 3.6)
    draw_stated(axes(figure.subplots(), 0, 0), document["stated"])
    return figure


def draw_stated(ax: Axes, rows: list[Mapping[str, Any]]) -> None:
    """Wrong flows stated and observed, by range of the stated error."""
    at = np.arange(len(rows))
    ax.bar(at - 0.18, [row["stated"] for row in rows], 0.34, color=MISSING, label="stated")
    ax.bar(at + 0.18, [row["observed"] for row in rows], 0.34, color=DOWN, hatch="//", label="observed")
    for n, row in enumerate(rows):
        top = max(row["stated"], row["observed"])
        ax.text(n, top, f"of {row['flows']:,}\n{row['observed']} wrong", ha="center", va="bottom", fontsize=8)
    ax.set_xticks(at, [f"{row['low']:g} to\n{row['high']:g}" for row in rows])
    ax.margins(y=0.25)
    _named(ax, "Wrong flows, stated and observed", "stated error", "flows")
    ax.legend(frameon=False, fontsize=8, loc="upper left")


def _named(ax: Axes, title: str, x: str, y: str) -> None:
    ax.set_title(title, loc="left", fontsize=9.5)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
