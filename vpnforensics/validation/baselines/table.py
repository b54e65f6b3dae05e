"""Baselines beside what is reported: hits at stated false positive rates by packets of a flow, and the cost.

Methods are judged on all pairs: where one is silent, that is no hit. Thresholds are each method's best in
hindsight, for all alike; likelihood ratios, and with them Cllr, are fitted on other sessions than they are
judged on (:func:`vpnforensics.validation.splits.held_out`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vpnforensics.engines.case import Case
from vpnforensics.validation.baselines import CLASSICAL
from vpnforensics.validation.comparisons import FUSED, Comparisons, Scorer, Scores
from vpnforensics.validation.conditions import by_packets
from vpnforensics.validation.curves import AtRate, at_rates
from vpnforensics.validation.metrics import cost
from vpnforensics.validation.splits import held_out
from vpnforensics.validation.tally import tally

RATES = (1e-3, 1e-5)
ALL, SPOKEN = "all", "all that it speaks of"
_SELDOM = 0.5
"""A method that speaks of a smaller share of the pairs is judged on those alone as well."""


@dataclass(eq=False)
class Timed:
    """A baseline that counts the pairs it was asked of and the time it took: a figure, so it is measured."""

    scorer: Scorer
    trained_s: float | None = None
    """Seconds to train it; None of what is not trained."""
    pairs: int = 0
    took_s: float = 0.0
    clock: Callable[[], float] = time.perf_counter

    def __call__(self, case: Case) -> Scores:
        """Its scores."""
        began = self.clock()
        found = self.scorer(case)
        self.took_s += self.clock() - began
        self.pairs += len(found.score)
        return found


def all_timed() -> dict[str, Timed]:
    """The baselines that need no training."""
    return {name: Timed(scorer) for name, scorer in CLASSICAL.items()}


def section(
    table: Comparisons, baselines: Mapping[str, Timed], case_s: float | None = None
) -> dict[str, Any]:
    """What a report says of baselines.

    Parameters
    ----------
    table : Comparisons
        With fused likelihood ratios and each baseline's scores.
    baselines : mapping of str to Timed
    case_s : float, optional
        Seconds that all the rest took, from files to verdicts.
    """
    judged = table
    for name in (FUSED, *baselines):
        value = table.values[name]
        judged = judged.with_values(name, np.where(np.isnan(value), -np.inf, value))
    ranges = [(ALL, np.ones(len(table), np.bool_)), *by_packets(table.packets)]
    rows = [row for packets, of in ranges for row in _rows(judged.take(of), packets, list(baselines))]
    for name in baselines:
        spoken = ~np.isnan(table.values[name])
        if 0 < spoken.mean() < _SELDOM:
            rows += _rows(judged.take(spoken), SPOKEN, [name])
    return {"rows": rows, "cost": list(_costs(table, baselines, case_s))}


def _rows(table: Comparisons, packets: str, baselines: list[str]) -> list[dict[str, Any]]:
    if not table.h1.any():
        return []
    found: dict[str, list[AtRate]] = {name: at_rates(table, name, RATES) for name in (FUSED, *baselines)}
    return [
        {
            "packets": packets,
            "method": name,
            "true": int(table.h1.sum()),
            "at_rates": [asdict(each) for each in rates],
            "beaten": [_beaten(ours, each) for ours, each in zip(found[FUSED], rates, strict=True)]
            if name != FUSED
            else None,
        }
        for name, rates in found.items()
    ]


def _beaten(ours: AtRate, other: AtRate) -> dict[str, Any] | None:
    """By how much; and whether the intervals leave no doubt. None where one is refused."""
    if ours.tpr is None or other.tpr is None or ours.tpr_interval is None or other.tpr_interval is None:
        return None
    sure = ours.tpr_interval[0] > other.tpr_interval[1]
    return {"by": ours.tpr - other.tpr, "sure": sure}


def _costs(table: Comparisons, baselines: Mapping[str, Timed], case_s: float | None) -> list[dict[str, Any]]:
    rows = [_cost_row(table, FUSED, table.values[FUSED]) | _speed(len(table), case_s, None)]
    several = len(np.unique(table.session)) > 1
    for name, timed in baselines.items():
        llr = held_out(table, name) if several else np.full(len(table), np.nan)
        rows.append(_cost_row(table, name, llr) | _speed(timed.pairs, timed.took_s, timed.trained_s))
    return rows


def _cost_row(table: Comparisons, name: str, llr: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    spoken = ~np.isnan(table.values[name])
    counted = tally(llr, table.h1)
    return {
        "method": name,
        "spoken_true": int((spoken & table.h1).sum()),
        "spoken_false": int((spoken & ~table.h1).sum()),
        "true": int(table.h1.sum()),
        "false": int((~table.h1).sum()),
        "cllr": cost(counted).cllr if counted.both else None,
    }


def _speed(pairs: int, took_s: float | None, trained_s: float | None) -> dict[str, Any]:
    return {"pairs": pairs, "took_s": took_s, "trained_s": trained_s}
