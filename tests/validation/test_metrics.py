from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.validation.binomial import poisson_interval, poisson_tail
from vpnforensics.validation.metrics import cllr, cost_parts


def test_cllr() -> None:
    """By hand: ratios of 1 cost a bit; perfect ones none; one misled pair in two log2(1 + LR) / 4."""
    assert cllr(np.zeros(5), np.zeros(7)) == pytest.approx(1.0)
    assert cllr(np.zeros(0), np.full(5, -20.0)) == pytest.approx(0.0, abs=1e-12)
    assert cllr(np.full(5, 20.0), np.zeros(0)) == pytest.approx(0.0, abs=1e-12)
    assert cllr(np.full(5, 20.0), np.full(5, -20.0)) == pytest.approx(0.0, abs=1e-12)
    assert cllr(np.array([20.0]), np.array([-20.0, 3.0])) == pytest.approx(np.log2(1001) / 4)


def test_the_parts_of_the_cost_sum_to_it() -> None:
    rng = np.random.default_rng(4)
    h1 = rng.random(200) < 0.2
    llr = rng.normal(np.where(h1, 2.0, -2.0), 2.0)
    llr[::7] = np.nan
    parts, spoken = cost_parts(llr, h1), ~np.isnan(llr)
    assert parts.sum() == pytest.approx(cllr(llr[spoken & h1], llr[spoken & ~h1]))
    assert not parts[~spoken].any()
    worst = int(np.argmax(parts))
    assert (llr[worst] < 0) == h1[worst]


@pytest.mark.parametrize("events", [0, 1, 7, 40])
def test_the_poisson_interval_leaves_a_fortieth_on_either_side(events: int) -> None:
    low, high = poisson_interval(events)
    assert 1 - poisson_tail(events + 1, high) == pytest.approx(0.025, abs=1e-6)
    assert poisson_tail(events, low) == pytest.approx(0.025 if events else 1.0, abs=1e-6)
