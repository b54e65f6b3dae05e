"""The chance that a capture lost so much of a flow."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from types import SimpleNamespace
from typing import Any

import numpy as np

from vpnforensics.engines.case import ScoreTable
from vpnforensics.evidence.denial import chance_of_nothing, chance_of_so_little
from vpnforensics.evidence.missed import share_of_carried
from vpnforensics.evidence.observability import Observability, Why


def test_share_of_carried_is_the_binomial_cumulative() -> None:
    # By hand: n = 3, miss 0.1: P(X <= 1) = 0.1^3 + 3 * 0.9 * 0.1^2 = 0.028.
    found = share_of_carried(np.array([1, 3]), np.array([3, 3]), 0.1)
    np.testing.assert_allclose(found, [0.028, 1.0])


def test_it_is_exact_for_any_number_of_packets() -> None:
    for n in (200, 201, 900):
        few = n * 85 // 100
        exact = sum(comb(n, k) * 9**k for k in range(few + 1)) / 10**n
        np.testing.assert_allclose(share_of_carried(np.array([few]), np.array([n]), 0.1), [exact])
    assert len(share_of_carried(np.zeros(0, np.int64), np.zeros(0, np.int64), 0.1)) == 0


def test_a_capture_is_always_granted_to_have_missed_one_in_a_hundred() -> None:
    np.testing.assert_allclose(share_of_carried(np.array([0]), np.array([1]), 0.0), [0.01])


def test_large_flows_agree_with_simulation() -> None:
    rng = np.random.default_rng(1)
    drawn = rng.binomial(400, 0.95, 200_000)
    for hits in (365, 375, 380, 390):
        found = share_of_carried(np.array([hits]), np.array([400]), 0.05)[0]
        assert abs(found - np.mean(drawn <= hits)) < 0.02


class _Case(SimpleNamespace):
    """Flow 0 has three packets in two tenths of a second, flow 1 two in one."""

    egress = SimpleNamespace(start=np.array([0, 3, 5]), ts_ns=np.array([0, 10, 100, 0, 10]) * 1_000_000)
    map_of_tunnel = np.array([0, 1])


def _table(*unseen: int, why: Why = Why.TOO_LONG) -> Observability:
    seen = np.zeros(5, np.bool_)
    seen[list(unseen)] = True
    return Observability(_Case.egress.start, np.zeros((2, 5), np.uint8)).noted(seen, why)


def _scores(flow: list[int], tunnel: list[int], hits: list[int]) -> ScoreTable:
    whole = [np.array(column, np.int32) for column in (flow, tunnel, hits)]
    return ScoreTable(whole[0], whole[1], np.zeros(len(flow)), whole[2])


def test_packets_of_one_moment_are_missed_as_one() -> None:
    case: Any = _Case()
    nothing = chance_of_so_little(case, _table(), _scores([], [], []), 0.1)
    np.testing.assert_allclose(nothing, [0.01, 0.1])
    np.testing.assert_allclose(chance_of_nothing(case, _table(), 0.1), [0.01, 0.1])


def test_what_could_not_be_seen_is_not_missed() -> None:
    case: Any = _Case()
    np.testing.assert_allclose(chance_of_so_little(case, _table(2), _scores([], [], []), 0.1), [0.1, 0.1])
    lost = replace(_table(), readable=False)
    assert chance_of_so_little(case, lost, _scores([], [], []), 0.1).tolist() == [1.0, 1.0]
    of_time = _table(0, 1, why=Why.SILENT)  # of most of flow 0 nothing can be said
    np.testing.assert_allclose(chance_of_so_little(case, of_time, _scores([], [], []), 0.1), [1.0, 0.1])
    np.testing.assert_allclose(chance_of_nothing(case, of_time, 0.1), [1.0, 0.1])


def test_the_length_map_that_excuses_most_counts() -> None:
    case: Any = _Case()
    of_one_map = _table().noted(np.array([[False] * 5, [False, False, True, False, False]]), Why.TOO_LONG)
    np.testing.assert_allclose(chance_of_so_little(case, of_one_map, _scores([], [], []), 0.1), [0.1, 0.1])


def test_the_tunnel_that_has_most_of_a_flow_excuses_it() -> None:
    """One of two moments found: 0.1^2 + 2 * 0.9 * 0.1; all of them, even by another map: certain."""
    case: Any = _Case()
    found = chance_of_so_little(case, _table(), _scores([0, 0], [0, 1], [1, 0]), 0.1)
    np.testing.assert_allclose(found, [0.19, 0.1])
    found = chance_of_so_little(case, _table(), _scores([0, 0], [0, 1], [1, 3]), 0.1)
    np.testing.assert_allclose(found, [1.0, 0.1])
