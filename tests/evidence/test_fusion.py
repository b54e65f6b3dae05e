from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.evidence.fusion import fuse

NAN = np.nan


def test_what_packets_is_clear_about_stands() -> None:
    packets = np.array([1.0, -1.0, 3.0, -3.0])
    fields = np.array([[-2.0, 2.0, 5.0, 5.0]])
    np.testing.assert_array_equal(fuse(packets, fields), packets)


def test_elsewhere_fields_are_added() -> None:
    np.testing.assert_allclose(fuse(np.array([0.9, -0.9]), np.array([[2.0, 2.0]])), [2.9, 1.1])
    np.testing.assert_allclose(fuse(np.array([NAN]), np.array([[2.0]])), [2.0])


def test_the_strongest_for_and_the_strongest_against_count_and_echoes_do_not() -> None:
    fields = np.array([[2.0, -1.0], [1.5, -0.2], [-0.5, NAN]])
    np.testing.assert_allclose(fuse(np.full(2, NAN), fields), [1.5, -1.0])


def test_silence_is_not_a_ratio_of_one() -> None:
    found = fuse(np.array([NAN, 0.4]), np.full((2, 2), NAN))
    assert np.isnan(found[0])
    assert found[1] == 0.4
    assert np.isnan(fuse(np.array([NAN]), np.zeros((0, 1))))[0]


@given(
    st.one_of(st.none(), st.floats(-8, 8)),
    st.lists(st.one_of(st.none(), st.floats(-8, 8)), min_size=1, max_size=5),
)
def test_any_say_gives_a_ratio_within_what_was_said(packets: float | None, said: list[float | None]) -> None:
    fields = np.array([[NAN if s is None else s] for s in said])
    fused = fuse(np.array([NAN if packets is None else packets]), fields)[0]
    spoken = [s for s in (packets, *said) if s is not None]
    assert np.isnan(fused) == (not spoken)
    if spoken:
        total = sum(min(s, 0.0) for s in spoken), sum(max(s, 0.0) for s in spoken)
        assert total[0] <= fused <= total[1]
