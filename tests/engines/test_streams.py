"""Streams: their bytes in all, and how many had passed when."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.tunnels.streams import CLIENT, SERVER, Talk
from vpnforensics.align.alignment import same_clock
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


def both_ways():
    """Two conversations of TCP with answers, one of UDP; of the second the server opened, as it were."""
    made = talk([500, 200])
    made.segment(False, 5000, bytes(90), step_s=0.3)
    made.segment(False, 5090, bytes(10), step_s=0.002)
    made.segment(True, 1700, bytes(40), step_s=0.05)
    other = (CLIENT[0], 40001)
    made.syn(client=other, server=SERVER)
    made.segment(True, 1000, bytes(70), client=other, step_s=1.0)
    made.segment(False, 5000, bytes(33), client=other)
    made.datagram(True, bytes(20), client=(CLIENT[0], 9))
    return made.from_table()


def test_a_stream_is_one_direction_as_seen_from_the_client():
    table = both_ways()
    writes = find_writes(table)
    found = Streams.of(table, writes, np.array([True, False, True]), None)
    assert found.total_bytes.tolist() == [740, 100, 33, 70, 0, 0]
    assert found.has.tolist() == [True, True, True, True, False, False]
    assert found.conversations == 3
    assert np.diff(found.start).sum() == len(found.stream) == len(writes.size)
    assert (np.diff(found.stream) >= 0).all()
    assert found.begin_ns.tolist() == table.first_ns.tolist()
    assert found.end_ns.tolist() == table.last_ns.tolist()


def test_ends_segments_and_pauses_of_a_stream_grow_write_by_write():
    table = both_ways()
    writes = find_writes(table)
    found = Streams.of(table, writes, np.ones(3, np.bool_), None)
    mine = np.flatnonzero((writes.connection == 0) & writes.up)
    mine = mine[np.argsort(writes.position[mine])]
    rows = slice(int(found.start[0]), int(found.start[1]))
    assert found.end[rows].tolist() == np.cumsum(writes.size[mine]).tolist()
    assert found.segments[rows].tolist() == np.cumsum(writes.segments[mine]).tolist()
    never = 1 << 60
    gaps = (writes.first_ns[mine][1:] - writes.last_ns[mine][:-1]).tolist()
    assert found.pause_before_ns[rows].tolist() == [never, *gaps]
    assert found.pause_behind_ns[rows].tolist() == [*gaps, never]


def test_times_are_put_on_the_ingress_clock():
    table = both_ways()
    clock = same_clock("made up")
    ahead = dataclasses.replace(clock, offset_ns=5_000_000_000)
    plain = Streams.of(table, find_writes(table), np.ones(3, np.bool_), None)
    moved = Streams.of(table, find_writes(table), np.ones(3, np.bool_), ahead)
    for name in ("first_ns", "last_ns", "begin_ns", "end_ns"):
        assert getattr(moved, name).tolist() == ahead.to_ingress(getattr(plain, name)).tolist()
    assert moved.pause_before_ns.tolist() == plain.pause_before_ns.tolist()
    assert not np.array_equal(moved.first_ns, plain.first_ns)


@pytest.mark.parametrize("start", [1000, 2**32 - 900])
def test_a_last_segment_that_the_capture_lacks_is_known_by_what_the_other_side_acknowledged(start):
    made = talk([500, 200, 300], start=start)
    made.segment(False, 5000, bytes(9), ack=start + 1001)
    del made.rows[-2]
    found = streams(made.from_table())
    assert found.total_bytes.tolist() == [1000, 9], "a FIN or SYN counts as one that is no byte"
    assert found.end.max() == 700


def test_an_acknowledgement_far_beyond_is_of_other_numbers():
    made = talk([500, 200])
    made.segment(False, 5000, bytes(9), ack=1000 + (1 << 31) - 5)
    assert streams(made.from_table()).total_bytes[0] == 700


def test_a_stream_without_its_first_segment_counts_from_the_number_of_its_syn():
    made = talk([500, 200, 300])
    del made.rows[2]
    found = streams(made.from_table())
    assert found.total_bytes[0] == 1000
    assert found.end.tolist() == [700, 1000]


def test_what_is_asked_long_before_or_after_a_stream_belongs_to_no_other():
    table = both_ways()
    found = streams(table)
    hour = 3_600_000_000_000
    every = np.arange(6)
    late, early = np.full(6, int(table.last_ns.max()) + hour), np.full(6, int(table.first_ns.min()) - hour)
    assert found.passed(every, late).tolist() == found.total_bytes.tolist()
    assert found.passed(every, early).tolist() == [0] * 6
    assert found.begun(every, early).tolist() == [-1] * 6
    last = np.where(found.has, found.start[1:] - 1, -1)
    assert found.begun(every, late).tolist() == last.tolist()
    assert (np.abs(found.onset_apart(np.array([4, 5]), late[:2])) == 1 << 60).all()


def test_no_writes_at_all():
    made = Talk()
    made.syn()
    found = streams(made.from_table())
    assert (found.total_bytes.tolist(), found.has.tolist()) == ([0, 0], [False, False])
    assert found.passed(np.array([0, 1]), np.array([0, 10**18])).tolist() == [0, 0]


def test_the_nearest_onset_is_of_the_stream_itself_and_before_it_time_is_negative():
    """All six streams, two of them without any write, one by one."""
    found = streams(both_ways())
    rng = np.random.default_rng(3)
    stream = rng.integers(0, 6, 300)
    at = found.begin_ns.min() + rng.integers(-(10**9), 3 * 10**9, 300)
    for s, ns, apart in zip(
        stream.tolist(), at.tolist(), found.onset_apart(stream, at).tolist(), strict=True
    ):
        mine = [ns - onset for onset in found.first_ns[found.stream == s].tolist()]
        if mine:
            assert abs(apart) == min(map(abs, mine))
            assert apart in mine
        else:
            assert apart == 1 << 60


@pytest.mark.parametrize(
    ("far", "total"),
    [(600_000_000, 600_000_500), (1_000_000_000, 1_000_000_500), (1_200_000_000, 1_200_000_200)],
)
def test_of_long_streams_what_is_acknowledged_counts_until_numbers_come_again(far, total):
    """Of the last segment, 500 bytes long, 200 were captured; beyond 1 GiB only captured ones count."""
    made, half = talk([500]), far // 2
    made.segment(True, 1000 + half, bytes(100))
    made.segment(False, 5000, bytes(9), ack=1000 + half + 100)  # the hole before is the capture's own
    made.segment(True, 1000 + half + 100, bytes(100), step_s=0.1)
    made.segment(True, 1000 + far, bytes(200))
    made.segment(False, 5009, bytes(9), ack=1000 + far + 501)
    assert streams(made.from_table()).total_bytes[0] == total


def test_a_stream_joined_in_its_middle_begins_at_its_lowest_number_whatever_came_first():
    made = talk([500, 200, 300])
    _, _, first, second, third = made.rows
    times = [row["ts_ns"] for row in (first, second, third)]
    made.rows = [{**row, "ts_ns": ns} for row, ns in zip([second, first, third], times, strict=True)]
    found = streams(made.from_table())
    assert found.total_bytes.tolist() == [1000, 0]
    assert found.end.max() == 1000
