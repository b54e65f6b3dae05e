from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.align._kernels import best_path
from vpnforensics.align.alignment import Break, ClockStep
from vpnforensics.align.straight import goes_back, place_steps, shifts_ns

SECOND_NS = 1_000_000_000


def slow_path(evidence: np.ndarray, switch: float) -> float:
    """Most evidence of any path, one packet at a time."""
    total = [0.0] * len(evidence)
    for column in evidence.T.tolist():
        best = max(total)
        total = [max(t, best - switch) + e for t, e in zip(total, column, strict=True)]
    return max(total)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 40), st.floats(0, 5))
def test_no_path_has_more_evidence(seed: int, lines: int, n: int, switch: float) -> None:
    evidence = np.random.default_rng(seed).normal(size=(lines, n))
    path = best_path(evidence, switch)
    reached = evidence[path, np.arange(n)].sum() - switch * np.count_nonzero(np.diff(path))
    assert np.isclose(reached, slow_path(evidence, switch))


@given(
    st.lists(st.integers(0, 10**9), min_size=3, max_size=60),
    st.integers(-(10**15), 10**15),
    st.data(),
)
def test_putting_straight_undoes_a_step(gaps: list[int], size_ns: int, data: st.DataObject) -> None:
    ts_ns = 1_790_000_000 * SECOND_NS + np.cumsum(gaps)
    row = data.draw(st.integers(1, len(gaps) - 1))
    stepped = ts_ns + size_ns * (np.arange(len(ts_ns)) >= row)
    straight = stepped - shifts_ns([ClockStep("egress", row, size_ns, row)], "egress", len(ts_ns))
    assert np.array_equal(np.diff(straight), np.diff(ts_ns))
    # The longer part keeps its clock.
    kept = slice(row, None) if len(ts_ns) - row > row else slice(0, row)
    assert np.array_equal(straight[kept], stepped[kept])


def test_the_capture_that_leaps_is_the_one_that_was_set() -> None:
    steady = 1_790_000_000 * SECOND_NS + np.arange(1000) * 10_000_000
    rows = np.arange(1000, dtype=np.int32)
    for size_ns in (-5 * SECOND_NS, -SECOND_NS // 2, SECOND_NS, 3600 * SECOND_NS):
        leaping = steady + size_ns * (rows >= 600)
        at_egress = Break(size_ns, (590, 612), (588, 615))
        (step,) = place_steps([at_egress], steady, leaping, rows)
        assert (step.role, step.row, step.size_ns, step.placed) == ("egress", 600, size_ns, True)
        at_ingress = Break(-size_ns, (590, 612), (588, 615))
        (step,) = place_steps([at_ingress], leaping, steady, rows)
        assert (step.role, step.row, step.size_ns, step.placed) == ("ingress", 600, size_ns, True)


def test_steps_without_a_leap_that_undo_each_other_are_none() -> None:
    steady = 1_790_000_000 * SECOND_NS + np.arange(1000) * 10_000_000
    rows = np.arange(1000, dtype=np.int32)
    detour = [Break(SECOND_NS, (300, 310), (300, 310)), Break(-SECOND_NS, (330, 335), (330, 335))]
    assert place_steps(detour, steady, steady, rows) == ()
    (alone,) = place_steps(detour[:1], steady, steady, rows)
    assert not alone.placed


def test_going_back_for_good_is_told_from_stray_packets() -> None:
    steady = 1_790_000_000 * SECOND_NS + np.arange(100) * 10_000_000
    rows = np.arange(100)
    assert not goes_back(steady)
    assert not goes_back(steady + 30 * 86_400 * SECOND_NS * (rows == 0))
    assert not goes_back(steady - SECOND_NS * (rows == 50))
    assert not goes_back(steady + SECOND_NS * (rows >= 50))
    assert goes_back(steady - SECOND_NS * (rows >= 50))
