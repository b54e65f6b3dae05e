from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.align.classes import classify_records
from vpnforensics.engines.case import EgressRows
from vpnforensics.engines.delay_law import DelayLaw, decreasing, estimate_delay_law, observed_delays
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.table import RecordTable


def _pairs(rng: np.random.Generator, sd_ns: float, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    """Heavy-tailed delays of median 0.1 ms each way, jittered, among wrong pairs spread over ±250 ms."""
    right = rng.lognormal(np.log(100e3), 0.8, 4000) + rng.normal(0, sd_ns, 4000)
    delays = np.concatenate([right, rng.uniform(-250e6, 250e6, wrong)]).astype(np.int64)
    return delays, rng.random(len(delays)) < 0.5


@pytest.mark.parametrize("sd_ns", [0.0, 2e6, 10e6])
@pytest.mark.parametrize("wrong", [0, 1500])
def test_quantiles_and_mass(sd_ns: float, wrong: int) -> None:
    rng = np.random.default_rng(1)
    law = estimate_delay_law(*_pairs(rng, sd_ns, wrong))
    true = rng.lognormal(np.log(100e3), 0.8, 200_000) + rng.normal(0, sd_ns, 200_000)
    spread = np.subtract(*np.quantile(true, [0.75, 0.25]))
    for side in (0, 1):
        assert abs(law.median_ns[side] - np.median(true)) < 0.25 * spread
    for density in (law.up, law.down):
        assert density.min() > 0
        assert abs(density.sum() * law.step_ns - 1) < 0.01
    covered = np.mean((true >= law.low_ns) & (true < law.high_ns))
    assert covered > 0.97


def test_density_is_unimodal_beside_its_even_ground() -> None:
    law = estimate_delay_law(*_pairs(np.random.default_rng(2), 1e6, 500))
    mode = int(np.argmax(law.up))
    assert (np.diff(law.up[: mode + 1]) >= -1e-18).all()
    assert (np.diff(law.up[mode:]) <= 1e-18).all()


def test_without_pairs_a_wide_law_stands_in() -> None:
    law = estimate_delay_law(np.zeros(0, np.int64), np.zeros(0, np.bool_))
    assert law.pairs == (0, 0)
    assert law.low_ns < 0 < law.high_ns


@pytest.mark.parametrize("known", [True, False])
def test_a_direction_without_pairs_gets_a_wide_law_and_not_the_others(known: bool) -> None:
    """Of the other direction only how far it scatters is taken over."""
    rng = np.random.default_rng(3)
    delays = (40e6 + rng.normal(0, 10e6, 4000)).astype(np.int64)
    law = estimate_delay_law(delays, np.full(len(delays), known))
    learned, wide = (law.up, law.down) if known else (law.down, law.up)
    centers = law.low_ns + (np.arange(len(wide)) + 0.5) * law.step_ns
    assert abs(centers[np.argmax(learned)] - 40e6) < 10e6
    assert wide[(centers > -25e6) & (centers < 25e6)].sum() * law.step_ns > 0.7
    assert wide[centers < -40e6].sum() * law.step_ns > 0
    assert law.pairs[0 if known else 1] > 0 == law.pairs[1 if known else 0]


def test_a_short_and_busy_capture_has_a_law_each_way() -> None:
    """Forty packets a second of every size: in a quarter of a second none is alone, in less some are."""
    rng = np.random.default_rng(4)
    packets, sizes = 1600, 4
    sent = np.sort(rng.integers(0, 10_000_000_000, packets))
    up, size = rng.random(packets) < 0.5, rng.integers(100, 100 + sizes, packets).astype(np.int32)
    delay = rng.lognormal(np.log(200e3), 0.5, packets).astype(np.int64)
    order = np.argsort(sent)
    records = RecordTable(
        sent[order], np.zeros(packets, np.int32), up[order], size[order] + 32,
        np.full(packets, -1), np.arange(packets, dtype=np.int32),
    )  # fmt: skip
    classes = classify_records(records, np.zeros(1, np.int64), (LengthMap(32),))
    egress = EgressRows(
        np.array([0, packets]),
        np.arange(packets, dtype=np.int32),
        sent + np.where(up, delay, -delay),
        size,
        up,
    )
    found = observed_delays(classes, egress, (classes.class_of(0, size, up),))
    law = estimate_delay_law(*found)
    assert min(law.pairs) >= 30
    for side in (0, 1):
        assert law.median_ns[side] == pytest.approx(200e3, rel=0.25)


def test_no_packet_of_any_size_class_is_no_pair() -> None:
    row, up = np.arange(4, dtype=np.int32), np.ones(4, np.bool_)
    records = RecordTable(
        np.arange(4), np.zeros(4, np.int32), up, np.full(4, 100, np.int32), np.full(4, -1), row
    )
    classes = classify_records(records, np.zeros(1, np.int64), (LengthMap(32),))
    egress = EgressRows(np.array([0, 4]), row, np.arange(4), np.full(4, 1500, np.int32), up)
    delays, ups, _ = observed_delays(classes, egress, (np.full(4, -1, np.int32),))
    assert len(delays) == len(ups) == 0


MS = 1_000_000


@given(
    st.lists(st.tuples(st.floats(0, 100, allow_subnormal=False), st.floats(0.1, 10)), min_size=1, max_size=12)
)
def test_closest_falling_sequence(steps: list[tuple[float, float]]) -> None:
    """As its formula says it: the least, over where a stretch begins, of the greatest mean, over its end."""
    values, weights = (np.array(of) for of in zip(*steps, strict=True))

    def mean(a: int, b: int) -> float:
        return float(np.average(values[a : b + 1], weights=weights[a : b + 1]))

    n = len(values)
    wanted = [min(max(mean(a, b) for b in range(i, n)) for a in range(i + 1)) for i in range(n)]
    np.testing.assert_allclose(decreasing(values, weights), wanted, rtol=1e-9, atol=1e-9)


def _of(delay_ms: np.ndarray, way: bool = True) -> DelayLaw:
    """The law of these delays, of one direction."""
    return estimate_delay_law((delay_ms * MS).astype(np.int64), np.full(len(delay_ms), way))


def _share(law: DelayLaw, density: np.ndarray, first_ms: float, last_ms: float) -> float:
    centers = law.low_ns + (np.arange(len(density)) + 0.5) * law.step_ns
    return float(density[(centers >= first_ms * MS) & (centers < last_ms * MS)].sum() * law.step_ns)


def test_the_wide_law_is_a_tenth_early_and_most_within_two_milliseconds() -> None:
    law = _of(np.zeros(0))
    for density in (law.up, law.down):
        assert _share(law, density, -6, 0) == pytest.approx(0.1, abs=0.01)
        assert _share(law, density, 0, 2) == pytest.approx(0.6, abs=0.01)
        assert _share(law, density, 2, 21) == pytest.approx(0.3, abs=0.01)
    assert law.low_ns == pytest.approx(-5 * MS, rel=0.03)
    assert law.high_ns == pytest.approx(20 * MS, rel=0.03)
    assert law.median_ns == pytest.approx((4 / 3 * MS, 4 / 3 * MS))
    assert law.p95_ns == pytest.approx((17 * MS, 17 * MS))


def test_thirty_pairs_are_a_law() -> None:
    assert _of(np.linspace(0.1, 0.2, 29)).pairs == (0, 0)
    assert _of(np.linspace(0.1, 0.2, 30)).pairs == (30, 0)
    assert _of(np.r_[np.linspace(0.1, 0.2, 29), 251.0]).pairs == (0, 0)  # beyond the window
    assert _of(np.r_[np.linspace(0.1, 0.2, 29), 250.0]).pairs == (30, 0)


@pytest.mark.parametrize("way", [True, False])
def test_an_unknown_direction_reaches_as_far_as_the_other_scatters(way: bool) -> None:
    """Delays of 80 to 130 ms: some fifty either way of none, and not as far as they are themselves."""
    law = _of(np.linspace(80, 130, 5000), way)
    wide = law.down if way else law.up
    centers = law.low_ns + (np.arange(len(wide)) + 0.5) * law.step_ns
    inside = centers[wide > 1.5 * wide.min()]
    assert -75 * MS < inside[0] < -45 * MS
    assert 45 * MS < inside[-1] < 75 * MS
    assert _share(law, wide, -80, 0) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("way", [True, False])
def test_what_lies_outside_a_law_shares_half_a_percent(way: bool) -> None:
    """Of a law of 1 to 2 ms beside the other direction's wide one."""
    law = _of(np.linspace(1, 2, 2000), way)
    density = law.up if way else law.down
    cells, empty = len(density), density.min()
    assert empty * cells * law.step_ns == pytest.approx(0.005)
    assert _share(law, density, 0.8, 2.2) == pytest.approx(0.995, abs=0.002)
    side = 0 if way else 1
    assert law.median_ns[side] == pytest.approx(1.5 * MS, rel=0.05)
    assert law.p95_ns[side] == pytest.approx(1.95 * MS, rel=0.05)
    assert law.pairs[side] == 2000


def test_a_table_covers_all_but_three_in_a_thousand_in_few_steps() -> None:
    rng = np.random.default_rng(7)
    delays = rng.normal(0, 30, 20_000)
    law = estimate_delay_law((delays * MS).astype(np.int64), rng.random(20_000) < 0.5)
    beyond = np.mean((delays * MS < law.low_ns) | (delays * MS > law.high_ns))
    assert 0.0 < beyond < 0.006
    assert 1024 <= len(law.up) <= 4098
    assert law.step_ns == 1 << law.step_bits
    narrow = estimate_delay_law(rng.integers(0, 1000, 4000), rng.random(4000) < 0.5)
    assert narrow.step_ns == 2048  # of delays that no clock tells apart


def test_width_is_that_of_a_uniform_law_and_of_the_wider_direction() -> None:
    def law(up: list[float], down: list[float]) -> DelayLaw:
        return DelayLaw(-4, 1, np.array(up), np.array(down), (0.0, 0.0), (0.0, 0.0), (0, 0))

    assert law([0.125] * 4, [0.0, 0.25, 0.25, 0.0]).width_ns == pytest.approx(8.0)
    assert law([0.0, 0.25, 0.25, 0.0], [0.125] * 4).width_ns == pytest.approx(8.0)
    assert law([0.125] * 4, [0.125] * 4).high_ns == 4


def test_pairs_spread_evenly_are_taken_off() -> None:
    """Wrong pairs are as many at a quarter of a second as at none."""
    wrong = np.linspace(-250, 250, 3001)
    law = _of(np.r_[np.linspace(0.5, 1.5, 3000), wrong])
    assert law.median_ns[0] == pytest.approx(1 * MS, rel=0.05)
    assert law.p95_ns[0] < 3 * MS


def test_what_was_seen_once_and_far_out_is_no_tail() -> None:
    right = np.linspace(0.5, 1.5, 60)
    assert _of(np.r_[right, 100.0]).high_ns < 50 * MS
    assert _of(np.r_[right, 100.0, 100.1]).high_ns > 90 * MS
    assert _of(np.r_[right, 40.0]).high_ns > 35 * MS


Seen = list[tuple[float, int, bool]]
"""Time in ms, size, whether it goes up."""


def _observed(records: Seen, packets: Seen) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Delays between the records of one tunnel and the packets of one flow."""
    records, packets = sorted(records), sorted(packets)
    row = np.arange(len(records), dtype=np.int32)
    ts_ns, size, up = (np.array(of) for of in zip(*records, strict=True))
    table = RecordTable(
        (ts_ns * MS).astype(np.int64), np.zeros(len(row), np.int32), up, size.astype(np.int32) + 32,
        np.full(len(row), -1), row,
    )  # fmt: skip
    classes = classify_records(table, np.zeros(1, np.int64), (LengthMap(32),))
    ts_ns, size, up = (np.array(of) for of in zip(*packets, strict=True))
    egress = EgressRows(
        np.array([0, len(packets)]), np.arange(len(packets), dtype=np.int32), (ts_ns * MS).astype(np.int64),
        size.astype(np.int32), up,
    )  # fmt: skip
    return observed_delays(classes, egress, (classes.class_of(0, egress.inner_bytes, up),))


def _train(apart_ms: float, count: int, up: bool = True, size: int = 100) -> tuple[Seen, Seen]:
    """Packets evenly apart, each 2 ms on its way."""
    sent = apart_ms * np.arange(count)
    records, packets = (0.0, 2.0) if up else (2.0, 0.0)
    return [(t + records, size, up) for t in sent], [(t + packets, size, up) for t in sent]


@pytest.mark.parametrize(("apart_ms", "window_ms"), [(300, 250), (200, 80), (60, 25)])
def test_the_widest_window_without_rivals_is_taken(apart_ms: float, window_ms: int) -> None:
    delays, up, windows = _observed(*_train(apart_ms, 40))
    assert delays.tolist() == [2 * MS] * 40
    assert up.all()
    assert windows[0] == window_ms * MS


def test_each_direction_has_its_window_and_delays_count_away_from_the_sender() -> None:
    (up_in, up_out), (down_in, down_out) = _train(300, 40), _train(60, 50, up=False)
    delays, up, windows = _observed(up_in + down_in, up_out + down_out)
    assert delays.tolist() == [2 * MS] * 90
    assert up.tolist() == [True] * 40 + [False] * 50
    assert windows == (250 * MS, 25 * MS)


@pytest.mark.parametrize(("wrong", "window_ms"), [(2, 250), (8, 80)])
def test_a_window_is_too_wide_where_many_are_alone_with_a_wrong_one(wrong: int, window_ms: int) -> None:
    """Packets that have no record, but for another's of the same size 180 ms away."""
    records, packets = _train(600, 40)
    records += [(600.0 * n + 180, 200, True) for n in range(wrong)]
    packets += [(600.0 * n, 200, True) for n in range(wrong)]
    delays, _, windows = _observed(records, packets)
    assert windows[0] == window_ms * MS
    assert (np.abs(delays) < 120 * MS).sum() == 40
    assert len(delays) == 40 + wrong * (window_ms == 250)


def test_too_few_pairs_keep_the_widest_window() -> None:
    delays, _, windows = _observed(*_train(300, 29))
    assert (len(delays), windows) == (29, (250 * MS, 250 * MS))
    few, many = _train(300, 29), [[(t + 20_000, size, up) for t, size, up in of] for of in _train(100, 30)]
    delays, _, windows = _observed(few[0] + many[0], few[1] + many[1])
    assert (len(delays), windows[0]) == (59, 80 * MS)


def test_a_packet_or_record_with_a_rival_is_no_pair() -> None:
    records, packets = _train(300, 40)
    assert len(_observed([*records, (-200.0, 100, True)], packets)[0]) == 39
    assert len(_observed(records, [*packets, (-200.0, 100, True)])[0]) == 39
    assert len(_observed([*records, (-200.0, 101, True), (-200.0, 100, False)], packets)[0]) == 40


@pytest.mark.parametrize(("apart_ms", "tried"), [(1200, 2500), (600, 2000)])
def test_of_common_sizes_two_thousand_packets_are_tried(apart_ms: float, tried: int) -> None:
    """A size of which there is more than one in two windows is common."""
    assert len(_observed(*_train(apart_ms, 2500))[0]) == tried


def test_rare_sizes_come_first() -> None:
    common, rare = _train(600, 2500), _train(40_000, 30, size=200)
    delays, _, _ = _observed(common[0] + rare[0], common[1] + [(t + 1, s, up) for t, s, up in rare[1]])
    assert np.count_nonzero(delays == 3 * MS) == 30
    assert len(delays) == 2000
