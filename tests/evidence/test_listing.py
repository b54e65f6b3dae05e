"""Pairs by number, and a decision that lists others than it did."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from tests.evidence.test_fields_road import _decision
from vpnforensics.engines.case import ScoreTable
from vpnforensics.evidence.listing import keys_of, list_pairs, pairs_of, rows_of
from vpnforensics.evidence.voices import Voice


def test_pairs_have_one_number_each():
    case = SimpleNamespace(tunnels=range(3))
    flow, tunnel = np.array([2, 0], np.int32), np.array([1, 2], np.int32)
    pairs = ScoreTable(flow, tunnel, np.ones(2), np.ones(2, np.int32))
    keys = keys_of(case, pairs)
    assert keys.tolist() == [7, 2]
    assert rows_of(case, pairs, np.array([2, 3, 7])).tolist() == [1, -1, 0]
    again = pairs_of(case, keys)
    assert (again.flow.tolist(), again.tunnel.tolist()) == ([2, 0], [1, 2])


def test_pairs_are_listed_best_first_and_those_without_a_ratio_last():
    decision = _decision([0, 1, 0])  # lists (0, 0), (1, 1), (2, 0)
    keys = np.array([0, 1, 3, 4, 5])
    llr = np.array([np.nan, 2.0, 1.0, 4.0, 4.0])
    voice = Voice("other", llr, llr, np.arange(5, dtype=np.int32), ("a", "b", "c", "d", "e"))
    found = list_pairs(SimpleNamespace(tunnels=range(2)), decision, keys, llr, [voice])
    pairs = list(zip(found.scores.flow.tolist(), found.scores.tunnel.tolist(), strict=True))
    assert pairs == [(0, 1), (0, 0), (1, 1), (2, 0), (2, 1)]
    assert np.array_equal(found.llr, [2.0, np.nan, 1.0, 4.0, 4.0], equal_nan=True)
    assert np.array_equal(found.scores.score, [np.nan, 20, 20, 20, np.nan], equal_nan=True)
    assert found.scores.hits.tolist() == [0, 9, 9, 9, 0]
    assert [v.note for v in found.voices] == [("b", "a", "c", "d", "e")]
    assert found.tunnel.tolist() == [0, 1, 0]
