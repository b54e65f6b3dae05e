"""What a method has to meet, characteristic by characteristic, and whether it does: the validation matrix.

After Meuwly, Ramos & Haraksim 2017 (Forensic Sci. Int. 276): a validation states beforehand which figure of
each performance characteristic it asks for. Criteria here are those of theory (Good 1950, Royall 2000), of
the policy, or an aim of the project; of what has none, the figure alone is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vpnforensics.validation.binomial import poisson_tail

MOST_COST = 0.03
"""Cllr, bits: what ratios of 48 the right way in every comparison come to."""
LEAST_CHANCE = 0.05
"""What is stated is taken for wrong where it would come to what was observed more seldom."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One characteristic; ``met`` is None where nothing is asked."""

    characteristic: str
    figure: str
    asked: str
    observed: str
    met: bool | None


def criteria(
    method: Mapping[str, Any],
    stated: Sequence[Any],
    allowances: Sequence[Mapping[str, float]],
) -> list[Criterion]:
    """The matrix of one method.

    Parameters
    ----------
    method : mapping
        Its figures, as the report has them.
    stated : sequence of Stated
    allowances : sequence of mapping
        The first is of the default policy.
    """
    return [*_of_ratios(method), *_of_errors(stated, allowances)]


def _of_ratios(method: Mapping[str, Any]) -> Iterator[Criterion]:
    if "cost" not in method:
        return
    cost = method["cost"]
    told = f"{cost['cllr']:.4f}"
    yield Criterion("accuracy", "Cllr", f"at most {MOST_COST:g}", told, cost["cllr"] <= MOST_COST)
    yield Criterion("discriminating power", "Cllr_min", "", f"{cost['cllr_min']:.4f}", None)
    yield Criterion("calibration", "Cllr_cal", "", f"{cost['cllr_cal']:.4f}", None)
    sides = (
        ("calibration, for H1", "false", "spoken_false", "false comparisons at 10^x and more, x = 1 to 4"),
        ("calibration, for H2", "true", "spoken_true", "true comparisons at 10^-x and less, x = 1 to 4"),
    )
    for characteristic, kind, number, figure in sides:
        rows = [row for row in method["misleading"] if row["llr"] > 0]
        worst = max(rows, key=lambda row: row[kind] * 10 ** row["llr"])
        share = worst[kind] / max(method[number], 1)
        yield Criterion(
            characteristic,
            f"share of {figure}",
            "at most 10^-x",
            f"{share:.2g} at x = {worst['llr']:g}",
            share <= 10 ** -worst["llr"],
        )


def _of_errors(stated: Sequence[Any], allowances: Sequence[Mapping[str, float]]) -> Iterator[Criterion]:
    rule = allowances[0]
    expected = rule["allowed"] * rule["cases"]
    chance = poisson_tail(int(rule["wrong"]), expected)
    yield Criterion(
        "decision",
        "wrong links",
        f"no more than {rule['allowed']:g} a case, {expected:.3g} in all (P of so many at least 0.05)",
        f"{rule['wrong']:.0f} (P {chance:.2g})",
        chance >= LEAST_CHANCE,
    )
    asked = [row for row in stated if row.flows]
    if asked:
        least = min(asked, key=lambda row: row.chance)
        yield Criterion(
            "stated errors",
            "P of so many wrong, by range",
            "at least 0.05 in every range",
            f"{least.chance:.2g} from {least.low:g} to {least.high:g}",
            least.chance >= LEAST_CHANCE,
        )
