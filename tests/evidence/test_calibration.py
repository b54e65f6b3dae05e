from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.evidence.calibration import Calibration, calibrate, chance_slope, cllr, llr_by_chance

LN10 = np.log(10.0)


def test_gaussian_scores_come_out_as_their_true_ratios() -> None:
    """Normal scores of mean +-1 and variance 1 have the natural log ratio 2 x; scaled scores, the same."""
    rng = np.random.default_rng(1)
    h1, h2 = rng.normal(1, 1, 20_000), rng.normal(-1, 1, 5_000)
    found = calibrate(3 * h1 + 4, 3 * h2 + 4)
    assert isinstance(found, Calibration)
    x = np.array([-1.0, 0.0, 0.5, 1.5])
    np.testing.assert_allclose(found.llr(3 * x + 4), 2 * x / LN10, atol=0.06)


def test_the_number_of_known_pairs_bounds_the_ratio() -> None:
    found = calibrate(np.full(100, 10.0), np.full(1_000, -10.0))
    assert isinstance(found, Calibration)
    np.testing.assert_allclose(found.llr(np.array([1e6, -1e6])), [3.0, -2.0])
    assert np.isnan(found.llr(np.array([np.nan]))).all()


@pytest.mark.parametrize(
    ("h1", "h2", "why"),
    [
        (np.zeros(19), np.zeros(500), "fewer than 20"),
        (np.zeros(500), np.zeros(0), "fewer than 20"),
        (np.ones(50), np.ones(50), "apart"),
        (np.full(50, -1.0), np.full(50, 1.0), "apart"),
    ],
)
def test_what_cannot_be_calibrated_says_why(h1, h2, why: str) -> None:
    found = calibrate(h1, h2)
    assert isinstance(found, str)
    assert why in found


def test_chance_bounds_what_is_seldom_heard() -> None:
    llr = llr_by_chance(np.array([1e-2, 1e-9]), 0.5, 100_000)
    np.testing.assert_allclose(llr, [np.log10(50), 5.0])


def test_cllr() -> None:
    """By hand: ratios of 1 cost a bit; perfect ones none; one misled pair in two log2(1 + LR) / 4."""
    assert cllr(np.zeros(5), np.zeros(7)) == pytest.approx(1.0)
    assert cllr(np.full(5, 20.0), np.full(5, -20.0)) == pytest.approx(0.0, abs=1e-12)
    assert cllr(np.array([20.0]), np.array([-20.0, 3.0])) == pytest.approx(np.log2(1001) / 4)


def test_chance_keeps_what_is_believed_of_a_model_within_goods_bound() -> None:
    """Ratios that come too often among false comparisons are all taken by a share of their logarithm."""
    honest = np.log10(1000.0 / np.arange(1, 1001))  # 10^-x of the comparisons reach x
    assert chance_slope(honest, 1000) > 0.8
    assert chance_slope(np.zeros(0), 1000) == 1.0
    too_sure = chance_slope(2 * honest, 1000)
    assert 0.4 < too_sure < 0.55
    assert chance_slope(np.array([6.0]), 999) == pytest.approx(np.log10(1000 / 2) / 6)
