"""Null draws: the quick search among few records finds what the search among all finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vpnforensics as vf
from vpnforensics.engines.case import ScoreTable
from vpnforensics.evidence import null_draws
from vpnforensics.evidence.null_draws import Nulls, with_other_tunnels
from vpnforensics.evidence.null_scores import fit_tail

SAMPLE = Path(__file__).parent.parent.parent / "samples" / "strongswan"


def test_copies_looked_for_among_few_records_keep_every_contested_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rotated, compared = null_draws._rotated, []

    def both(
        containment: Any, where: Any, flows: Any, alive: Any, owned: Any, turns: float, rng: Any
    ) -> Nulls:
        if where is not containment:
            found = [
                rotated(containment, place, flows, alive, owned, min(turns, 500.0), np.random.default_rng(5))
                for place in (containment, where)
            ]
            every, few = (np.sort(nulls.contested[nulls.contested > 0]) for nulls in found)
            np.testing.assert_array_equal(few, every)
            assert len(where.classes.ts_ns) < len(containment.classes.ts_ns)
            assert found[0].comparisons == found[1].comparisons
            assert found[1].lone_comparisons == 0  # no sample: it bounds no likelihood ratio
            compared.append(len(every))
        return rotated(containment, where, flows, alive, owned, turns, rng)

    monkeypatch.setattr(null_draws, "_rotated", both)
    vf.correlate(SAMPLE / "ingress.pcap", SAMPLE / "egress.pcap", engines=["packets"])
    assert sum(compared) > 10


def test_more_copies_are_worth_it_only_to_flows_that_they_could_link() -> None:
    """Without a score, the threshold falls as comparisons grow; what is far above or below gains nothing."""
    none = np.zeros(0)
    drawn = [Nulls(none, 4_000, none, 4_000), Nulls(none, 6_000, none, 0)]
    now, then = (fit_tail(none, n).threshold(1e-7) for n in (10_000, 100_000))
    assert 0 < then < now
    score = np.array([-np.inf, then - 0.1, then + 0.1, now - 0.1, now + 0.1])
    assert null_draws._share_within_reach(drawn, score, 1e-7, 10.0) == 0.4


def test_linked_flows_are_negatives_in_other_tunnels() -> None:
    none = np.zeros(0)
    nulls = {1: Nulls(none, 100, none, 50), 3: Nulls(none, 10, none, 10)}
    pairs = ScoreTable(
        np.array([0, 0, 1, 2, 2], np.int32),
        np.array([0, 1, 0, 1, 2], np.int32),
        np.array([9.0, 2.0, 3.0, 8.0, 1.0]),
        np.ones(5, np.int32),
    )
    contested = np.array([9.0, 1.5, 3.0, 8.0, -np.inf])
    found = with_other_tunnels(
        nulls,
        pairs,
        contested,
        np.array([0, -1, 1], np.int32),
        np.array([0, 2]),
        np.array([3, 3, 2]),
        np.array([1, 1, 3]),
    )
    # Flow 1 is not linked: of which tunnel its score is false is not known.
    assert found[1].contested.tolist() == [1.5]
    assert found[1].lone.tolist() == [2.0]
    assert (found[1].comparisons, found[1].lone_comparisons) == (102, 52)
    assert found[3].contested.tolist() == [-np.inf]
    assert (found[3].comparisons, found[3].lone_comparisons) == (11, 11)
