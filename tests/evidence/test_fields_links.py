"""What field engines may link, and what their pairs are calibrated by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from vpnforensics.engines.scores import EngineScores
from vpnforensics.evidence import fields
from vpnforensics.evidence.policy import Policy


class _Tunnels:
    lost_share = 0.0

    def __len__(self) -> int:
        return 3


def _linked(flow: list[int], at: list[int], claims: list[float], **changes: Any) -> tuple[Any, Any]:
    """Who is linked, of four flows that four tunnels were there for (three and none), and the errors."""
    case: Any = SimpleNamespace(tunnels=_Tunnels())
    parts = {"tunnel": np.full(4, -1, np.int32), "error": np.ones(4), "expected_false_links": 0.0}
    decision: Any = SimpleNamespace(policy=Policy(), **(parts | changes))
    keys = np.array(flow) * 3 + np.array(at)
    candidates = fields._likeliest(case, decision, keys, np.array(claims), np.full(4, 3))
    return fields._link(decision, [candidates])


def test_a_links_error_is_what_speaks_for_the_others_and_for_none() -> None:
    tunnel, error = _linked([0, 1, 1, 2], [1, 0, 2, 0], [5.0, 6.0, 3.0, 1.0])
    assert tunnel.tolist() == [1, 0, -1, -1]
    np.testing.assert_allclose(error[:2], [3e-5, 1e-3 + 2e-6], rtol=2e-3)
    assert error[2:].tolist() == [1.0, 1.0]


def test_two_tunnels_that_fit_alike_are_no_link() -> None:
    assert _linked([0, 0], [1, 2], [9.0, 8.9])[0].tolist() == [-1] * 4
    assert _linked([0, 0], [1, 2], [9.0, 5.0])[0].tolist() == [1, -1, -1, -1]


def test_fields_add_links_as_long_as_the_sum_of_errors_allows() -> None:
    tunnel, error = _linked([0, 1, 2], [0, 0, 0], [2.6, 2.9, 4.0])
    assert tunnel.tolist() == [-1, 0, 0, -1]
    assert error[tunnel >= 0].sum() <= Policy().expected_false_links
    assert _linked([0], [0], [4.0], expected_false_links=0.0099)[0].tolist() == [-1] * 4


def test_links_of_the_joint_model_stay() -> None:
    linked = np.array([2, -1, -1, -1], np.int32)
    tunnel, error = _linked([0, 1], [0, 1], [9.0, 9.0], tunnel=linked, error=np.full(4, 0.5))
    assert tunnel.tolist() == [2, 1, -1, -1]
    assert error.tolist() == [0.5, Policy().least_error, 0.5, 0.5]


def test_what_a_flow_fits_best_is_its_own_tunnel_unless_it_is_linked() -> None:
    flow, tunnel = np.array([0, 0, 1, 1], np.int32), np.array([0, 2, 0, 2], np.int32)
    said = EngineScores("x", flow, tunnel, np.array([4.0, 3.0, 4.0, 3.0]), np.ones(4, np.int32), ("",) * 4)
    own = fields._own_tunnels(said, np.array([-1, 2, -1], np.int32))
    assert own.tolist() == [0, 2, -1]


def test_a_pair_is_looked_into_where_a_map_a_whole_tunnel_and_the_captures_allow() -> None:
    tunnels = _Tunnels()
    case: Any = SimpleNamespace(tunnels=tunnels, map_of_tunnel=np.array([0, -1, 0]))
    table = SimpleNamespace(deniable=np.array([True, False]))
    decision: Any = SimpleNamespace(engine="packets", observability=table)
    keys = np.array([0, 1, 3])  # flow 0 in tunnels 0 and 1, flow 1 in tunnel 0
    assert fields._looked_into(case, decision, keys).tolist() == [True, False, False]
    tunnels.lost_share = 0.2
    assert not fields._looked_into(case, decision, keys).any()
    tunnels.lost_share = 0.0
    assert not fields._looked_into(case, SimpleNamespace(engine="", observability=table), keys).any()


PAIRS = np.array([0, 1, 3, 4, 6])
"""Flows 0 and 1 in tunnels 0 and 1, flow 2 in tunnel 0."""


def _confirmed(tunnel: list[int], packets: list[float], ratios: list[list[float]]) -> list[float]:
    case: Any = SimpleNamespace(tunnels=_Tunnels())
    decision: Any = SimpleNamespace(tunnel=np.array(tunnel, np.int32))
    return fields._confirmed(case, decision, PAIRS, np.array(packets), np.array(ratios)).tolist()


def test_what_packets_left_open_and_speak_for_may_be_confirmed() -> None:
    nan = np.nan
    clear = [[2.0, nan, 2.0, 0.9, 1.0]]
    assert _confirmed([-1, 1, -1], [1.0, 1.0, 1.0, 1.0, 1.0], clear) == [2.0, 0.0, 0.0, 0.0, 1.0]
    assert _confirmed([-1, -1, -1], [nan, 1.0, 0.0, 1.0, -2.0], clear) == [0.0] * 5
    assert _confirmed([-1] * 3, [1.0] * 5, [[2.0, 1.5, nan, nan, nan], [nan, 3.0, nan, nan, 0.5]]) == [
        2.0, 3.0, 0.0, 0.0, 0.0,
    ]  # fmt: skip
    assert _confirmed([-1] * 3, [1.0] * 5, [[nan] * 5]) == [0.0] * 5


def _likelier(
    packets: list[float], confirmed: list[float], error: list[float]
) -> dict[int, tuple[int, float]]:
    case: Any = SimpleNamespace(tunnels=_Tunnels())
    decision: Any = SimpleNamespace(error=np.array(error))
    found = fields._likelier(case, decision, PAIRS, np.array(packets), np.array(confirmed))
    return {
        f: (t, e)
        for f, t, e in zip(found.flow.tolist(), found.tunnel.tolist(), found.error.tolist(), strict=True)
    }


def test_a_confirmed_tunnels_odds_are_multiplied() -> None:
    found = _likelier([1.0, 0.5, 0.5, 1.0, 2.0], [2.0, 0.0, 0.0, 3.0, 0.0], [0.1, 0.5, 0.2])
    assert {f: t for f, (t, _) in found.items()} == {0: 0, 1: 1}
    np.testing.assert_allclose([e for _, e in found.values()], [1 / (1 + 900), 1 / (1 + 1000)])


def test_what_confirms_another_tunnel_as_well_gains_nothing() -> None:
    found = _likelier([1.0, 0.5, 1.0, 0.5, 2.0], [2.0, 2.0, 1.0, 3.0, 1.0], [0.5] * 3)
    assert set(found) == {2}
    found = _likelier([1.0, 0.5, 1.0, 0.5, 2.0], [3.0, 1.0, 0.0, 3.0, 0.0], [0.5] * 3)
    assert {f: (t, round(e, 6)) for f, (t, e) in found.items()} == {0: (0, round(1 / 101, 6))}


def test_of_two_roads_to_a_link_the_surer_one_is_taken() -> None:
    flow, tunnel = np.array([0, 1], np.int32), np.array([0, 0], np.int32)
    one = fields._Candidates(flow, tunnel, np.array([1e-3, 1e-4]))
    other = fields._Candidates(flow, tunnel + 1, np.array([1e-5, 1e-3]))
    parts = {"tunnel": np.full(3, -1, np.int32), "error": np.ones(3), "expected_false_links": 0.0}
    decision: Any = SimpleNamespace(policy=Policy(), **parts)
    for roads in ([one, other], [other, one]):
        linked, error = fields._link(decision, roads)
        assert linked.tolist() == [1, 0, -1]
        assert error.tolist() == [1e-5, 1e-4, 1.0]
