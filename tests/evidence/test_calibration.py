from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.evidence.calibration import (
    Calibration,
    bounds,
    calibrate,
    chance_beyond,
    chance_cap,
    chance_slope,
)


def honest(comparisons: int) -> np.ndarray:
    """Scores as a right model has them where it is wrong: 10^-x of the comparisons reach x."""
    return np.log10(comparisons / np.arange(1, comparisons + 1))


def test_an_honest_model_is_believed_and_one_too_sure_of_itself_by_half() -> None:
    found, doubled = (calibrate(np.zeros(0), (k * honest(1000), 1000)) for k in (1, 2))
    assert isinstance(found, Calibration)
    assert isinstance(doubled, Calibration)
    assert found.slope_for > 0.8
    assert 0.4 < doubled.slope_for < 0.55
    assert found.slope_against == 0.0  # nothing is known to be true
    assert (found.lower, found.upper) == (0.0, 3.0)


def test_scores_against_are_held_against_pairs_known_to_be_true() -> None:
    found = calibrate(-2 * honest(100), (np.full(20, -1.0), 20))
    assert isinstance(found, Calibration)
    assert 0.4 < found.slope_against < 0.6
    assert found.slope_for == 0.0
    np.testing.assert_allclose(found.llr(np.array([-1.0, 5.0, -9.0])), [-found.slope_against, 0.0, -2.0])
    undoubted = calibrate(np.zeros(100), (-2 * honest(100), 100))
    assert isinstance(undoubted, Calibration)
    assert undoubted.slope_against == 1.0


def test_the_number_of_known_pairs_bounds_the_ratio() -> None:
    found = calibrate(np.full(100, 10.0), (np.full(1_000, -10.0), 1_000))
    assert isinstance(found, Calibration)
    np.testing.assert_allclose(found.llr(np.array([1e6, -1e6])), [3.0, -2.0])
    np.testing.assert_allclose(found.unbounded(np.array([1e6, -1e6])), [1e6, -1e6])
    assert np.isnan(found.llr(np.array([np.nan]))).all()
    assert bounds(0, 0) == (0.0, 0.0)
    assert bounds(50_000, 100) == pytest.approx((-2.0, np.log10(50_000)))


@pytest.mark.parametrize(
    ("true", "false", "comparisons", "why"),
    [
        (np.zeros(19), np.zeros(19), 19, "fewer than 20"),
        (np.ones(19), np.zeros(0), 0, "fewer than 20"),
        (np.full(50, -1.0), np.ones(3), 3, "apart"),  # against, but against no pair that is known to be false
        (np.ones(50), np.ones(50), 50, "apart"),
        (np.full(50, -1.0), np.full(50, 1.0), 50, "apart"),
        (np.full(50, np.nan), np.full(3, 1.0), 500, "apart"),  # heard of no carried flow
    ],
)
def test_what_cannot_be_calibrated_says_why(
    true: np.ndarray, false: np.ndarray, comparisons: int, why: str
) -> None:
    found = calibrate(true, (false, comparisons))
    assert isinstance(found, str)
    assert why in found


def test_twenty_comparisons_are_enough() -> None:
    assert isinstance(calibrate(np.zeros(0), (np.full(20, np.nan), 20)), Calibration)
    assert isinstance(calibrate(np.ones(20), (np.zeros(20), 20)), Calibration)


def test_silence_on_all_known_pairs_counts_from_twenty_on() -> None:
    positive = (np.full(3, 1.0), 500)
    assert isinstance(calibrate(np.full(20, np.nan), positive), str)
    assert isinstance(calibrate(np.full(19, np.nan), positive), Calibration)
    found = calibrate(np.ones(20))  # nothing is known to be false
    assert isinstance(found, str)
    assert "apart" in found


def test_a_weak_score_for_a_pair_is_for_it() -> None:
    found = calibrate(np.zeros(0), (2 * honest(1000), 1000))
    assert isinstance(found, Calibration)
    np.testing.assert_allclose(found.unbounded(np.array([0.5])), [found.slope_for / 2])


def test_speaking_is_worth_no_more_than_how_often_carried_flows_are_heard() -> None:
    found = calibrate(np.zeros(0), (np.zeros(0), 10_000), heard=0.01)
    assert isinstance(found, Calibration)
    np.testing.assert_allclose(found.unbounded(np.array([5.0, 1.0, -1.0])), [3.0, 0.0, 0.0])


def test_of_several_kinds_of_false_comparisons_the_worst_counts() -> None:
    """Clients alike score high in each other's tunnels; however many copies score nothing, that stands."""
    alike, copies = (np.full(50, 5.0), 100), (np.zeros(0), 100_000)
    found = calibrate(np.zeros(0), alike, copies)
    assert isinstance(found, Calibration)
    assert found.slope_for == chance_slope(*alike) < 0.1
    assert found.upper == 5.0
    few = calibrate(np.zeros(0), (np.full(19, 5.0), 19), copies)
    assert isinstance(few, Calibration)
    assert few.slope_for == 1.0


