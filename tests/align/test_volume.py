"""Where two sides are busy together: the peak of their cross-correlation."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.align.volume import Volume, align_by_volume, sure_offset, volume_peaks

START_NS = 1_790_000_000_000_000_000
BIN_NS, APART_NS = 20_000_000, 200_000_000
OFFSET_NS = 731_250_000_000


def bursts(seed: int, span_s: float = 60.0, packets: int = 4000) -> Volume:
    """Packets of any size, six a burst."""
    rng = np.random.default_rng(seed)
    begin = np.repeat(rng.uniform(0, span_s, packets // 6), 6)
    ts_ns = START_NS + (np.sort(begin + rng.exponential(0.01, len(begin))) * 1e9).astype(np.int64)
    return Volume(ts_ns, rng.integers(60, 1400, len(ts_ns)).astype(float), rng.random(len(ts_ns)) < 0.5)


def passed_on(side: Volume, offset_ns: int, jitter_ms: float, seed: int = 9) -> Volume:
    """The same some milliseconds later, sizes all changed, on another clock."""
    rng = np.random.default_rng(seed)
    late_ns = (rng.exponential(jitter_ms * 1e6, len(side))).astype(np.int64)
    ts_ns = side.ts_ns + offset_ns + np.where(side.up, late_ns, -late_ns)
    order = np.argsort(ts_ns, kind="stable")
    return Volume(ts_ns[order], (514 * np.ceil(side.amount / 498))[order], side.up[order])


@pytest.mark.parametrize("offset_ns", [0, OFFSET_NS, -86_400_500_000_000])
@pytest.mark.parametrize("jitter_ms", [0.1, 10.0])
def test_an_offset_is_found_whatever_the_sizes(offset_ns, jitter_ms):
    ingress = bursts(1)
    first, second = volume_peaks(ingress, passed_on(ingress, offset_ns, jitter_ms), 2, BIN_NS, APART_NS)
    assert abs(first.offset_ns - offset_ns) <= 2 * BIN_NS
    assert first.strength > 3 * second.strength
    assert abs(second.offset_ns - first.offset_ns) > APART_NS


def test_of_captures_of_other_things_no_offset_stands_out():
    for seed in range(5):
        first, second = volume_peaks(bursts(seed), bursts(seed + 50), 2, BIN_NS, APART_NS)
        assert first.strength < 7.0
        assert first.strength < 1.5 * second.strength


def test_one_transfer_does_not_drown_everything_else():
    ingress, egress = bursts(3), passed_on(bursts(3), OFFSET_NS, 1.0)
    at_ns = ingress.ts_ns[0] + np.arange(20_000) * 100_000  # two seconds of something else, on either side
    for side, from_ns in ((ingress, 10_000_000_000), (egress, OFFSET_NS + 45_000_000_000)):
        more = Volume(at_ns + from_ns, np.full(len(at_ns), 1400.0), np.zeros(len(at_ns), bool))
        both = Volume.joined([side, more])
        side.__dict__.update(both.take(np.argsort(both.ts_ns, kind="stable")).__dict__)
    first = volume_peaks(ingress, egress, 1, BIN_NS, APART_NS)[0]
    assert abs(first.offset_ns - OFFSET_NS) <= 2 * BIN_NS


def test_the_peak_is_where_the_sum_over_all_pairs_is_largest():
    """A sparse capture, summed pair by pair."""
    rng = np.random.default_rng(4)
    ts_ns = START_NS + np.sort(rng.integers(0, 3_000, 150)) * BIN_NS
    ingress = Volume(ts_ns, np.ones(150), np.ones(150, bool))
    kept = rng.random(150) < 0.8
    egress = Volume(ts_ns[kept] + 77 * BIN_NS, np.ones(int(kept.sum())), np.ones(int(kept.sum()), bool))
    lags = ((egress.ts_ns[None, :] - ingress.ts_ns[:, None]) // BIN_NS).ravel()
    values, counts = np.unique(lags, return_counts=True)
    first = volume_peaks(ingress, egress, 1, BIN_NS, APART_NS)[0]
    assert first.offset_ns == values[np.argmax(counts)] * BIN_NS == 77 * BIN_NS


def test_idle_years_need_no_memory():
    ingress = bursts(5)
    ingress.ts_ns[0] = 0
    peaks = volume_peaks(ingress, passed_on(bursts(5), OFFSET_NS, 1.0), 1, BIN_NS, APART_NS)
    assert abs(peaks[0].offset_ns - OFFSET_NS) <= 2 * BIN_NS


@pytest.mark.parametrize("wanted", [1, 4])
def test_no_more_offsets_than_wanted(wanted):
    assert len(volume_peaks(bursts(6), bursts(7), wanted, BIN_NS, APART_NS)) == wanted


def drifting(side: Volume, drift_ppm: float) -> Volume:
    since_ns = side.ts_ns - START_NS
    return Volume(START_NS + since_ns + (since_ns * drift_ppm * 1e-6).astype(np.int64), side.amount, side.up)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("drift_ppm", [0.0, 40.0, -100.0])
def test_the_line_is_known_to_its_interval(seed, drift_ppm):
    ingress = bursts(seed, packets=30_000)
    egress = drifting(passed_on(ingress, 0, 0.5, seed), drift_ppm)
    offset_ns = sure_offset(ingress, egress)
    assert offset_ns is not None
    line = align_by_volume(ingress, egress, offset_ns, np.random.default_rng(0))
    assert line is not None
    at_reference_ns = (line.reference_ns - START_NS) * drift_ppm * 1e-6
    low_ns, high_ns = line.offset_interval_ns
    assert low_ns <= at_reference_ns <= high_ns
    assert high_ns - low_ns < 4e6
    slow, fast = line.drift_interval_ppm
    assert slow <= drift_ppm <= fast
    assert abs(line.drift_ppm - drift_ppm) < 25


def test_under_jitter_wider_bins_give_the_line():
    ingress = bursts(1, packets=60_000)
    egress = passed_on(ingress, OFFSET_NS, 6.0)
    line = align_by_volume(ingress, egress, OFFSET_NS + 7_000_000, np.random.default_rng(0))
    assert line is not None
    assert abs(line.offset_ns - OFFSET_NS) < 3e6


def test_no_line_without_moments_that_stand_out():
    rng = np.random.default_rng(0)
    ingress = bursts(1, packets=30_000)
    assert align_by_volume(ingress, bursts(2, packets=30_000), 0, rng) is None
    few = bursts(3, packets=24)
    assert align_by_volume(few, passed_on(few, 0, 0.5), 0, rng) is None
    one_way = ingress.take(np.flatnonzero(ingress.up))
    assert align_by_volume(one_way, passed_on(one_way, 0, 0.5), 0, rng) is None


def test_no_offset_is_sure_without_packets():
    nothing = bursts(1).take(np.zeros(0, np.intp))
    assert sure_offset(nothing, bursts(1)) is None
    assert sure_offset(bursts(1), nothing) is None
    assert sure_offset(bursts(1), bursts(2)) is None
