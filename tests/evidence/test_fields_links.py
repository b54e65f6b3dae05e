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
    return fields._link(case, decision, keys, np.array(claims), np.full(4, 3))


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
