import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features import twins
from vpnforensics.features import _kernels
from vpnforensics.features.tcp_clock import TICK_RATES_HZ


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(-9, 9)), min_size=1, max_size=14))
def test_hull_is_what_no_chord_passes_above(points):
    points.sort(key=lambda p: p[0])
    x, y = (np.array(v, np.float64) for v in zip(*points, strict=True))
    assert _kernels.upper_hull(x, y).tolist() == twins.upper_hull(x, y)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-30, 30)), min_size=1, max_size=40))
def test_breaks(steps):
    t = np.cumsum([s for s, _ in steps]).astype(np.int64)
    offset = np.array([o for _, o in steps], np.int64)
    got = _kernels.clock_breaks(t, offset, 10, 0.5, 6, 2).tolist()
    assert got == twins.clock_breaks(t, offset, 10, 0.5, 6, 2)


def test_offsets_of_many_senders():
    rng = np.random.default_rng(3)
    start, t, tsval = [0], [], []
    for _ in range(60):
        n = int(rng.integers(1, 12))
        at = np.sort(rng.integers(0, 20_000_000_000, n))
        hz = rng.choice([10.0, 100.0, 250.0, 1000.0, 640.0])
        base = int(rng.integers(0, 2**32))
        t += at.tolist()
        tsval += ((base + (at * 1e-9 * hz).astype(np.int64) - rng.integers(0, 3, n)) % 2**32).tolist()
        start.append(len(t))
    arrays = np.array(start), np.array(t), np.array(tsval), np.array(TICK_RATES_HZ), 0.05, 40.0
    hz, best = _kernels.sender_offsets(*arrays)
    slow_hz, slow_best = twins.sender_offsets(*arrays)
    assert hz.tolist() == slow_hz
    assert best.tolist() == slow_best


@pytest.mark.parametrize("seed", range(12))
def test_strings(seed):
    rng = np.random.default_rng(seed)
    n = 150
    pool = np.sort(rng.integers(0, 2, n))
    t = np.where(pool == 0, 0, 10**12) + np.sort(rng.integers(0, 40_000_000_000, n))
    t = np.concatenate([np.sort(t[pool == p]) for p in (0, 1)])
    counter = rng.integers(0, 3, n)
    ids = np.empty(n, np.int64)
    for c in range(3):
        mine = counter == c
        ids[mine] = rng.integers(0, 65_536) + np.cumsum(rng.choice([1, 1, 1, 2, 9, 70, -3], mine.sum()))
    ids = np.where(rng.random(n) < 0.1, rng.integers(0, 200, n), ids) % 65_536
    flow = counter * 2 + rng.integers(0, 2, n)
    arguments = pool, t, ids, flow, 64, 20_000_000_000, 5_000_000_000
    assert _kernels.id_strings(*arguments).tolist() == twins.id_strings(*arguments)


def test_no_packets():
    none = np.zeros(0, np.int64)
    assert len(_kernels.id_strings(none, none, none, none, 64, 1, 1)) == 0
    assert len(_kernels.upper_hull(np.zeros(0), np.zeros(0))) == 0


@pytest.mark.parametrize("seed", range(4))
def test_id_steps(seed):
    rng = np.random.default_rng(seed)
    log_p = rng.normal(size=(65_536, 3))
    pool = np.sort(rng.integers(0, 3, 120))
    ids = (np.cumsum(rng.choice([1, 1, 2, 256, 40_000], 120)) + rng.integers(0, 65_536)) % 65_536
    t = np.cumsum(rng.integers(0, 40, 120))
    sums, ones, long, passed, steps, idle = _kernels.id_steps(ids, pool, t, log_p, 30, 4, 10, 1000)
    for order, read in enumerate((int, lambda v: (v >> 8) | (v & 255) << 8)):
        seen = [
            ((read(ids[i]) - read(ids[i - 1])) % 65_536, t[i] - t[i - 1])
            for i in range(1, 120)
            if pool[i] == pool[i - 1]
        ]
        assert sums[order] == pytest.approx(sum(log_p[step] for step, _ in seen))
        assert ones[order] == sum(step == 1 for step, _ in seen)
        assert long[order] == sum(step > 4 for step, gap in seen if gap >= 30)
        assert passed[order] == sum(max(step - 1, 0) for step, gap in seen if gap < 10 and step < 1000)
        assert (steps, idle) == (len(seen), sum(gap >= 30 for _, gap in seen))
    raw = np.diff(ids)
    assert _kernels.summed_log_p(raw, log_p) == pytest.approx(log_p[raw % 65_536].sum(axis=0))
