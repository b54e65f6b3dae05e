from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.evidence.null_scores import fit_tail, stratum_of


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("seen", [20, 1000])
def test_the_expected_rate_at_a_threshold_is_what_it_says(scale: float, seen: int) -> None:
    """Exponential nulls: averaged over cases, the true rate at the threshold for a rate is at most that."""
    rate, comparisons = 1e-6, 100_000
    true = []
    for seed in range(300):
        rng = np.random.default_rng([seed, seen])
        scores = rng.exponential(scale, rng.poisson(seen))
        threshold = fit_tail(scores, comparisons).threshold(rate)
        true.append(seen / comparisons * np.exp(-threshold / scale))
    assert np.mean(true) <= 1.3 * rate, np.mean(true)


def test_rates_fall_with_the_score_and_meet_the_thresholds() -> None:
    rng = np.random.default_rng(1)
    tail = fit_tail(rng.exponential(0.5, 2000) - 0.5, 50_000)
    grid = np.linspace(-1, 12, 200)
    rates = tail.false_positive_rate(grid)
    assert (np.diff(rates) <= 1e-12).all()
    for rate in (1e-5, 1e-7, 1e-9):
        assert tail.false_positive_rate(np.array([tail.threshold(rate)]))[0] <= rate * 1.001


def test_a_tail_is_never_steeper_than_a_perfect_ratio_allows() -> None:
    scores = np.full(500, 0.01)  # as if chance never did better than this
    tail = fit_tail(scores, 10_000)
    assert tail.scale >= 1 / np.log(10)


def test_without_any_null_score_the_number_of_comparisons_still_counts() -> None:
    few, many = fit_tail(np.zeros(0), 1_000), fit_tail(np.zeros(0), 1_000_000)
    assert few.threshold(1e-7) > many.threshold(1e-7) > 0
    assert np.isfinite(few.threshold(1e-12))


def test_extreme_scores_do_not_overflow() -> None:
    rates = fit_tail(np.array([1.0, 2.0]), 100).false_positive_rate(np.array([-1e9, 1e9]))
    assert rates[0] == 1.0
    assert rates[1] < 1e-6


def test_strata_partition_the_sizes() -> None:
    assert stratum_of(np.array([1, 2, 3, 5, 9, 10, 29, 30, 100, 10**6])).tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
        5,
        6,
        7,
        7,
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_second_higher_peak_has_a_tail_of_its_own(seed: int) -> None:
    """Forty coincidences of whole bursts above thousands of single ones: the threshold is just above them."""
    rng = np.random.default_rng(seed)
    peak = rng.normal(7.0, 0.4, 40)
    tail = fit_tail(np.concatenate([rng.exponential(0.7, 45), peak]), 1_000_000)
    assert peak.max() - 0.5 < tail.threshold(1e-6) < peak.max() + 1.5
