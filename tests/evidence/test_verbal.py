from __future__ import annotations

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
