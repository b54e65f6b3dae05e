"""What an audit predicts of countermeasures beside what recordings with them show.

A recording without any gives counterfactual copies, as in every audit: the prediction. The same clients,
lines and traffic recorded once with each countermeasure switched on give the measured shares. Both are seen
by the same adversary. Programs draw their pauses and pages anew for each recording, so that two recordings
alike differ, too: those with countermeasures that change neither lengths nor times show by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from vpnforensics.audit import strings
from vpnforensics.audit.linkability import Linkability
from vpnforensics.audit.view import Rows, table_of
from vpnforensics.report.escaping import json_text, visible
from vpnforensics.report.provenance import made_by
from vpnforensics.report.quantities import span

NONE = "none"
WITHIN_POINTS = 5.0
"""How near a prediction is to come."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One countermeasure with one seed."""

    name: str
    seed: int
    recorded: Linkability
    """With the countermeasure on, for an adversary who knows the clocks."""
    unaligned: Linkability
    """The same for one who has to estimate them."""
    predicted: Linkability | None
    """Of the copy of the recording without it."""
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All trials of a scenario."""

    tool: dict[str, Any]
    scenario: str
    allowed: tuple[float, ...]
    trials: tuple[Trial, ...]

    @property
    def names(self) -> list[str]:
        """The countermeasures, in the order in which they were tried."""
        return list(dict.fromkeys(trial.name for trial in self.trials))

    def of(self, name: str) -> list[Trial]:
        """The trials of one countermeasure."""
        return [trial for trial in self.trials if trial.name == name]

    def to_json(self) -> str:
        """As JSON."""
        return json_text(
            {
                "schema_version": 1,
                "tool": self.tool,
                "scenario": self.scenario,
                "allowed_false_links": list(self.allowed),
                "trials": [
                    {
                        "name": t.name,
                        "seed": t.seed,
                        "recorded": t.recorded.to_dict(),
                        "recorded_clocks_unknown": t.unaligned.to_dict(),
                        "predicted": t.predicted.to_dict() if t.predicted else None,
                        "why_not": t.why_not or None,
                    }
                    for t in self.trials
                ],
            },
            indent=1,
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over the seeds."""

    name: str
    seeds: int
    flows: int
    linked: float
    lax: float
    """At the laxest allowed number of false links."""
    unaligned: float
    wrong: int
    tied: float
    expansion: float
    round_trip_ns: float | None
    predicted: float | None
    worst_points: float | None
    """Largest difference between a prediction and its recording."""


def summary_of(comparison: Comparison, name: str) -> Summary:
    """One row of the table."""
    trials = comparison.of(name)
    recorded = [t.recorded for t in trials]
    trips = [r.round_trip_ns for r in recorded if r.round_trip_ns is not None]
    foretold = [(t.predicted.share(), t.recorded.share()) for t in trials if t.predicted is not None]
    last = len(comparison.allowed) - 1
    return Summary(
        name,
        len(trials),
        sum(r.flows for r in recorded),
        float(np.mean([r.share() for r in recorded])),
        float(np.mean([r.share(last) for r in recorded])),
        float(np.mean([t.unaligned.share() for t in trials])),
        sum(r.wrong[0] for r in recorded),
        float(np.mean([r.tied_share for r in recorded])),
        float(np.mean([r.expansion for r in recorded])),
        float(np.mean(trips)) if trips else None,
        float(np.mean([p for p, _ in foretold])) if foretold else None,
        100 * max(abs(p - r) for p, r in foretold) if foretold else None,
    )


def comparison_view(comparison: Comparison) -> RenderableType:
    """The whole table for a terminal or a document."""
    rows: Rows = []
    for name in comparison.names:
        each = summary_of(comparison, name)
        missed = each.worst_points is not None and each.worst_points > WITHIN_POINTS
        rows.append(
            (
                name,
                str(each.seeds),
                f"{each.flows:,}",
                _percent(each.linked),
                _percent(each.lax),
                str(each.wrong),
                _percent(each.unaligned),
                _percent(each.tied),
                f"{each.expansion:.2f}",
                "–" if each.round_trip_ns is None else span(each.round_trip_ns),
                "–" if each.predicted is None else _percent(each.predicted),
                "–" if each.worst_points is None else f"{each.worst_points:.1f}{' !' if missed else ''}",
            )
        )
    title = strings.COMPARED.format(
        scenario=visible(comparison.scenario),
        strict=f"{comparison.allowed[0]:g}",
        lax=f"{comparison.allowed[-1]:g}",
    )
    lines = [*_missed(comparison), *strings.COMPARISON_MEANING, visible(made_by(comparison.tool))]
    return Group(
        table_of(title, strings.COMPARISON_HEADINGS, rows),
        Text(),
        *(Text(line, style="dim") for line in lines),
    )


def _missed(comparison: Comparison) -> Sequence[str]:
    """The trials whose prediction was not near enough, and those without one."""
    lines = []
    for t in comparison.trials:
        if t.predicted is None:
            if t.name != NONE:
                lines.append(f"{t.name}, seed {t.seed}: not predicted: {visible(t.why_not)}")
            continue
        points = 100 * (t.predicted.share() - t.recorded.share())
        if abs(points) > WITHIN_POINTS:
            lines.append(
                f"! {t.name}, seed {t.seed}: predicted {_percent(t.predicted.share())},"
                f" recorded {_percent(t.recorded.share())}"
            )
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
