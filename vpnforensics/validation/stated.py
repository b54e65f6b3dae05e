"""Stated errors beside observed ones: is a link that is called wrong once in a thousand wrong that often?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from vpnforensics.evidence.attribution import surest
from vpnforensics.validation.binomial import interval, poisson_tail
from vpnforensics.validation.outcomes import Outcomes
from vpnforensics.validation.splits import design_effect

EDGES = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 0.5)
"""Beyond, a flow is likelier wrong than right, and is linked to nothing."""
_FAR = 10.0
"""A stated error smaller than the implied one by more than this factor is another opinion, not rounding."""
ALLOWED = (0.01, 0.1, 1.0)


@dataclass(frozen=True, slots=True)
class Stated:
    """Flows whose error is stated within a range: linked, and what a larger allowance would link."""

    low: float
    high: float
    flows: int
    stated: float
    """Sum of the errors: wrong ones to expect."""
    observed: int
    at_most: float
    """95 % upper limit of the share that is wrong, at what the flows are worth: no smaller error is shown."""
    chance: float
    """P(so many wrong, or more) if what is stated is right: small where it is stated too small."""


def stated(table: Outcomes) -> list[Stated]:
    """By range of the stated error."""
    rows = []
    for low, high in pairwise(EDGES):
        mine = (table.error >= low) & (table.error < high)
        expected, wrong = float(table.error[mine].sum()), int(table.wrong[mine].sum())
        effect = design_effect(table.wrong[mine], table.identity[mine])
        at_most = interval(wrong / effect, mine.sum() / effect)[1]
        chance = poisson_tail(wrong, expected)
        rows.append(Stated(low, high, int(mine.sum()), expected, wrong, at_most, chance))
    return rows


def allowances(table: Outcomes) -> list[dict[str, float]]:
    """Links, and wrong ones, had so many false links been allowed in each case."""
    rows = []
    for allowed in ALLOWED:
        links = wrong = 0
        cases = sorted(set(table.trial.tolist()))
        for number in cases:
            of = table.take(table.trial == number)
            kept = surest(of.error, allowed)
            links, wrong = links + int(kept.sum()), wrong + int(of.wrong[kept].sum())
        rows.append({"allowed": allowed, "cases": len(cases), "links": links, "wrong": wrong})
    return rows


def coherence(table: Outcomes) -> dict[str, float]:
    """Links whose error is stated far smaller than their likelihood ratio comes to.

    Errors are of the joint model as it is; likelihood ratios are held to what the case's false comparisons
    allow. Where a case shows the model too sure of itself, the two differ.
    """
    links = table.take(table.linked & (table.implied > 0))
    apart = links.take(links.error * _FAR < links.implied)
    return {
        "links": len(links),
        "apart": len(apart),
        "apart_wrong": int(apart.wrong.sum()),
        "apart_stated": float(apart.error.sum()),
        "apart_implied": float(apart.implied.sum()),
    }
