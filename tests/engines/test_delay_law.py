from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.align.classes import classify_records
from vpnforensics.engines.case import EgressRows
from vpnforensics.engines.delay_law import estimate_delay_law, observed_delays
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
