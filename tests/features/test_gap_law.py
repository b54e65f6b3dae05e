import numpy as np
import pytest

from vpnforensics.features.gap_law import IDS, LOG_CHANCE, SCALES, best_scale, step_log_p


@pytest.mark.parametrize("scale", SCALES)
def test_steps_are_a_law(scale):
    p = np.exp(step_log_p(np.arange(IDS), scale))
    assert p.sum() == pytest.approx(1.0)
    assert np.all(np.diff(p[1 : IDS - 40]) <= 0)


def test_steps_are_read_modulo():
    assert step_log_p(np.array([-3]), 1.0) == step_log_p(np.array([IDS - 3]), 1.0)


def test_scale_follows_the_steps():
    rng = np.random.default_rng(0)
    assert best_scale(np.ones(50, np.int64))[0] == 1.0
    assert best_scale(rng.integers(1, 300, 200))[0] >= 64
    assert best_scale(np.zeros(0, np.int64)) == (1.0, 0.0)
    noise = rng.integers(0, IDS, 500)
    assert best_scale(noise)[1] < 500 * LOG_CHANCE
