"""How likely it is that so many packets are missed: a bound, beside the exact tail."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from vpnforensics.evidence.missed import chance_of_missing


@pytest.mark.parametrize(
    ("packets", "missed", "share"), [(20, 3, 0.03), (20, 20, 0.03), (200, 40, 0.1), (5, 2, 0.1), (9, 9, 0.5)]
)
def test_it_is_no_less_than_the_binomial_tail_and_not_much_more(
    packets: int, missed: int, share: float
) -> None:
    (bound,) = chance_of_missing(*(np.array([float(x)]) for x in (missed, packets, share)))
    tail = stats.binom.sf(missed - 1, packets, share)
    assert tail <= bound * (1 + 1e-9) <= tail * (2 + 3 * np.sqrt(packets * share)) * 1.001


def test_packets_of_other_probabilities_are_missed_less_often_than_those_of_their_mean() -> None:
    shares = np.array([0.02, 0.02, 0.1, 0.4])
    tail = np.zeros(5)
    for gone in product((False, True), repeat=4):
        tail[: sum(gone) + 1] += np.prod(np.where(gone, shares, 1 - shares))
    for missed in (2, 3, 4):
        (bound,) = chance_of_missing(np.array([float(missed)]), np.array([4.0]), np.array([shares.mean()]))
        assert tail[missed] <= bound


def test_no_more_than_expected_is_likely_and_so_is_nothing_of_nothing() -> None:
    missed, packets, share = np.array([0.0, 1.0, 0.0]), np.array([10.0, 10.0, 0.0]), np.full(3, 0.1)
    assert chance_of_missing(missed, packets, share).tolist() == [1.0, 1.0, 1.0]
