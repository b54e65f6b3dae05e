"""Holes in counters: where they are, and how much is missing about them."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.engines._hole_kernels import HOLE, UNCOUNTED, WHOLE, kind_of
from vpnforensics.engines.holes import find_holes
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
    holes, share = find_holes(tunnels(counted + plain, 1), 5 * MS)
    assert holes.counted.tolist() == [False, True]
    assert holes.start.tolist() == [0, 0, 2]
    assert (holes.first_ns // MS).tolist() == [60, 110]
    assert (holes.last_ns // MS).tolist() == [80, 140]
    # Of 3 missing numbers and the 4 beside them; none is ever known to be 0 or 1.
    assert share == pytest.approx((3 + 1) / (3 + 4 + 2))
    for up, first, last, kind in (
        (True, 0, 59, WHOLE), (True, 50, 60, HOLE), (True, 65, 75, HOLE), (True, 81, 109, WHOLE),
        (True, 140, 300, HOLE), (True, 141, 300, WHOLE), (False, 65, 75, UNCOUNTED),
    ):  # fmt: skip
        assert kind_of(holes, 0, up, first * MS, last * MS) == 2 * kind + up


def test_a_new_key_that_counts_from_its_beginning_is_no_hole() -> None:
    before = [(10.0 * n, 1, False, 5000 + n) for n in range(10)]
    after = [(200.0 + 10 * n, 1, False, n) for n in range(10)]
    holes, _ = find_holes(tunnels(before + after, 2), MS)
    assert holes.counted.tolist() == [False, False, True, False]
    assert len(holes.first_ns) == 0
