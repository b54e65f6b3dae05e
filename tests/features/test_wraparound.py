import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.features.wraparound import signed_difference, swap_bytes, unwrap


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20))
def test_unwrap_inverts_wrapping(first, steps):
    line = np.cumsum([first, *steps])
    assert unwrap((line % 2**32).astype(np.uint32), 32).tolist() == line.tolist()


@given(st.integers(0, 65_535), st.integers(-32_768, 32_767))
def test_signed_difference_is_the_shorter_way(start, step):
    later = np.array([(start + step) % 65_536], np.uint16)
    assert signed_difference(later, np.array([start], np.uint16), 16).tolist() == [step]


@given(st.integers(0, 65_535))
def test_bytes_swap_back(value):
    swapped = swap_bytes(np.array([value]))
    assert swapped[0] == int.from_bytes(value.to_bytes(2, "little"), "big")
    assert swap_bytes(swapped)[0] == value


def test_nothing_unwraps_to_nothing():
    assert len(unwrap(np.zeros(0, np.uint32), 32)) == 0
