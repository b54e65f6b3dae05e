"""The circle on which flows are turned: copies land where flows are, whatever else the captures hold."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.engines.circle import circle_of

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
