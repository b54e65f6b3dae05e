"""The statistics behind a likelihood ratio, held against libraries that others wrote (the `dev` extra)."""

import warnings

import numpy as np
import pytest

from vpnforensics.evidence.calibration import bounds
from vpnforensics.evidence.missed import _MISS_FLOOR, share_of_carried
from vpnforensics.features import gap_law
from vpnforensics.features._kernels import upper_hull
from vpnforensics.features.clock_fit import theil_sen
from vpnforensics.groundtruth.simulate.compare import distance
from vpnforensics.validation import binomial
from vpnforensics.validation.binomial import poisson_tail
from vpnforensics.validation.metrics import cllr, cost, devpav, ece, elub, nbe, thresholds
from vpnforensics.validation.tally import Tally, pav, tally

scipy = pytest.importorskip("scipy")
SEEDS = range(8)


@pytest.fixture(scope="module")
def lir():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("lir")
        from lir import metrics
        from lir.algorithms import bayeserror, isotonic_regression
        from lir.data.models import LLRData
        from lir.metrics.devpav import devpav as their_devpav
        from lir.plotting.expected_calibration_error import calculate_ece

        module.metrics, module.bayeserror, module.LLRData = metrics, bayeserror, LLRData
        module.devpav, module.calculate_ece = their_devpav, calculate_ece
        module.isotonic = isotonic_regression.IsotonicCalibrator
    return module


def llrs(rng, right, wrong):
    """Calibrated ones of two normal laws a few units apart, log10."""
    mean = rng.uniform(0.5, 8.0)
    h1, h2 = rng.normal(mean, np.sqrt(2 * mean), right), rng.normal(-mean, np.sqrt(2 * mean), wrong)
    return h1 / np.log(10), h2 / np.log(10)


@pytest.mark.parametrize("seed", SEEDS)
def test_cllr_is_that_of_lir(lir, seed):
    rng = np.random.default_rng(seed)
    h1, h2 = llrs(rng, *rng.integers(5, 3_000, 2))
    labels = np.r_[np.ones(len(h1)), np.zeros(len(h2))]
    theirs = lir.metrics.cllr(lir.LLRData(features=np.r_[h1, h2].reshape(-1, 1), labels=labels))
    assert cllr(h1, h2) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_cllr_is_the_log_loss_of_even_odds(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    h1, h2 = llrs(np.random.default_rng(seed), 400, 400)  # as many of each: odds are the ratios
    posterior = 1 / (1 + 10 ** -np.r_[h1, h2])
    loss = metrics.log_loss(np.r_[np.ones(400), np.zeros(400)], posterior)
    assert cllr(h1, h2) == pytest.approx(loss / np.log(2), abs=1e-9)


@pytest.mark.parametrize(("true", "false"), [(20, 20), (100, 100), (50, 20_000), (3_000, 200), (900, 1_289)])
def test_bounds_are_those_of_elub(lir, true, false):
    """Where no comparison misleads; ELUB goes by steps of 0.01, and counts one that misleads on each side."""
    labels = np.r_[np.ones(true), np.zeros(false)]
    theirs = lir.bayeserror.elub(np.r_[np.full(true, 8.0), np.full(false, -8.0)], labels)
    slack = 0.011 + np.log10(1 + 1 / min(true, false))
    assert bounds(false, true) == pytest.approx(theirs, abs=slack)


@pytest.mark.parametrize("seed", SEEDS)
def test_elub_is_within_our_bounds(lir, seed):
    """Where comparisons mislead, ELUB is nearer to zero: ours only count comparisons."""
    rng = np.random.default_rng(seed)
    h1, h2 = llrs(rng, *rng.integers(100, 3_000, 2))
    labels = np.r_[np.ones(len(h1)), np.zeros(len(h2))]
    lower, upper = lir.bayeserror.elub(np.r_[h1, h2], labels)
    low, high = bounds(len(h2), len(h1))
    assert low - 0.011 <= lower <= 0 <= upper <= high + 0.011


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [8, 20, 60, 201])
def test_theil_sen_is_that_of_scipy(seed, n):
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.5, 9.0, n))
    y = 3e-5 * x + 1e-3 * rng.standard_t(2, n)
    slope, (low, high) = theil_sen(x, y)
    theirs = scipy.stats.theilslopes(y, x, alpha=0.95)
    assert (slope, low, high) == pytest.approx((theirs.slope, theirs.low_slope, theirs.high_slope), rel=1e-9)


