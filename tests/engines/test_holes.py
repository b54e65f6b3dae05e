"""Holes in counters: where they are, and how much is missing about them."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.engines._hole_kernels import KINDS, UNCOUNTED, WHOLE, kind_of
from vpnforensics.engines.holes import find_holes, usual_misses
from vpnforensics.tunnels.find import RecordTable, TunnelSet
from vpnforensics.tunnels.table import Tunnel

MS = 1_000_000


def tunnels(records: list[tuple[float, int, bool, int]], count: int) -> TunnelSet:
    """Of (time in ms, tunnel, up, counter)."""
    at, tunnel, up, counter = (np.array(column) for column in zip(*sorted(records), strict=True))
    none = np.zeros(len(at), np.int32)
    table = RecordTable(
        (at * MS).astype(np.int64), tunnel.astype(np.int32), up.astype(np.bool_), none,
        counter.astype(np.int64), none,
    )  # fmt: skip
    one = Tunnel("192.0.2.1:1", "192.0.2.9:2", "udp", "made", "", 1.0, 0, 1, 1, 1, (), 0)
    return TunnelSet((one,) * count, table, np.zeros(0, np.int64))


def test_a_number_that_is_not_there_is_a_hole_between_those_beside_it() -> None:
    counted = [(10.0 * n, 0, True, 100 + n) for n in range(20) if n not in (7, 12, 13)]
    plain = [(10.0 * n, 0, False, -1) for n in range(20)]
    holes = find_holes(tunnels(counted + plain, 1), 5 * MS)
    assert holes.counted.tolist() == [False, True]
    assert holes.start.tolist() == [0, 0, 2]
    assert (holes.first_ns // MS).tolist() == [60, 110]
    assert (holes.last_ns // MS).tolist() == [80, 140]
    some = int(holes.which[0])
    for up, first, last, kind in (
        (True, 0, 59, WHOLE), (True, 50, 60, some), (True, 65, 75, some), (True, 81, 109, WHOLE),
        (True, 140, 300, some), (True, 141, 300, WHOLE), (False, 65, 75, UNCOUNTED),
    ):  # fmt: skip
        assert kind_of(holes, 0, up, first * MS, last * MS) == 2 * kind + up


@pytest.mark.parametrize(
    ("gone", "reach_ms", "which"),
    [
        ([7], 5, 2),  # of three
        ([7], 25, 1),  # of seven: up to a quarter
        ([7, 8], 5, 2),  # of four: a half, and no more
        ([7, 8, 9], 5, 3),  # of five
        ([6, 7, 8, 9, 10, 11, 12], 5, 4),  # of nine: more than three quarters
        ([*range(20, 38)], 5, 4),  # of twenty nine tenths, and no more
        ([*range(20, 39)], 5, 5),
        ([7, 9], 25, 2),  # of seven two: the hole beside it counts as well
    ],
)
def test_how_much_is_missing_about_a_hole(gone: list[int], reach_ms: int, which: int) -> None:
    counted = [(10.0 * n, 0, True, 100 + n) for n in range(60) if n not in gone]
    holes = find_holes(tunnels(counted, 1), reach_ms * MS)
    assert holes.which.tolist()[0] == which


def test_what_is_usually_missed_of_each_kind() -> None:
    usual = usual_misses(0.03, 0.4)
    assert len(usual) == KINDS
    assert usual.tolist() == pytest.approx(np.repeat([0.03, 0.125, 0.375, 0.625, 0.825, 0.95, 0.4], 2))


def test_a_new_key_that_counts_from_its_beginning_is_no_hole() -> None:
    before = [(10.0 * n, 1, False, 5000 + n) for n in range(10)]
    after = [(200.0 + 10 * n, 1, False, n) for n in range(10)]
    holes = find_holes(tunnels(before + after, 2), MS)
    assert holes.counted.tolist() == [False, False, True, False]
    assert len(holes.first_ns) == 0
