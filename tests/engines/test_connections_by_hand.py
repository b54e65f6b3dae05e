"""What is noted of a flow and an outer connection, feature by feature, against its rule in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vpnforensics.engines import connections as module
from vpnforensics.engines.connections import ConnectionPairs, Connections, Observed
from vpnforensics.engines.streams import Streams

MS = 1_000_000
NEVER = 1 << 60
ORIGIN = 1_700_000_000_000 * MS
FRAME = 34


def streams(*conversations: tuple[float, float, list[Any], list[Any]]) -> Streams:
    """Of each: begin and end (ms), writes up and down: (begin ms, end ms, bytes, segments)."""
    rows = [
        (2 * c + way, *w)
        for c, (_, _, *ways) in enumerate(conversations)
        for way in (0, 1)
        for w in ways[way]
    ]
    stream = np.array([r[0] for r in rows], np.int64)
    first, last = (np.array([ORIGIN + round(r[k] * MS) for r in rows], np.int64) for k in (1, 2))
    start = np.searchsorted(stream, np.arange(2 * len(conversations) + 1)).astype(np.int64)
    end, segments = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    before, behind = np.full(len(rows), NEVER), np.full(len(rows), NEVER)
    for i, r in enumerate(rows):
        same = i > start[r[0]]
        end[i] = r[3] + (end[i - 1] if same else 0)
        segments[i] = r[4] + (segments[i - 1] if same else 0)
        if same:
            before[i] = behind[i - 1] = first[i] - last[i - 1]
    total = np.array([end[start[s + 1] - 1] if start[s + 1] > start[s] else 0 for s in range(len(start) - 1)])
    begin, stop = (np.array([ORIGIN + round(c[k] * MS) for c in conversations], np.int64) for k in (0, 1))
    origin, span = int(begin.min()) // 1000 - 100_000_000, 10**12
    keys = [stream * span + t // 1000 - origin for t in (first, last)]
    return Streams(
        stream, start, first, last, end, segments, before, behind, total, begin, stop, *keys, origin, span
    )


def made(inner: Streams, outer: Streams, tunnel_of: Any) -> Connections:
    return Connections(inner, outer, np.array(tunnel_of), FRAME)


def pairs(*rows: tuple[int, int]) -> ConnectionPairs:
    flow, connection = zip(*rows, strict=True)
    return ConnectionPairs(np.array(flow, np.int32), np.array(connection, np.int32))


def by_feature(connections: Connections, seen: Observed, pair: int = 0) -> list[list[int]]:
    """Classes noted of a pair, of each feature, counted within it."""
    edges = np.r_[0, np.cumsum(connections.features)]
    mine = seen.seen[seen.pair == pair]
    of = np.searchsorted(edges, mine, side="right") - 1
    return [sorted((mine[of == k] - edges[k]).tolist()) for k in range(len(connections.features))]


def still(flows: int) -> Any:
    return np.zeros(flows, np.int64)


FLOW = (100.0, 900.0, [(110.0, 110.0, 200, 1), (300.0, 301.0, 50, 1), (600.0, 600.0, 70, 2)],
        [(150.0, 180.0, 3000, 3), (190.0, 195.0, 1000, 1), (350.0, 360.0, 500, 1)])  # fmt: skip
CARRIER = (90.0, 950.0, [(99.0, 99.5, 290, 1), (300.5, 301.5, 84, 1), (600.2, 600.2, 104, 2)],
           [(151.0, 181.0, 3102, 3), (191.0, 196.0, 1034, 1), (351.0, 361.0, 534, 1)])  # fmt: skip


def test_a_flow_begins_after_its_connection_and_within_a_second_and_a_half() -> None:
    inner = streams(FLOW, (5000.0, 5100.0, [(5010.0, 5010.0, 20, 1)], []), (9.0, 9.0, [], []))
    opened = [50.0 + 1.0 * k for k in range(3)]
    outer = streams(
        *((o, 990.0, [(o, o, 1000, 1)], [(o + 1, o + 1, 9000, 9)]) for o in opened),
        (-1401.0, 990.0, [(-1401.0, -1401.0, 1000, 1)], [(60.0, 60.0, 9000, 9)]),
        (-1400.0, 990.0, [(-1400.0, -1400.0, 1000, 1)], [(60.0, 60.0, 9000, 9)]),
        (149.0, 990.0, [(149.0, 149.0, 1000, 1)], [(160.0, 160.0, 9000, 9)]),
        (150.0, 990.0, [(150.0, 150.0, 1000, 1)], [(160.0, 160.0, 9000, 9)]),
        (60.0, 990.0, [(60.0, 60.0, 319, 1)], [(160.0, 160.0, 9000, 9)]),
        (60.0, 990.0, [(60.0, 60.0, 320, 1)], [(160.0, 160.0, 4410, 9)]),
        (60.0, 990.0, [(60.0, 60.0, 320, 1)], [(160.0, 160.0, 4409, 9)]),
        (60.0, 990.0, [], [(160.0, 160.0, 9000, 9)]),
    )
    tunnel_of = [0, -1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    found = made(inner, outer, tunnel_of).candidates(still(3), np.ones(3, np.bool_))
    assert set(found.flow.tolist()) == {0}
    assert sorted(found.connection.tolist()) == [0, 2, 4, 5, 8]
    none = made(inner, outer, tunnel_of).candidates(still(3), np.array([False, True, True]))
    assert len(none) == 0
    moved = made(inner, outer, tunnel_of).candidates(np.array([-50 * MS, 0, 0]), np.ones(3, np.bool_))
    assert sorted(moved.connection.tolist()) == [0, 2, 3, 4, 8], "those that begin until 50 ms later"


def test_least_amounts_are_those_that_two_in_a_hundred_fall_short_of() -> None:
    inner = streams(*((0.0, 9.0, [(1.0, 1.0, 100, 1)], [(2.0, 2.0, 100, 1)]) for _ in range(101)))
    outer = streams(*((0.0, 9.0, [(1.0, 1.0, 100 + k, 1)], [(2.0, 2.0, 50 + k, 1)]) for k in range(101)))
    both = pairs(*((k, k) for k in range(101)))
    assert made(inner, outer, [0] * 101).least_amounts(both) == (2, 0), "less than inside is nothing more"
    assert made(inner, outer, [0] * 101).least_amounts(both.take(np.zeros(0, np.int64))) == (0, 0)


def test_all_that_is_noted_of_a_pair() -> None:
    connections = made(streams(FLOW), streams(CARRIER), [0])
    assert connections.classes == sum(connections.features)
    found = by_feature(connections, connections.observe(pairs((0, 0)), still(1), (90, 100)))
    start, onset, end = module._START_NS, module._ONSET_NS, module._END_NS
    # The flow begins a millisecond after the connection's first write, which is the request.
    assert found[0] == [2 * int(np.searchsorted(start, 1.0 * MS)) + 1]
    assert found[1] == []
    assert found[2] == [int(np.searchsorted(end, 50.0 * MS))]
    # Two onsets of each direction, the first: of the nearest outer write's.
    assert found[3] == sorted(int(np.searchsorted(onset, x * MS)) for x in (11.0, -0.5))
    assert found[4] == sorted(int(np.searchsorted(onset, x * MS)) for x in (-1.0, -1.0))
    chunk = module._CHUNKS

    def size(more: int, least: int, segments: int) -> int:
        beyond = more - least
        chunks = beyond if beyond < 0 else beyond / (FRAME * (segments + 2))
        return int(np.searchsorted(chunk, chunks, side="right"))

    # Up: after 200 bytes 290 had passed, after 250 374, in all 478 of 320; the least is 90.
    assert found[5] == [size(90, 90, 1)]
    assert found[6] == [size(124, 90, 2)]
    assert found[7] == [size(158, 90, 4)]
    assert found[8] == [158 % FRAME]
    assert found[9] == [int((90 - 158) % FRAME == 0)]
    assert found[10] == [int((124 - 158) % FRAME == 0)]
    assert found[11] == [158 - 90 + 64]
    # Down: the first pause is after 4,000 bytes, the last after 4,500.
    assert found[12] == [size(136, 100, 4)]
    assert found[13] == []
    assert found[14] == [size(170, 100, 5)]
    assert found[15] == [170 % FRAME]
    assert found[16] == [int((136 - 170) % FRAME == 0)]
    assert found[17] == []


@pytest.mark.parametrize(("written", "since"), [(95.0, 4.0), (125.0, -26.0)])
def test_a_request_that_is_not_the_first_write_is_a_later_one(written: float, since: float) -> None:
    """A connection used again: the flow begins with its second write, which may come 25 ms later."""
    later = (written, written + 1, 300, 1)
    again = (0.0, 2000.0, [(0.0, 1.0, 200, 1), later], [(151.0, 181.0, 5000, 3)])
    connections = made(streams(FLOW), streams(again), [0])
    found = by_feature(connections, connections.observe(pairs((0, 0)), still(1), (0, 0)))
    assert found[0] == [2 * int(np.searchsorted(module._START_NS, 100 * MS))]
    assert found[1] == [int(np.searchsorted(module._START_NS, since * MS))]


def test_moved_flows_are_seen_where_they_were_moved_to() -> None:
    inner, outer = streams(FLOW, FLOW), streams(CARRIER)
    shift_ns = np.array([0, 40 * MS])
    connections = made(inner, outer, [0])
    seen = connections.observe(pairs((0, 0), (1, 0)), shift_ns, (90, 100))
    first, second = by_feature(connections, seen, 0), by_feature(connections, seen, 1)
    assert second[0] == [2 * int(np.searchsorted(module._START_NS, 41 * MS)) + 1]
    assert second[2] == [int(np.searchsorted(module._END_NS, 10 * MS))]
    assert second[4] == sorted(int(np.searchsorted(module._ONSET_NS, x * MS)) for x in (-1.0, 39.0))
    assert first != second


def test_amounts_far_off_say_nothing_of_residuals_and_addresses() -> None:
    rich = (90.0, 950.0, [(99.0, 99.5, 90_000, 1)], [(151.0, 181.0, 99_000, 3)])
    connections = made(streams(FLOW), streams(rich), [0])
    found = by_feature(connections, connections.observe(pairs((0, 0)), still(1), (90, 100)))
    assert found[7] == [len(module._CHUNKS)]
    assert found[8:12] == [[], [], [], []]
    short = (90.0, 950.0, [(99.0, 99.5, 330, 1)], [(151.0, 181.0, 4600, 3)])
    connections = made(streams(FLOW), streams(short), [0])
    found = by_feature(connections, connections.observe(pairs((0, 0)), still(1), (90, 100)))
    assert found[7] == [1], "ten of ninety bytes are within the three hundred that may be missing"
    assert found[11] == [10 - 90 + 64 if 10 - 90 + 64 > 0 else 0]


def test_addresses_longer_than_any_are_one_class() -> None:
    long = (90.0, 950.0, [(99.0, 99.5, 320 + 90 + 460, 1)], [(151.0, 181.0, 4600, 3)])
    connections = made(streams(FLOW), streams(long), [0])
    found = by_feature(connections, connections.observe(pairs((0, 0)), still(1), (90, 100)))
    assert found[11] == [511]


def test_sums_and_counts_of_what_was_seen() -> None:
    seen = Observed(np.array([0, 0, 1], np.int32), np.array([2, 0, 2], np.int32))
    assert seen.counts(4).tolist() == [1.0, 0.0, 2.0, 0.0]
    assert seen.counts(4, np.array([False, True])).tolist() == [0.0, 0.0, 1.0, 0.0]
    assert seen.sums(np.array([0.5, 9.0, -2.0, 9.0]), 3).tolist() == [-1.5, -2.0, 0.0]


@pytest.mark.parametrize("gap", [29.9, 30.0])
def test_a_silence_is_thirty_milliseconds(gap: float) -> None:
    flow = (0.0, 500.0, [(10.0, 10.0, 5, 1), (10.0 + gap, 10.0 + gap, 5, 1)], [])
    connections = made(streams(flow), streams(CARRIER), [0])
    rows, start = connections._onset_rows
    assert len(rows) == (2 if gap >= 30 else 1)
    assert start.tolist() == [0, len(rows), len(rows)]
    pauses, _, kinds = connections._pause_rows
    assert kinds.tolist() == ([0, 2] if gap >= 30 else [2])
    assert len(pauses) == len(kinds)


def test_of_many_onsets_and_pauses_the_first_two_count_and_the_last_pause() -> None:
    flow = (0.0, 900.0, [(100.0 * k, 100.0 * k, 5, 1) for k in range(6)], [])
    connections = made(streams(flow), streams(CARRIER), [0])
    assert connections._onset_rows[0].tolist() == [0, 1]
    rows, _, kinds = connections._pause_rows
    assert rows.tolist() == [0, 1, 5]
    assert kinds.tolist() == [0, 1, 2]


def test_what_is_noted_of_a_pair_does_not_depend_on_where_it_stands() -> None:
    """Others of either side come before it, and have other times and sizes."""
    other = (10.0, 20.0, [(11.0, 11.0, 7, 1)], [(12.0, 13.0, 9000, 9), (700.0, 701.0, 8, 1)])
    alone = made(streams(FLOW), streams(CARRIER), [0])
    among = made(streams(other, FLOW), streams(other, (*CARRIER[:2], [], []), CARRIER), [0, 0, 0])
    found = by_feature(among, among.observe(pairs((1, 2)), still(2), (90, 100)))
    assert found == by_feature(alone, alone.observe(pairs((0, 0)), still(1), (90, 100)))


@pytest.mark.parametrize(
    ("pause_ms", "after_ms", "passed"),
    [(40.0, 19.9, True), (40.0, 20.1, False), (1000.0, 39.9, True), (1000.0, 40.1, False)],
)
def test_a_relay_passes_a_write_on_within_half_the_pause_or_forty_milliseconds(
    pause_ms: float, after_ms: float, passed: bool
) -> None:
    """The flow wrote 200 bytes; of the connection's 210 the last 60 come after it."""
    flow = (100.0, 9000.0, [(110.0, 110.0, 200, 1), (110.0 + pause_ms, 110.0 + pause_ms, 50, 1)], [])
    carrier = (90.0, 9000.0, [(105.0, 105.0, 150, 1), (110.0 + after_ms, 110.0 + after_ms, 60, 1)], [])
    connections = made(streams(flow), streams(carrier), [0])
    found = by_feature(connections, connections.observe(pairs((0, 0)), still(1), (0, 0)))
    # Ten bytes too many are less than a tenth of three chunks of 34; fifty are missing.
    assert found[5] == [2 if passed else 1]


@pytest.mark.parametrize("at_ms", [11.0, 99.0])
def test_a_connection_that_says_something_late_is_compared_with_none_of_another(at_ms: float) -> None:
    """Its first write is thirty milliseconds after the flow began; what stands before it is another's."""
    flow = (100.0, 9000.0, [(110.0, 110.0, 200, 1)], [])
    late = (90.0, 9000.0, [(130.0, 130.0, 240, 1)], [])
    other = (5.0, 20.0, [(at_ms, at_ms, 7, 1)], [])
    alone = made(streams(flow), streams(late), [0])
    among = made(streams(flow), streams(other, late), [0, 0])
    found = by_feature(among, among.observe(pairs((0, 1)), still(1), (0, 0)))
    assert found == by_feature(alone, alone.observe(pairs((0, 0)), still(1), (0, 0)))
