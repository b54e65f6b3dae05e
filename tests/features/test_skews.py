import numpy as np
import pytest

from tests.features import models
from vpnforensics.features.skews import is_quartz, phase_llr, skew_llr, skew_population, skew_sd_ppm
from vpnforensics.features.tcp_clock import sender_clock

POPULATION = skew_population()


def llr(x, sd_x, y, sd_y):
    return float(skew_llr(np.array(x), np.array(sd_x), np.array(y), np.array(sd_y), POPULATION))


def test_population_is_a_law():
    assert sum(POPULATION.weights) == pytest.approx(1.0)
    assert all(sd > 0 for sd in POPULATION.sds)


def test_agreement_far_from_zero_is_worth_more():
    assert llr(60.0, 0.3, 60.1, 0.3) > 2
    assert llr(0.1, 0.3, 0.0, 0.3) < 0.7, "steered clocks are all alike"
    assert llr(60.0, 0.3, 30.0, 0.3) <= -6
    assert abs(llr(60.0, 300.0, -20.0, 300.0)) < 0.5, "a rate that is not known says nothing"


def test_ratio_is_one_on_average_under_chance():
    """E[LR | H2] = 1 by definition; measured by drawing pairs of the population."""
    rng = np.random.default_rng(0)
    n = 400_000
    sd = np.array(POPULATION.sds)[rng.choice(len(POPULATION.sds), (2, n), p=POPULATION.weights)]
    x, y = rng.normal(0, sd) + rng.normal(0, 2.0, (2, n))
    ratio = 10 ** skew_llr(x, np.full(n, 2.0), y, np.full(n, 2.0), POPULATION)
    assert ratio.mean() == pytest.approx(1.0, abs=0.05)


def quiet(seed, phase, skew=0.0):
    rng = np.random.default_rng(seed)
    sent = np.sort(rng.random(3000)) * 200
    ticks = np.floor(sent * (1 + skew * 1e-6) * 1000 + phase).astype(np.int64) + int(rng.integers(0, 2**31))
    arrival = 1_790_000_000 * 10**9 + np.rint((sent + rng.exponential(2e-5, 3000)) * 1e9).astype(np.int64)
    return sender_clock(arrival, ticks.astype(np.uint32))


def test_phases_of_one_clock_agree():
    assert phase_llr(quiet(1, 0.3, 20.0), quiet(2, 0.3, 20.0)) > 0.7
    assert phase_llr(quiet(1, 0.3, 20.0), quiet(2, 0.8, 20.0)) < -1
    assert phase_llr(quiet(1, 0.99), quiet(2, 0.0)) > 0, "the phase goes round"
    assert phase_llr(quiet(1, 0.3), quiet(2, 0.3), extra_error_s=0.01) == 0.0


def test_nothing_without_a_line():
    none = sender_clock(np.zeros(0, np.int64), np.zeros(0, np.uint32))
    assert phase_llr(none, quiet(1, 0.3)) == 0.0
    assert skew_sd_ppm(none) == np.inf
    assert not is_quartz(none)
    ts, tsval = models.clock_packets(120, -12_000.0, np.random.default_rng(0))
    assert not is_quartz(sender_clock(ts, tsval))
