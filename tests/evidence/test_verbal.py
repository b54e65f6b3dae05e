from __future__ import annotations

from math import log10

import pytest

from vpnforensics.evidence.verbal import verbal


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


@pytest.mark.parametrize(
    ("ratio", "below", "from_there_on"),
    [
        (2, "no support for either", "weak support for H1"),
        (10, "weak support for H1", "moderate support for H1"),
        (100, "moderate support for H1", "moderately strong support for H1"),
        (1_000, "moderately strong support for H1", "strong support for H1"),
        (10_000, "strong support for H1", "very strong support for H1"),
        (1_000_000, "very strong support for H1", "extremely strong support for H1"),
    ],
)
def test_limits_of_the_scale_are_those_of_enfsi(ratio: int, below: str, from_there_on: str) -> None:
    assert (verbal(log10(ratio) - 1e-9), verbal(log10(ratio) + 1e-9)) == (below, from_there_on)
