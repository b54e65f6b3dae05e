"""Baselines beside what is reported, on comparisons made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vpnforensics import samples
from vpnforensics.cli.main import main
from vpnforensics.validation.baselines.table import Timed, section
from vpnforensics.validation.baselines.tables import baseline_tables
from vpnforensics.validation.comparisons import FUSED, Comparisons, Scores


def comparisons(true: int, false: int, **values: np.ndarray) -> Comparisons:
    """So many of each kind, every one a flow of its own, in two sessions by turns."""
    rows = true + false
    number = np.arange(rows, dtype=np.int32)
    packets = np.where(number % 4 < 2, 3, 40).astype(np.int32)
    return Comparisons(
        number % 2, number % 2, number, number % 3, packets, number.astype(np.int64), number < true,
        {name: value.astype(np.float64) for name, value in values.items()},
    )  # fmt: skip


def timed() -> Timed:
    return Timed(lambda case: Scores(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)))


def of(rows: list[dict], packets: str, method: str) -> dict:
    return next(row for row in rows if (row["packets"], row["method"]) == (packets, method))


def test_a_better_and_a_worse_baseline_are_called_so() -> None:
    true, false = 400, 8000
    h1 = np.arange(true + false) < true
    rng = np.random.default_rng(1)
    sure = np.where(h1, 5.0, -5.0)
    weak = np.where(h1, rng.random(len(h1)) < 0.5, 0.0)
    made = section(
        comparisons(true, false, **{FUSED: weak, "better": sure, "worse": rng.random(len(h1))}),
        {name: timed() for name in ("better", "worse")},
    )
    ours, better, worse = (of(made["rows"], "all", name) for name in (FUSED, "better", "worse"))
    assert better["at_rates"][0]["tpr"] == 1.0
    assert ours["at_rates"][0]["tpr"] == pytest.approx(0.5, abs=0.1)
    assert better["beaten"][0]["by"] == pytest.approx(ours["at_rates"][0]["tpr"] - 1.0)
    assert worse["beaten"][0]["sure"]
    assert worse["beaten"][1] is None  # 8,000 false ones say nothing of a rate of 1e-5
    assert {row["packets"] for row in made["rows"]} == {"all", "2-4", "30-99"}
    hits, _ = baseline_tables({"baselines": made})
    told = {row[1]: row for row in hits.rows if row[0] == "all"}
    assert told["better"][4].startswith("NOT BEATEN")
    assert told["worse"][4].startswith("better by")
    assert told["worse"][5].startswith("refused: worth 7,9")


def test_silence_is_no_hit_and_no_excuse() -> None:
    """A method that speaks of the easy half is judged on all."""
    true, false = 400, 8000
    h1 = np.arange(true + false) < true
    half = np.where(h1, np.where(np.arange(len(h1)) % 2, 1.0, np.nan), 0.0)
    fused = np.where(h1, 1.0, 0.0)
    made = section(comparisons(true, false, **{FUSED: fused, "half": half}), {"half": timed()})
    assert of(made["rows"], "all", "half")["at_rates"][0]["tpr"] == 0.5
    assert all(row["packets"] != "all that it speaks of" for row in made["rows"])  # it speaks of most
    cost = next(row for row in made["cost"] if row["method"] == "half")
    assert (cost["spoken_true"], cost["true"]) == (200, 400)


def test_what_speaks_seldom_is_judged_there_as_well() -> None:
    true, false = 400, 8000
    h1 = np.arange(true + false) < true
    seldom = np.where(np.arange(len(h1)) % 4 == 0, h1, np.nan)
    made = section(comparisons(true, false, **{FUSED: 0.0 * h1, "seldom": seldom}), {"seldom": timed()})
    assert of(made["rows"], "all", "seldom")["at_rates"][0]["tpr"] == 0.25
    there = of(made["rows"], "all that it speaks of", "seldom")
    assert there["true"] == 100
    assert there["at_rates"][0]["refused"] or there["at_rates"][0]["tpr"] == 1.0
    assert of(made["rows"], "all that it speaks of", FUSED)["true"] == 100


def test_likelihood_ratios_are_fitted_on_other_sessions() -> None:
    """A score that means the opposite in the other session is worth less than nothing there."""
    true, false = 400, 800
    number = np.arange(true + false)
    h1 = number < true
    score = np.where(h1 == (number % 2 == 0), 1.0, 0.0)
    made = section(comparisons(true, false, **{FUSED: score, "fickle": score}), {"fickle": timed()})
    assert made["cost"][1]["cllr"] > 1.5


def test_time_and_pairs_are_counted() -> None:
    ticks = iter([1.0, 3.5, 10.0, 10.5])
    three = np.arange(3)
    method = Timed(lambda case: Scores(three, three, three / 1.0), clock=lambda: next(ticks))
    for _ in range(2):
        method(None)  # type: ignore[arg-type]
    assert (method.pairs, method.took_s) == (6, 3.0)


def test_the_command_tells_of_baselines_when_asked(tmp_path: Path) -> None:
    names = [str(samples.FOLDER / name) for name in ("wireguard", "nebula")]
    told, silent = tmp_path / "told.json", tmp_path / "silent.json"
    assert main(["validate", *names, "-f", "json", "-o", str(told), "-q", "--baselines"]) == 0
    assert main(["validate", *names, "-f", "json", "-o", str(silent), "-q"]) == 0
    document, without = json.loads(told.read_text()), json.loads(silent.read_text())
    cost = {row["method"]: row for row in document["baselines"]["cost"]}
    assert cost["cosine"]["cllr"] > 3 * cost[FUSED]["cllr"]
    assert cost["cosine"]["pairs"] == document["counts"]["true"] + document["counts"]["false"]
    assert set(document["methods"]) == set(without["methods"])  # scores are no likelihood ratios
    assert "baselines" not in without
    assert document["methods"] == without["methods"]
