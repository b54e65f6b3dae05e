"""Hits against false alarms: rates at every threshold, and the hits at stated false positive rates."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from vpnforensics.arrays import Floats
from vpnforensics.validation.binomial import interval
from vpnforensics.validation.comparisons import Comparisons
from vpnforensics.validation.splits import NEEDED, design_effect

RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True, slots=True)
class AtRate:
    """Hits at a false positive rate; or why none are stated."""

    rate: float
    refused: str = ""
    threshold: float | None = None
    """Least value that counts as a hit."""
    true: int = 0
    hits: int = 0
    tpr: float | None = None
    tpr_interval: tuple[float, float] | None = None
    false: int = 0
    false_hits: int = 0
    fpr_interval: tuple[float, float] | None = None
    independent: int = 0
    """False comparisons, by what they are worth."""


def at_rates(table: Comparisons, method: str, rates: tuple[float, ...] = RATES) -> list[AtRate]:
    """Hits of a method at each rate, from the largest on.

    Parameters
    ----------
    table : Comparisons
    method : str
    rates : tuple of float
        Descending.
    """
    rows = table.spoken(method)
    value, h1 = rows.values[method], rows.h1
    false = np.sort(value[~h1])[::-1]
    identity = rows.identity[~h1]
    worst, found = 1.0, []
    for rate in rates:
        threshold = _threshold(false, rate)
        hit = value >= threshold
        worst = max(worst, design_effect(hit[~h1], identity))
        independent = len(false) / worst
        if independent * rate < NEEDED * (1 - 1e-9):
            found.append(AtRate(rate, _too_few(rate, independent, len(false)), independent=int(independent)))
            continue
        true, hits = int(h1.sum()), int(hit[h1].sum())
        of_true = design_effect(hit[h1], rows.identity[h1])
        false_hits = int(hit[~h1].sum())
        found.append(
            AtRate(
                rate,
                threshold=float(threshold),
                true=true,
                hits=hits,
                tpr=hits / true if true else None,
                tpr_interval=interval(hits / of_true, true / of_true),
                false=len(false),
                false_hits=false_hits,
                fpr_interval=interval(false_hits / worst, independent),
                independent=int(independent),
            )
        )
    return found


def _threshold(false: Floats, rate: float) -> float:
    """Least value that at most this share of the false ones reaches; ``false`` descending."""
    allowed = int(rate * len(false) + 1e-9)
    if allowed >= len(false):
        return -np.inf
    return float(np.nextafter(false[allowed], np.inf))


def _too_few(rate: float, independent: float, false: int) -> str:
    return (
        f"refused: a rate of {rate:g} needs {ceil(NEEDED / rate):,} independent false comparisons;"
        f" these {false:,} are worth {int(independent):,}"
    )
