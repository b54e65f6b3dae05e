"""The model's delay law: what it must be, whatever was seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpnforensics.evidence.joint.law import unimodal, widened

STEP_NS = 1 << 17


def floor(bins):
    """A thousandth of the law, spread evenly."""
    return 0.001 / (bins * STEP_NS)


def test_a_wider_law_has_the_old_one_in_its_middle_and_the_floor_beside_it():
    density = np.array([1.0, 3.0, 2.0]) / (6 * STEP_NS)
    found = widened(density, 4, STEP_NS)
    assert found.sum() * STEP_NS == pytest.approx(1.0)
    assert found[:4].tolist() == found[-4:].tolist() == pytest.approx([floor(11)] * 4)
    assert found[4:7] == pytest.approx(0.999 * density + floor(11))
    assert len(widened(density, 0, STEP_NS)) == 3
    assert widened(5 * density, 4, STEP_NS) == pytest.approx(found), "a density is made one"


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(10, 900))
def test_a_law_rises_to_its_mode_and_falls_behind_it(seed, bins):
    rng = np.random.default_rng(seed)
    mass = rng.poisson(rng.uniform(0, 3), bins) + np.eye(bins)[rng.integers(bins)] * 50
    found = unimodal(mass.astype(float), STEP_NS)
    assert len(found) == bins
    assert found.sum() * STEP_NS == pytest.approx(1.0)
    assert found.min() >= floor(bins) * (1 - 1e-9)
    rising = np.diff(found) > 1e-12 / STEP_NS
    falling = np.diff(found) < -1e-12 / STEP_NS
    assert (
        not rising.any() or not falling.any() or np.flatnonzero(rising).max() < np.flatnonzero(falling).min()
    )


def test_what_is_unimodal_and_fine_stays_as_it_is():
    """Arms of up to 400 bins are read bin by bin near the mode."""
    mass = np.array([0.0, 1.0, 2.0, 9.0, 30.0, 20.0, 10.0, 4.0, 4.0, 0.0])
    found = unimodal(mass, STEP_NS)
    as_seen = 0.999 * mass / (mass.sum() * STEP_NS) + floor(10)
    near = [3, 4, 5, 6]
    assert found[near] == pytest.approx(as_seen[near])
    assert found[7] == found[8] == pytest.approx(as_seen[7])


def test_each_side_keeps_what_it_has_seen():
    """The mode is in the middle of the shortest span with a third; what is before it stays before it."""
    mass = np.zeros(100)
    mass[[20, 22, 60]] = 10.0, 10.0, 5.0
    mass[21] = 10.0
    found = (unimodal(mass, STEP_NS) - floor(100)) * STEP_NS / 0.999
    assert found[:21].sum() == pytest.approx(10 / 35, abs=0.02)
    assert found[20:23].sum() == pytest.approx(30 / 35, abs=0.02)
    # The last delay is spread back to where the law may fall to it; bins out there are wider.
    assert found[23:61] == pytest.approx([5 / 35 / 38] * 38, rel=0.1)
    assert found[:61].sum() == pytest.approx(1.0, abs=0.02)
    assert found[70:].max() == pytest.approx(0.0, abs=1e-12)


def test_a_mode_at_either_end():
    for at in (0, 9):
        mass = np.zeros(10)
        mass[at] = 7.0
        found = unimodal(mass, STEP_NS)
        assert int(found.argmax()) == at or found[at] == pytest.approx(found.max())
        assert found[9 - at] == pytest.approx(floor(10))


def test_bins_far_from_the_mode_are_read_together():
    """They grow by 15 % from a four-hundredth of the arm: edges of the steps are those of its bins."""
    rng = np.random.default_rng(1)
    mass = rng.exponential(1.0, 4_000) / (1 + np.arange(4_000.0)) ** 2
    found = unimodal(mass, STEP_NS)
    edges, step = [int(found.argmax())], 4_000 / 400
    while edges[-1] < 4_000:
        edges.append(min(4_000, edges[-1] + int(step)))
        step *= 1.15
    steps = np.flatnonzero(np.abs(np.diff(found)) > 1e-9 * found.max()) + 1
    behind = set(steps[steps > 300].tolist())
    assert len(behind) > 5
    assert behind <= {e + shift for e in edges for shift in range(-5, 6)}
