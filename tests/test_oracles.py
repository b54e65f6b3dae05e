"""The statistics behind a likelihood ratio, held against libraries that others wrote (the `dev` extra)."""

import warnings

import numpy as np
import pytest

from benchmarks.error_rate import poisson_tail
from vpnforensics.evidence.calibration import bounds, cllr
from vpnforensics.evidence.denial import _MISS_FLOOR, share_of_carried
from vpnforensics.features import gap_law
from vpnforensics.features._kernels import upper_hull
from vpnforensics.features.clock_fit import theil_sen
from vpnforensics.groundtruth.simulate.compare import distance

scipy = pytest.importorskip("scipy")
SEEDS = range(8)


@pytest.fixture(scope="module")
def lir():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("lir")
        from lir import metrics
        from lir.algorithms import bayeserror
        from lir.data.models import LLRData

        module.metrics, module.bayeserror, module.LLRData = metrics, bayeserror, LLRData
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
