from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.evidence.calibration import cllr
from vpnforensics.evidence.fusion import UNKNOWN_CORRELATION, Dependence, dependence, fuse

NAN = np.nan


def _wide(llr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.full(llr.shape, -9.0), np.full(llr.shape, 9.0)


def _shared(said: np.ndarray) -> Dependence:
    return Dependence(np.arange(len(said)), said)


def test_independent_engines_add_up_and_repeaters_do_not() -> None:
    llr = np.array([[2.0, -1.0, NAN], [1.0, 3.0, NAN]])
    np.testing.assert_allclose(fuse(llr, _shared(np.eye(2)), *_wide(llr)), [3.0, 2.0, NAN])
    np.testing.assert_allclose(fuse(llr, _shared(np.ones((2, 2))), *_wide(llr)), [2.0, -1.0, NAN])


def test_silence_is_not_a_ratio_of_one() -> None:
    llr = np.array([[2.0], [NAN], [1.5]])
    np.testing.assert_allclose(fuse(llr, _shared(np.eye(3)), *_wide(llr)), [3.5])


def test_the_widest_bounds_of_those_that_spoke_hold() -> None:
    llr = np.array([[3.0, -2.0, 3.0], [2.0, -1.0, NAN]])
    lower = np.array([[-2.5] * 3, [-1.0] * 3])
    upper = np.array([[3.5] * 3, [4.0] * 3])
    np.testing.assert_allclose(fuse(llr, _shared(np.eye(2)), lower, upper), [4.0, -2.5, 3.0])


def test_dependence_is_measured_within_propositions() -> None:
    """Engines that agree only because both tell H1 from H2 are independent; an echo is not."""
    rng = np.random.default_rng(2)
    level = np.r_[np.full(4_000, 1.0), np.full(4_000, -1.0)]
    first, second = level + rng.normal(size=8_000), level + rng.normal(size=8_000)
    echo = first + 0.1 * rng.normal(size=8_000)
    known = (np.arange(4_000), np.arange(4_000, 8_000))
    found = dependence(np.stack([first, second, echo]), known)
    assert found.said[0, 1] < 0.06
    assert found.said[0, 2] > 0.98
    few = dependence(np.stack([first, second]), (np.arange(10), np.arange(5_000, 5_010)))
    assert few.said.max() >= UNKNOWN_CORRELATION


def test_a_weak_echo_of_a_strong_voice_adds_nothing() -> None:
    """Strengths 3 to 1 and a correlation of one half: the weaker one has nothing left to say."""
    rng = np.random.default_rng(4)
    strong = np.r_[rng.normal(9, 1, 500), rng.normal(-9, 1, 500)]
    weak = np.r_[rng.normal(1, 1, 500), rng.normal(-1, 1, 500)] + 0.6 * (strong - np.sign(strong) * 9)
    found = dependence(np.stack([weak, strong]), (np.arange(500), np.arange(500, 1_000)))
    assert found.order.tolist() == [1, 0]
    assert found.said[1, 0] == 1.0


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_fusion_is_never_worse_than_the_best_engine(rho: float) -> None:
    """Normal ratios of two engines, correlated: Cllr against that of the better one, and of a plain sum."""
    rng = np.random.default_rng(3)
    n = 20_000
    spread = np.linalg.cholesky(np.array([[1.0, rho], [rho, 1.0]]))
    natural = []
    for sign in (1, -1):
        x = sign * np.array([[1.2], [0.8]]) + spread @ rng.normal(size=(2, n))
        natural.append(2 * np.array([[1.2], [0.8]]) * x)
    llr = np.concatenate(natural, axis=1) / np.log(10.0)
    shared = dependence(llr, (np.arange(n), np.arange(n, 2 * n)))
    fused = fuse(llr, shared, *_wide(llr))
    cost = cllr(fused[:n], fused[n:])
    assert cost <= min(cllr(e[:n], e[n:]) for e in llr) + 1e-3
    total = llr.sum(axis=0)
    assert cost <= cllr(total[:n], total[n:]) + 1e-3


@given(st.lists(st.one_of(st.none(), st.floats(-8, 8)), min_size=1, max_size=5))
def test_any_say_gives_a_ratio_within_bounds(said: list[float | None]) -> None:
    llr = np.array([[NAN if s is None else s] for s in said])
    fused = fuse(llr, _shared(np.full((len(said), len(said)), 0.3)), *_wide(llr))
    assert np.isnan(fused[0]) == all(s is None for s in said)
    assert np.isnan(fused[0]) or -9.0 <= fused[0] <= 9.0
