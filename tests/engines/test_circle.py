"""The circle on which flows are turned: copies land where flows are, whatever else the captures hold."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.engines.circle import Circle, circle_of

S = 1_000_000_000


def test_copies_land_where_flows_are() -> None:
    """An hour of flows, a pause in both captures, another hour; keep-alives for a night; a stray flow."""
    rng = np.random.default_rng(1)
    hours = [rng.integers(begin * S, (begin + 3600) * S, 2000) for begin in (0, 10_000)]
    records = np.sort(np.r_[hours[0], hours[1], np.arange(13_600 * S, 50_000 * S, 25 * S)])
    begin = np.r_[hours[0], hours[1], 300_000 * S]
    circle = circle_of(begin, records)
    flow = rng.integers(0, 4000, 20_000)
    shift, away = circle.turned(begin[flow], rng.random(20_000))
    landed = begin[flow] + shift
    assert records[0] <= landed.min()
    assert landed.max() <= records[-1]
    in_hours = (landed < 3600 * S) | ((landed >= 10_000 * S) & (landed < 13_600 * S))
    assert in_hours.mean() > 0.89
    assert abs(np.mean(landed < 3600 * S) - 0.45) < 0.02
    assert np.abs(shift[away]).min() >= 5 * S


@pytest.mark.parametrize("flows", [0, 1, 50])
def test_flows_that_begin_at_once_are_still_turned(flows: int) -> None:
    circle = circle_of(np.full(flows, 30 * S), np.arange(0, 61 * S, S))
    shift, away = circle.turned(np.full(1000, 30 * S), np.linspace(0, 1, 1000))
    assert away.mean() > 0.05
    assert np.ptp(shift[away]) > 40 * S


def test_time_beside_beginnings_counts_in_full_and_other_time_a_tenth():
    """Of 100 s of records: flows begin at 10, 11 and 60 s; at 80 s too, but no record is near."""
    records = np.r_[np.arange(0, 700), np.arange(850, 1001)] * (S // 10)
    found = circle_of(np.array([60, 10, 80, 11]) * S, records)
    assert (found.origin_ns, found.period_ns) == (0, 100 * S)
    at_s = np.array([0, 8, 13, 58, 62, 100])
    busy_s = np.array([0, 0, 5, 5, 9, 9])
    np.testing.assert_allclose(np.unique(found.at_ns), at_s * S)
    np.testing.assert_allclose(
        np.interp(at_s * S, found.at_ns, found.share), 0.1 * at_s / 100 + 0.9 * busy_s / 9
    )


def test_beginnings_outside_the_records_and_none_at_all_leave_an_even_circle():
    records = np.arange(100, 201) * S
    for begins in ([50, 100, 200, 300], []):
        found = circle_of(np.array(begins, np.int64) * S, records)
        np.testing.assert_allclose(np.interp(25 * S, found.at_ns, found.share), 0.25)
    assert circle_of(np.zeros(0, np.int64), np.array([7 * S])).period_ns == 1


def test_a_flow_is_moved_by_its_share_and_away_beyond_five_seconds():
    even = Circle(1000 * S, 100 * S, np.array([0.0, 100.0 * S]), np.array([0.0, 1.0]))
    begin = (1000 + np.array([10, 99, 10, 10, 10, 10, 1, 1, 1])) * S
    turn = np.array([0.5, 0.5, 0.0499, 0.0501, 0.97, 0.94, 0.97, 0.951, 0.949])
    shift, away = even.turned(begin, turn)
    np.testing.assert_allclose(shift / S, [50, -50, 4.99, 5.01, -3, -6, 97, 95.1, 94.9], atol=1e-6)
    assert away.tolist() == [True, True, False, True, False, True, False, False, True]


def test_on_a_short_circle_an_eighth_is_away():
    short = Circle(0, 8 * S, np.array([0.0, 8.0 * S]), np.array([0.0, 1.0]))
    _, away = short.turned(np.zeros(3, np.int64), np.array([0.124, 0.126, 0.876]))
    assert away.tolist() == [False, True, False]


def test_share_of_a_moment_is_the_busy_time_before_it_and_a_tenth_of_all():
    """Busy is what lies within two seconds of a beginning that has a record within two seconds."""
    rng = np.random.default_rng(11)
    for _ in range(40):
        records = np.unique(rng.integers(0, 120, rng.integers(2, 12)))
        if len(records) < 2:
            continue
        begins = rng.integers(-5, 130, rng.integers(0, 9))
        circle = circle_of(begins * S, records * S)
        first, period = records[0], records[-1] - records[0]
        assert (circle.origin_ns, circle.period_ns) == (first * S, period * S)
        near = [b - first for b in begins if 0 < b - first < period and np.abs(records - b).min() < 2]
        half = np.arange(0, period, 0.5) + 0.25  # middles of half seconds
        busy = np.array([any(abs(t - b) < 2 for b in near) for t in half], bool)
        for at in range(period + 1):
            share = at / period
            if near:
                share = 0.1 * share + 0.9 * busy[: 2 * at].sum() / busy.sum()
            assert np.interp(at * S, circle.at_ns, circle.share) == pytest.approx(share)


@pytest.mark.parametrize(("period_s", "least_s"), [(24, 3), (40, 5), (64, 5)])
def test_a_copy_is_away_from_five_seconds_or_an_eighth_of_the_circle_on(period_s, least_s):
    even = Circle(0, period_s * S, np.array([0.0, period_s * S]), np.array([0.0, 1.0]))
    for seconds, far in ((least_s - 0.5, False), (least_s, True), (period_s / 2, True)):
        for turn in (seconds, period_s - seconds):
            shift_ns, away = even.turned(np.array([0]), turn / period_s)
            assert (shift_ns.tolist(), away.tolist()) == ([turn * S], [far])
