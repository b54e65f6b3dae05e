"""Who is placed before the joint model, and what that leaves."""

from __future__ import annotations

import numpy as np

from tests.evidence.joint.made import made
from vpnforensics.engines.case import ScoreTable
from vpnforensics.evidence.joint.placing import best_pairs, place_strong


def _long(rng: np.random.Generator, begin_ms: float) -> list[tuple[float, int, bool]]:
    """Twenty-five packets of many sizes."""
    at = begin_ms + np.sort(rng.uniform(0, 5000, 25))
    return [(float(t), 100 + 16 * int(rng.integers(0, 12)), bool(rng.integers(0, 2))) for t in at]


def test_long_flows_leave_with_their_records() -> None:
    rng = np.random.default_rng(2)
    flows = [_long(rng, 1000.0 * f) for f in range(6)]
    records = [(t, size, up, f % 3) for f, of in enumerate(flows) for t, size, up in of]
    short = [(500.0, 100, True)]
    case = made([*flows, short], [*records, (500.2, 100, True, 1)], tunnels=3)
    placed = place_strong(case, np.arange(7, dtype=np.int32), 12.0)
    assert placed.tunnel.tolist() == [0, 1, 2, 0, 1, 2, -1]
    assert (placed.margin[:6] >= 12.0).all()
    assert (placed.record >= 0).sum() == 6 * 25
    assert len(placed.rest.classes.ts_ns) == 1  # the short flow's record is nobody else's now


def test_a_copy_of_a_flow_is_not_placed_beside_it() -> None:
    """Its records are the stronger one's: a flow of the same sizes at the same times has none of its own."""
    rng = np.random.default_rng(4)
    flow = _long(rng, 0.0)
    twin = [(t + float(rng.normal(0, 2)), size, up) for t, size, up in flow]
    case = made([flow, twin], [(t, size, up, 0) for t, size, up in flow], tunnels=2, sd_ms=2.0)
    placed = place_strong(case, np.arange(2, dtype=np.int32), 12.0)
    assert sorted(placed.tunnel.tolist()) == [-1, 0]


def test_what_fits_two_tunnels_is_left_to_the_model() -> None:
    rng = np.random.default_rng(6)
    flow = _long(rng, 0.0)
    case = made([flow], [(t, size, up, k) for t, size, up in flow for k in (0, 1)], tunnels=2)
    assert place_strong(case, np.zeros(1, np.int32), 12.0).tunnel.tolist() == [-1]


def test_lead_is_over_nothing_and_over_the_next() -> None:
    pairs = ScoreTable(
        np.array([0, 0, 2, 2, 2], np.int32),
        np.array([1, 0, 2, 0, 1], np.int32),
        np.array([3.0, 5.0, 9.0, 9.0, -1.0]),
        np.zeros(5, np.int32),
    )
    best, lead = best_pairs(pairs, 4)
    assert best.tolist() == [1, -1, 3, -1]  # ties go to the lower tunnel
    np.testing.assert_allclose(lead, [2.0, -np.inf, 0.0, -np.inf])