@pytest.mark.parametrize("miss", [0.0, 0.01, 0.05, 0.3, 0.9])
def test_binomial_tail_is_that_of_scipy(miss):
    packets = np.repeat(np.arange(1, 201), 201)
    hits = np.tile(np.arange(201), 200)
    hits, packets = hits[hits <= packets], packets[hits <= packets]
    theirs = scipy.stats.binom.cdf(hits, packets, 1 - max(miss, _MISS_FLOOR))
    assert np.abs(share_of_carried(hits, packets, miss) - theirs).max() < 1e-9


@pytest.mark.parametrize("miss", [0.01, 0.05, 0.3])
def test_binomial_tail_of_many_packets_is_that_of_scipy(miss):
    """Six standard deviations down, a normal law would have it a hundred times rarer than it is."""
    packets = np.array([201, 500, 2_000, 30_000])
    for sds in (0.0, 1.0, 2.0, 4.0, 6.0):
        hits = np.floor(packets * (1 - miss) - sds * np.sqrt(packets * miss * (1 - miss))).astype(np.int64)
        theirs = scipy.stats.binom.cdf(hits, packets, 1 - miss)
        assert share_of_carried(hits, packets, miss) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("mean", [1e-6, 0.655, 4.47, 40.0, 700.0])
@pytest.mark.parametrize("least", [0, 1, 3, 9, 150, 151, 690, 800])
def test_poisson_tail_is_that_of_scipy(least, mean):
    assert poisson_tail(least, mean) == pytest.approx(scipy.stats.poisson.sf(least - 1, mean), abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_distance_is_that_of_kolmogorov_and_smirnov(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.pareto(1.5, 300).round(1), rng.exponential(1.0, rng.integers(1, 900)).round(1)
    assert distance(a, b) == pytest.approx(scipy.stats.ks_2samp(a, b).statistic, abs=1e-12)


@pytest.mark.parametrize("scale", gap_law.SCALES)
def test_long_steps_of_a_counter_have_lomaxs_tail(scale):
    """P(D >= d) = s / (s + d - 1) is Lomax's of shape 1; what is not of the law is known and small."""
    lomax = scipy.stats.lomax(c=1, scale=scale)
    d = np.arange(1, gap_law.IDS - gap_law._LATE)
    strangers = gap_law._P_LATE + gap_law._P_SAME + gap_law._P_STRANGE
    law = (lomax.sf(d - 1) - lomax.sf(d)) / lomax.cdf(gap_law.IDS - 1)
    theirs = (1 - strangers) * law + gap_law._P_STRANGE / gap_law.IDS
    assert np.abs(np.exp(gap_law.step_log_p(d, scale)) - theirs).max() < 1e-9
    assert np.exp(gap_law.step_log_p(np.arange(gap_law.IDS), scale)).sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_upper_hull_is_qhulls(seed):
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.uniform(0, 100, 400)), -rng.exponential(1.0, 400)
    hull = scipy.spatial.ConvexHull(np.c_[x, y])
    normals = hull.equations[:, 1] > 0
    theirs = set(hull.simplices[normals].ravel().tolist())
    assert set(upper_hull(x, y).tolist()) == theirs


def counted(rng):
    """Overlapping log likelihood ratios with many ties, as results state them; and the labels beside."""
    right, wrong = rng.integers(20, 3_000, 2)
    h1, h2 = llrs(rng, right, wrong)
    too_sure = rng.uniform(0.6, 1.8)
    values = (too_sure * np.r_[h1, h2]).round(int(rng.integers(1, 6)))
    labels = np.r_[np.ones(right), np.zeros(wrong)]
    return values, labels, tally(values, labels > 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_pav_is_isotonic_regression(lir, seed):
    values, labels, table = counted(np.random.default_rng(seed))
    theirs = lir.isotonic().fit_transform(values, labels)
    ours = pav(table)[np.searchsorted(table.llr, values)]
    np.testing.assert_array_equal(np.isinf(ours), np.isinf(theirs))
    finite = np.isfinite(theirs)
    np.testing.assert_allclose(ours[finite], theirs[finite], atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_parts_of_cllr_and_devpav_are_those_of_lir(lir, seed):
    values, labels, table = counted(np.random.default_rng(seed))
    data = lir.LLRData(features=values.reshape(-1, 1), labels=labels)
    ours = cost(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of infinities, which are meant
        assert ours.cllr == pytest.approx(lir.metrics.cllr(data), abs=1e-6)
        assert ours.cllr_min == pytest.approx(lir.metrics.cllr_min(data), abs=1e-6)
        assert ours.cllr_cal == pytest.approx(lir.metrics.cllr_cal(data), abs=1e-6)
        assert ours.devpav == pytest.approx(float(lir.devpav(values, labels)), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_are_repeated_comparisons(seed):
    rng = np.random.default_rng(seed)
    values, labels, _ = counted(rng)
    times = rng.integers(0, 4, len(values))
    weighed = tally(values, labels > 0, times.astype(float))
    repeated = tally(np.repeat(values, times), np.repeat(labels > 0, times))
    for ours, theirs in zip(vars_of(cost(weighed)), vars_of(cost(repeated)), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-9)


def vars_of(result):
    return [getattr(result, name) for name in result.__slots__]


@pytest.mark.parametrize("seed", SEEDS)
def test_cross_entropy_is_that_of_lir(lir, seed):
    values, labels, table = counted(np.random.default_rng(seed))
    log_odds = np.linspace(-3, 3, 25)
    ours, calibrated, none = ece(table, log_odds)
    priors = 10**log_odds / (1 + 10**log_odds)
    np.testing.assert_allclose(ours, lir.calculate_ece(10**values, labels, priors), atol=1e-6)
    np.testing.assert_allclose(none, lir.calculate_ece(np.ones(len(values)), labels, priors), atol=1e-6)
    best = 10 ** lir.isotonic().fit_transform(values, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(calibrated, lir.calculate_ece(best, labels, priors), atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_bayes_error_and_its_bounds_are_those_of_lir(lir, seed):
    rng = np.random.default_rng(seed)
    h1, h2 = llrs(
        rng, *rng.integers(20, 3_000, 2)
    )  # no ties: at one, a threshold that is equal is a matter of digits
    values, labels = np.r_[h1, h2], np.r_[np.ones(len(h1)), np.zeros(len(h2))]
    table = tally(values, labels > 0)
    at = thresholds(table)
    utility = lir.bayeserror.calculate_expected_utility
    theirs = utility(np.ones(len(values)), labels, 10**at) / utility(10**values, labels, 10**at, 1)
    np.testing.assert_allclose(nbe(table, at), np.log10(theirs), atol=1e-6)
    assert elub(table) == pytest.approx(lir.bayeserror.elub(values.copy(), labels), abs=1e-6)


def test_devpav_of_few_points():
    apart = Tally(np.array([-1.0, 2.0]), np.array([0.0, 5.0]), np.array([5.0, 0.0]))
    assert np.isnan(devpav(apart, pav(apart)))  # fully apart: not defined
    mixed = Tally(np.array([0.5]), np.array([3.0]), np.array([3.0]))
    assert devpav(mixed, pav(mixed)) == pytest.approx(0.5)


@pytest.mark.parametrize("trials", [1, 7, 300, 26_104, 5_000_000, 333.3])
@pytest.mark.parametrize("share", [0.0, 1e-6, 0.003, 0.5, 0.98, 1.0])
def test_intervals_are_those_of_the_beta_law(trials, share):
    hits = share * trials if trials != int(trials) else round(share * trials)
    beta = scipy.stats.beta
    low = beta.ppf(0.025, hits, trials - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, trials - hits) if hits < trials else 1.0
    assert binomial.interval(hits, trials) == pytest.approx((low, high), abs=1e-9, rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_intervals_of_whole_numbers_are_clopper_and_pearsons(seed):
    rng = np.random.default_rng(seed)
    trials = int(rng.integers(1, 5_000))
    hits = int(rng.integers(0, trials + 1))
    theirs = scipy.stats.binomtest(hits, trials).proportion_ci(0.95, "exact")
    assert binomial.interval(hits, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
