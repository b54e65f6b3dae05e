"""Streams: their bytes in all, and how many had passed when."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tunnels.streams import CLIENT, SERVER, Talk
from vpnforensics.engines.streams import Streams
from vpnforensics.tunnels.writes import find_writes


def talk(sizes, *, start=1000, step_s=0.1):
    """Segments up, the numbers of whose bytes begin at ``start``."""
    made = Talk()
    made.syn(client=CLIENT, server=SERVER, seqs=((start - 1) % 2**32, 4999))
    at = start
    for size in sizes:
        made.segment(True, at % 2**32, bytes(size), client=CLIENT, server=SERVER, step_s=step_s)
        at += size
    return made


def streams(table):
    writes = find_writes(table)
    return Streams.of(table, writes, np.ones(len(table), np.bool_), None)


@pytest.mark.parametrize("start", [1000, 2**32 - 300])
def test_bytes_in_all(start):
    found = streams(talk([500, 200, 300], start=start).from_table())
    assert found.total_bytes.tolist() == [1000, 0]
    assert found.end.tolist() == [500, 700, 1000]


def test_segments_out_of_order_are_counted_from_the_first_byte():
    made = talk([500, 200, 300])
    segments = made.rows[-3:]
    times = [row["ts_ns"] for row in segments]
    made.rows[-3:] = [
        {**row, "ts_ns": ns} for row, ns in zip([segments[1], segments[0], segments[2]], times, strict=True)
    ]
    found = streams(made.from_table())
    assert found.total_bytes[0] == 1000
    assert found.end.max() == 1000


def test_what_had_passed_and_what_was_nearest():
    found = streams(talk([500, 200, 300]).from_table())
    rng = np.random.default_rng(1)
    at = found.first_ns[0] + rng.integers(-200_000_000, 500_000_000, 200)
    stream = rng.integers(0, 2, 200)
    for s, ns, passed, apart, begun in zip(
        stream,
        at,
        found.passed(stream, at),
        found.onset_apart(stream, at),
        found.begun(stream, at),
        strict=True,
    ):
        mine = np.flatnonzero(found.stream == s)
        done = mine[found.last_ns[mine] // 1000 <= ns // 1000]
        assert passed == (found.end[done[-1]] if len(done) else 0)
        if len(mine):
            assert abs(apart) == np.abs(ns - found.first_ns[mine]).min()
        else:
            assert abs(apart) == 1 << 60
        opened = mine[found.first_ns[mine] // 1000 <= ns // 1000]
        assert begun == (opened[-1] if len(opened) else -1)
