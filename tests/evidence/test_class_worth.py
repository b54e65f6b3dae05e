"""What classes are worth: the ratio of their shares; of what is seldom counted, what is known at all."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.engines.volume import AGAINST, CLASSES, FEATURES, QUIET
from vpnforensics.evidence.class_worth import worth_of

FEATURE = FEATURES == 0
JUST, MUCH = 3, 5
BUSY = np.flatnonzero(QUIET == JUST)[-1] - JUST
"""From the first feature's classes to those of the same need in a busy stream."""


def counts(some):
    """A count for some classes, of two clients."""
    found = np.zeros((2, CLASSES))
    for (client, of), count in some.items():
        found[client, of] = count
    return found


def test_much_that_was_counted_is_worth_its_ratio():
    true = counts({(0, JUST): 8e6, (0, MUCH): 2e6})[0]
    false = counts({(c, JUST): 1e6 for c in (0, 1)} | {(c, MUCH): 9e6 for c in (0, 1)})
    for busy in (False, True):
        worth = worth_of(true, false, busy=busy)
        assert worth[:, JUST] == pytest.approx(np.log10(8), abs=1e-3)
        assert worth[:, MUCH] == pytest.approx(np.log10(2 / 9), abs=1e-3)


def test_of_what_was_never_counted_nothing_is_said():
    worth = worth_of(np.zeros(CLASSES), counts({}), busy=True)
    assert worth == pytest.approx(0.0, abs=1e-9)


def test_each_client_has_its_own_chance():
    true = counts({(0, JUST): 1e6, (0, MUCH): 1e6})[0]
    false = counts({(0, JUST): 1e5, (0, MUCH): 9e5, (1, JUST): 9e5, (1, MUCH): 1e5})
    worth = worth_of(true, false, busy=False)
    assert worth[0, JUST] == pytest.approx(np.log10(5), abs=1e-3)
    assert worth[1, JUST] == pytest.approx(np.log10(5 / 9), abs=1e-3)


def test_in_a_busy_stream_what_chance_has_as_well_is_worth_nothing():
    """Downwards through a download all is met: of a pair, of others, whoever asks."""
    true = counts({(0, JUST): 5e5, (0, MUCH): 1e5, (0, BUSY + MUCH): 5e5})[0]
    false = counts(
        {(c, MUCH): 1e5 for c in (0, 1)}
        | {(c, 0): 9e6 for c in (0, 1)}
        | {(c, BUSY + MUCH): 1e6 for c in (0, 1)}
    )
    apart, one = worth_of(true, false, busy=True), worth_of(true, false, busy=False)
    assert apart[0, BUSY + MUCH] == pytest.approx(0.0, abs=0.01)
    assert one[0, BUSY + MUCH] == one[0, MUCH] > 0.5
    assert apart[0, MUCH] > 1.0


def test_little_counted_in_busy_streams_is_worth_what_it_is_worth_in_others():
    true = counts({(0, JUST): 8e5, (0, MUCH): 2e5})[0]
    false = counts({(c, JUST): 1e5 for c in (0, 1)} | {(c, MUCH): 9e5 for c in (0, 1)})
    worth = worth_of(true, false, busy=True)
    assert worth[0, BUSY + JUST] == pytest.approx(worth[0, JUST], abs=0.01)
    true[BUSY + MUCH], false[:, BUSY + JUST] = 50, 50
    other = worth_of(true, false, busy=True)
    assert other[0, BUSY + JUST] < 0 < other[0, BUSY + MUCH]
    assert other[0, JUST] == pytest.approx(worth[0, JUST], abs=0.01)


def test_what_is_missing_is_never_evidence_for_a_pair():
    true = counts({(0, k): 1e6 for k in range(2)})[0]
    worth = worth_of(true, counts({(0, JUST): 1e6, (1, JUST): 1e6}), busy=True)
    assert (worth[:, AGAINST] <= 0).all()
    assert (worth[:, AGAINST & FEATURE] == 0).any()
