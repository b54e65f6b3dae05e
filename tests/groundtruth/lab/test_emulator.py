from __future__ import annotations

import random
import statistics

import pytest

from vpnforensics.groundtruth.lab.emulator import LinkLaw, _Direction

MS = 1_000_000


def direction(**law) -> _Direction:
    return _Direction(LinkLaw(**law), None, random.Random(1))  # type: ignore[arg-type]


def test_delay_alone():
    line = direction(delay_ms=5)
    assert [line.due_ns(t, 100) for t in (0, 10, 20)] == [5 * MS, 5 * MS + 10, 5 * MS + 20]


def test_rate_makes_packets_wait_and_a_full_queue_drops():
    line = direction(rate_mbit=8, queue_ms=3)  # one microsecond a byte
    due = [line.due_ns(0, 1000) for _ in range(6)]
    assert due == [MS, 2 * MS, 3 * MS, 4 * MS, None, None]
    assert line.due_ns(10 * MS, 1000) == 11 * MS


def test_jitter_keeps_order():
    line = direction(delay_ms=1, jitter_ms=10)
    due = [line.due_ns(i * 1000, 100) for i in range(2000)]
    assert due == sorted(due)


@pytest.mark.parametrize("law", ["exponential", "normal", "uniform", "pareto"])
def test_every_jitter_has_the_mean_it_says(law):
    line = direction(jitter_ms=4, jitter=law)
    late = [line.due_ns(i * 10**9, 100) - i * 10**9 for i in range(20000)]  # a second apart: no queue
    assert min(late) >= 0
    assert statistics.fmean(late) == pytest.approx(4 * MS, rel=0.1)


def test_loss_and_reordering_happen_as_often_as_asked():
    line = direction(loss=0.1)
    assert sum(line.due_ns(0, 1) is None for _ in range(10000)) == pytest.approx(1000, rel=0.15)
    line = direction(delay_ms=5, reorder=0.1)
    assert sum(line.due_ns(0, 1) == 0 for _ in range(10000)) == pytest.approx(1000, rel=0.15)
