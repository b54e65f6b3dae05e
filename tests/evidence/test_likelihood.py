from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.evidence.likelihood import share_of_carried, verbal


def test_share_of_carried_is_the_binomial_cumulative() -> None:
    # By hand: n = 3, miss 0.1: P(X <= 1) = 0.1^3 + 3 * 0.9 * 0.1^2 = 0.028.
    found = share_of_carried(np.array([1, 3], np.int32), np.array([3, 3]), 0.1)
    np.testing.assert_allclose(found, [0.028, 1.0])


def test_large_flows_agree_with_simulation() -> None:
    rng = np.random.default_rng(1)
    drawn = rng.binomial(400, 0.95, 200_000)
    for hits in (365, 375, 380, 390):
        found = share_of_carried(np.array([hits], np.int32), np.array([400]), 0.05)[0]
        assert abs(found - np.mean(drawn <= hits)) < 0.02


@pytest.mark.parametrize(
    ("llr", "words"),
    [
        (0.0, "no support for either"),
        (0.9, "weak support for H1"),
        (1.5, "moderate support for H1"),
        (-2.5, "moderately strong support for H2"),
        (3.5, "strong support for H1"),
        (5.0, "very strong support for H1"),
        (7.0, "extremely strong support for H1"),
        (400.0, "extremely strong support for H1"),
    ],
)
def test_verbal_scale(llr: float, words: str) -> None:
    assert verbal(llr) == words
