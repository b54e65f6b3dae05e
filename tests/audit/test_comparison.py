"""Predictions beside recordings."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from vpnforensics.audit.comparison import Comparison, Trial, comparison_view, summary_of
from vpnforensics.audit.linkability import Linkability

TOOL = {"name": "vpnforensics", "version": "0", "commit": None, "date": "d", "host": "h", "seed": 1}


def _seen(linked: int, wrong: int = 0) -> Linkability:
    return Linkability(100, 3, (linked, linked + 2), (wrong, wrong), (), 10, 300, 200, 40_000_000)


@pytest.fixture
def comparison() -> Comparison:
    trials = (
        Trial("none", 1, _seen(98), _seen(97), None),
        Trial("batch", 1, _seen(90, 2), _seen(80), _seen(87)),
        Trial("batch", 2, _seen(80), _seen(70), _seen(90)),
        Trial("cover", 1, _seen(1), _seen(0), None, "too many datagrams"),
    )
    return Comparison(TOOL, "made up", (0.01, 1.0), trials)


def test_means_over_seeds(comparison: Comparison) -> None:
    found = summary_of(comparison, "batch")
    assert (found.seeds, found.flows, found.wrong) == (2, 200, 2)
    assert found.linked == pytest.approx((0.88 + 0.80) / 2)
    assert found.predicted == pytest.approx(0.885)
    assert found.worst_points == pytest.approx(10.0)
    assert found.expansion == 1.5


def test_a_prediction_that_fails_is_said(comparison: Comparison) -> None:
    console = Console(width=140, color_system=None)
    with console.capture() as captured:
        console.print(comparison_view(comparison))
    shown = captured.get()
    assert "10.0 !" in shown
    assert "! batch, seed 2: predicted 90.0 %, recorded 80.0 %" in shown
    assert "cover, seed 1: not predicted: too many datagrams" in shown


def test_json(comparison: Comparison) -> None:
    found = json.loads(comparison.to_json())
    assert [t["name"] for t in found["trials"]] == ["none", "batch", "batch", "cover"]