def test_little_is_nothing() -> None:
    assert chance_slope(np.full(999, 1.0), 1_200) > 0.05
    assert chance_slope(np.full(999, 2.0), 1_200) == 0.0
    assert chance_slope(np.zeros(0), 1000) == 1.0
    assert chance_slope(np.array([6.0]), 999) == pytest.approx(np.log10(1000 / 2) / 6)
    assert chance_slope(np.array([6.0]), 999, 0.1) == pytest.approx((np.log10(1000 / 2) + 1) / 6)


@given(st.lists(st.integers(-30, 120), min_size=20, max_size=200), st.integers(0, 2_000))
def test_calibrated_ratios_keep_goods_bound(scores: list[int], silent: int) -> None:
    false = np.array(scores) / 10.0
    comparisons = len(false) + silent
    found = calibrate(np.zeros(0), (false, comparisons))
    if isinstance(found, Calibration):
        llr = found.unbounded(false)
        for x in llr[llr > 0]:
            assert np.sum(llr >= x) + 1 <= (comparisons + 1) * 10**-x * (1 + 1e-9)


def test_few_false_claims_of_any_height_bound_the_ratios_and_leave_the_lesser_ones() -> None:
    assert chance_cap(np.zeros(0), 999) == pytest.approx(3.0)
    assert chance_cap(np.array([2.9]), 999) == pytest.approx(3.0)
    assert chance_cap(np.array([40.0]), 999) == pytest.approx(np.log10(1000 / 2))
    assert chance_cap(np.array([np.nan, 40.0, 30.0, 20.0, -5.0, 1.0]), 999) == pytest.approx(
        np.log10(1000 / 4)
    )
    assert chance_cap(np.array([2.9, 2.8]), 999) == pytest.approx(3.0)
    assert chance_cap(np.array([40.0, 2.75]), 999) == pytest.approx(np.log10(1000 / 3))
    assert chance_cap(np.array([40.0, 2.65]), 999) == pytest.approx(np.log10(1000 / 2))


@given(st.lists(st.integers(-30, 400), max_size=200), st.integers(1, 2_000))
def test_ratios_capped_and_scaled_keep_goods_bound_and_no_larger_cap_does(
    scores: list[int], silent: int
) -> None:
    false = np.array(scores) / 10.0
    comparisons = len(false) + silent
    cap = chance_cap(false, comparisons)
    llr = np.minimum(chance_slope(np.minimum(false, cap), comparisons) * false, cap)
    for x in llr[llr > 0]:
        assert np.sum(llr >= x) + 1 <= (comparisons + 1) * 10**-x * (1 + 1e-9)
    above = cap + 1e-6
    assert (
        np.sum(false >= above) + 1 > (comparisons + 1) * 10**-above or cap >= np.log10(comparisons + 1) - 1e-9
    )


def test_far_claims_are_worth_what_the_falling_off_of_false_ones_shows() -> None:
    """Of exponential excesses the rate is that of their mean, a standard error less; near claims count."""
    rng, comparisons = np.random.default_rng(5), 4_000
    false = np.r_[rng.exponential(2.0 * np.log10(np.e), 400), np.full(3_600, -1.0)]  # 10^-x/2 of one in ten
    claim = np.array([-3.0, 0.0, 0.5, 4.0, 8.0, 12.0])
    worth = chance_beyond(claim, false, comparisons)
    exact = np.minimum(1.0 + claim / 2, claim)
    by_slope = chance_slope(false, comparisons) * claim
    assert (worth <= np.where(claim > 0, np.maximum(exact + 0.3, by_slope), claim)).all()
    assert (worth[3:] >= by_slope[3:]).all()
    assert (worth[3:] > 0.6 * exact[3:]).all()
    assert (np.diff(worth) > 0).all()
    assert worth[1] == 0.0


def test_one_odd_comparison_decides_little_and_many_decide_all() -> None:
    claim, comparisons = np.array([8.0]), 4_000
    false = honest(comparisons)
    usual = chance_beyond(claim, false, comparisons)
    odd = chance_beyond(claim, np.r_[false, 20.0], comparisons)
    assert chance_slope(np.r_[false, 20.0], comparisons) * claim < 0.2 * claim
    assert 0.5 * usual < odd < usual
    assert chance_beyond(claim, np.full(30, 8.0), comparisons) < 2.6


CLAIMS = st.floats(-20, 20).map(lambda x: round(x, 3))


@given(st.lists(CLAIMS, max_size=60), CLAIMS, CLAIMS.map(abs))
def test_no_claim_is_worth_more_than_it_says_nor_less_than_a_smaller_one(
    false: list[float], claim: float, more: float
) -> None:
    worth = chance_beyond(np.array([claim, claim + more]), np.array(false), 1_000)
    assert worth[0] <= max(claim, 0.0) + 1e-9
    assert worth[1] >= worth[0] - 1e-9 or claim < 0


def test_few_false_claims_are_taken_as_they_are() -> None:
    false = np.array([6.0, 1.0, -2.0])
    claim = np.array([2.0, 9.0])
    np.testing.assert_allclose(chance_beyond(claim, false, 500), chance_slope(false, 500) * claim)
