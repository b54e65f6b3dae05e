"""Size classes: what a packet's length says of the records that could have carried it."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.align.classes import IN_PIECES, SizeClasses
from vpnforensics.tunnels.length_map import LengthMap


def _classes(length_map: LengthMap, inner: list[int]) -> SizeClasses:
    """Up records of these inner lengths, one each."""
    outer = np.unique(length_map.outer(np.array(inner)))
    count = len(outer)
    return SizeClasses(
        (length_map,),
        (1 << 17) + outer,
        np.arange(count + 1),
        np.arange(count),
        np.zeros(count, np.int32),
        np.arange(count, dtype=np.int32),
    )


def _class_of(length_map: LengthMap, inner: list[int], length: int, up: bool = True) -> int:
    found = _classes(length_map, inner).class_of(0, np.array([length], np.int32), np.array([up]))
    return int(found[0])


@pytest.mark.parametrize(
    ("length", "up", "expected"),
    [
        (100, True, 0),
        (1400, True, 1),
        (200, True, -1),
        (1400, False, -1),  # that way none went, but it could have
        (1401, True, IN_PIECES),
        (1500, False, IN_PIECES),
    ],
)
def test_what_is_longer_than_any_record_came_in_pieces(length: int, up: bool, expected: int) -> None:
    assert _class_of(LengthMap(24), [100, 1400], length, up) == expected


def test_the_cap_of_rounded_lengths_is_the_mtu() -> None:
    wireguard = LengthMap(32, 16, 0, 1420)
    assert _class_of(wireguard, [60, 1420], 1420) == 1
    assert _class_of(wireguard, [60, 1420], 1421) == IN_PIECES


def test_padding_to_one_size_carries_all_lengths() -> None:
    assert _class_of(LengthMap(1451, 2048, 0, 1), [60], 1420) == 0
