"""What other methods do on the same pairs, as tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vpnforensics.validation.cells import Document, TextTable, number, share


def baseline_tables(document: Document) -> list[TextTable]:
    """What others do on the same pairs; none where the report was made without."""
    told = document.get("baselines")
    if not told:
        return []
    rows = [
        (
            row["packets"],
            row["method"],
            f"{row['true']:,}",
            *(cell for n in range(len(row["at_rates"])) for cell in _baseline_cells(row, n)),
        )
        for row in told["rows"]
    ]
    rates = [f"{each['rate']:g}" for each in told["rows"][0]["at_rates"]] if rows else []
    hits = TextTable(
        "Baselines to be beaten: true positives at stated false positive rates",
        "Other methods on the same pairs in the same run, with the same tunnels and clocks given to them, by"
        " packets of the flow. Where a method is silent, it has no hit; one that is mostly silent stands once"
        " more with the pairs that it speaks of. Each has its best threshold in hindsight, in each row. Fused"
        " is better by so many points where the 95 % intervals are apart, ahead where they are not; NOT"
        " BEATEN: the baseline has as many hits or more. A rate that the independent false comparisons of the"
        " row cannot support is refused, and what they are worth is told.",
        ("packets", "method", "true pairs", *(t for r in rates for t in (f"hits at {r}", "fused is"))),
        tuple(rows),
    )
    return [hits, _baseline_costs(told["cost"])]


def _baseline_cells(row: Mapping[str, Any], place: int) -> tuple[str, str]:
    each, beaten = row["at_rates"][place], (row["beaten"] or (None, None))[place]
    if each["refused"]:
        return f"refused: worth {each['independent']:,}", ""
    hits = share(each["tpr"], each["tpr_interval"])
    if beaten is None:
        return hits, ""
    if beaten["by"] <= 0:
        return hits, f"NOT BEATEN ({100 * beaten['by']:+.2f})"
    return hits, f"{'better' if beaten['sure'] else 'ahead'} by {100 * beaten['by']:.2f}"


def _baseline_costs(costs: Sequence[Mapping[str, Any]]) -> TextTable:
    rows = [
        (
            row["method"],
            f"{row['spoken_true']:,} of {row['true']:,}",
            f"{row['spoken_false']:,} of {row['false']:,}",
            number(row["cllr"]),
            f"{row['pairs'] / row['took_s']:,.0f}" if row["took_s"] else "",
            "" if row["trained_s"] is None else f"{row['trained_s']:.0f}",
        )
        for row in costs
    ]
    return TextTable(
        "Baselines: what they are worth, and cost",
        "Cllr of likelihood ratios fitted on other capture sessions than they are judged on; of fused, as it"
        " is stated. Pairs a second: of a baseline, its scores alone; of fused, all the work from files to"
        " verdicts.",
        ("method", "speaks of true", "of false", "Cllr", "pairs a second", "seconds to train"),
        tuple(rows),
    )
