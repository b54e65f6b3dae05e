"""Packets and records of a lane, paired in order."""

from __future__ import annotations

from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.engines.case import EgressRows
from vpnforensics.evidence import pairing
from vpnforensics.evidence._pairing_kernels import FOLLOW, align_blocks
from vpnforensics.evidence.pairing import match_lanes, pair_in_order
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.table import RecordTable

MS = 1_000_000


def ints(*values):
    return np.array(values, np.int64)


def unknown(count):
    return np.full(count, -1, np.int64)


def lane(length):
    return np.zeros(length, np.int64)


@given(
    st.lists(st.lists(st.integers(0, 900_000), min_size=1, max_size=30), min_size=1, max_size=8),
    st.integers(0, 10 * MS),
    st.randoms(use_true_random=False),
)
def test_what_balances_is_paired_in_order_whatever_scoring_said(bursts, delay_ns, chance):
    """Equal packets in bursts, all late by up to ten milliseconds, as they came through one queue."""
    sent = np.concatenate([np.sort(burst) + number * 1000 * MS for number, burst in enumerate(bursts)])
    passed = np.maximum.accumulate(sent + delay_ns + np.array([chance.randint(0, 10_000) for _ in sent]))
    lanes = np.repeat(ints(3), len(sent))
    guesses = list(range(len(sent)))
    chance.shuffle(guesses)
    matched = match_lanes(lanes, sent, lanes, passed, ints(*guesses))
    assert (np.sort(matched) == np.arange(len(sent))).all()
    assert (passed[matched] == np.sort(passed)).all()


def test_losses_on_both_sides_of_a_transfer():
    """Equal packets, irregularly spaced, through a queue that fills and drains; 1 % lost on either side."""
    rng = np.random.default_rng(1)
    sent = np.cumsum(rng.exponential(120_000, 5000)).astype(np.int64)
    sent += np.repeat(np.arange(10) * 50 * MS, 500)
    queue = np.rint(MS * (1 - np.cos(np.arange(5000) / 100))).astype(np.int64)
    passed = np.maximum.accumulate(sent + 100_000 + queue + rng.integers(0, 20_000, 5000))
    here, there = (np.flatnonzero(rng.random(5000) >= 0.01) for _ in range(2))
    matched = match_lanes(lane(len(here)), passed[here], lane(len(there)), sent[there], unknown(len(here)))
    got = np.where(matched >= 0, there[matched], -1)
    both = np.isin(here, there)
    assert np.mean(got[both] == here[both]) > 0.97
    assert np.mean(got[~both] < 0) > 0.5


def test_a_burst_that_lost_a_packet_does_not_unsettle_its_neighbours():
    packets = ints(0, 10, 20, 100 * MS, 100 * MS + 10, 200 * MS)
    records = ints(5, 15, 25, 100 * MS + 5, 200 * MS + 5)
    matched = match_lanes(lane(6), packets, lane(5), records, ints(0, 1, 2, -1, 3, 4))
    assert matched.tolist() == [0, 1, 2, -1, 3, 4]


def test_records_of_flows_that_were_not_linked_are_passed_over():
    records = ints(100, 400, 900, 1000, 1500, 2200) * 1000
    others = ints(650, 1250, 1600) * 1000
    every = np.sort(np.concatenate((records, others)))
    matched = match_lanes(lane(6), records + 100_000, lane(9), every, unknown(6))
    assert every[matched].tolist() == records.tolist()


def test_a_block_too_large_is_cut_finer_and_then_left_to_scoring(monkeypatch):
    monkeypatch.setattr(pairing, "_MOST_CELLS", 3 * 35)
    packets = ints(0, 10, 20, 8 * MS, 8 * MS + 10)
    records = ints(5, 15, 25, 8 * MS + 5)
    matched = match_lanes(lane(5), packets, lane(4), records, ints(1, 0, -1, -1, -1))
    assert matched[:3].tolist() == [0, 1, -1]  # three are too many even so
    assert sorted(matched[3:].tolist()) == [-1, 3]


def test_lanes_do_not_mix():
    matched = match_lanes(ints(1, 2), ints(0, 0), ints(2, 1), ints(5, 6), unknown(2))
    assert matched.tolist() == [1, 0]


def test_no_record_serves_twice():
    """A finer cut gives a record to another packet than scoring did: the first stays without."""
    packets = ints(0, 3 * MS, 3 * MS + 1)
    records = ints(3 * MS + 2, 3 * MS + 3)
    matched = match_lanes(lane(3), packets, lane(2), records, ints(0, 1, -1))
    assert matched.tolist() == [-1, 0, 1]


def test_nothing():
    assert match_lanes(lane(0), lane(0), lane(0), lane(0), lane(0)).tolist() == []


@given(  # of equal records rounding chooses
    st.lists(st.integers(0, 2000), max_size=7, unique=True),
    st.lists(st.integers(0, 2000), max_size=7, unique=True),
    st.integers(0, 3),
)
def test_alignment_of_a_block(packets, records, before):
    """As the recursion says it; the block does not begin the arrays."""
    packets, records = sorted(packets), sorted(records)
    matched = unknown(before + len(packets))
    align_blocks(
        ints(*[0] * before, *packets), ints(*[0] * before, *records),
        ints(before, before + len(packets)), ints(before, before + len(records)),
        ints(20), 100.0, 8.0, matched,
    )  # fmt: skip
    assert matched[:before].tolist() == [-1] * before
    expected = [j if j < 0 else j + before for j in _aligned(packets, records)]
    assert matched[before:].tolist() == expected


def _aligned(packets, records, usual_ns=100.0):
    """Needleman and Wunsch, the last pair kept with each cell."""
    cell = {(0, 0): (0.0, None, ())}
    for i in range(len(packets) + 1):
        for j in range(len(records) + 1):
            ways = []
            if i and j:
                cost, pair, path = cell[i - 1, j - 1]
                delay = float(packets[i - 1] - records[j - 1])
                z = delay / usual_ns
                if pair:
                    z = (delay - pair[0]) / (usual_ns + FOLLOW * (packets[i - 1] - pair[1]))
                ways.append((cost + np.log1p(z * z), (delay, packets[i - 1]), (*path, j - 1)))
            if i:
                cost, pair, path = cell[i - 1, j]
                ways.append((cost + 8.0, pair, (*path, -1)))
            if j:
                cost, pair, path = cell[i, j - 1]
                ways.append((cost + 8.0, pair, path))
            if ways:
                cell[i, j] = min(ways, key=lambda way: way[0])
    return list(cell[len(packets), len(records)][2])


def _matched(packet_lane, packet_ns, record_lane, record_ns, likeliest, most_cells):
    """The rules of match_lanes, one block at a time."""
    left = sorted(
        [(lane, t, 0, n) for n, (lane, t) in enumerate(zip(packet_lane, packet_ns, strict=True))]
        + [(lane, t, 1, n) for n, (lane, t) in enumerate(zip(record_lane, record_ns, strict=True))]
    )
    matched, usual_ns = [-1] * len(packet_ns), None
    for quiet_ns in (20 * MS, 5 * MS, 2 * MS, 1 * MS):
        blocks, before = [], None
        for event in left:
            if before is None or event[0] != before[0] or event[1] - before[1] > quiet_ns:
                blocks.append(([], []))
            blocks[-1][event[2]].append(event)
            before = event
        if usual_ns is None:
            lone = [abs(p[0][1] - r[0][1]) for p, r in blocks if len(p) == len(r) == 1]
            usual_ns = max(float(np.median(lone)), 1e4) if lone else 1e5
        left = []
        for packets, records in blocks:
            n, m = len(packets), len(records)
            if (n + 1) * (abs(m - n) + 2 * min(16 + n // 64, 128) + 1) > most_cells:
                left += sorted(packets + records)
                continue
            for packet, j in zip(
                packets, _aligned([p[1] for p in packets], [r[1] for r in records], usual_ns), strict=True
            ):
                matched[packet[3]] = records[j][3] if j >= 0 else -1
    free = {record for _, _, is_record, record in left if is_record}
    known = [
        (lane, packet)
        for lane, _, is_record, packet in left
        if not is_record and likeliest[packet] in free and record_lane[likeliest[packet]] == lane
    ]
    for lane, mine in groupby(known, key=lambda pair: pair[0]):
        packets = [packet for _, packet in mine]
        chosen = sorted((record_ns[likeliest[p]], likeliest[p]) for p in packets)
        assert all(record_lane[record] == lane for _, record in chosen)
        for packet, (_, record) in zip(packets, chosen, strict=True):
            matched[packet] = record
    return matched


@pytest.mark.parametrize("most_cells", [70, 140, 1_000_000])
def test_as_its_rules_say_one_block_at_a_time(most_cells, monkeypatch):
    monkeypatch.setattr(pairing, "_MOST_CELLS", most_cells)
    rng = np.random.default_rng(most_cells)
    for _ in range(60):
        n = int(rng.integers(2, 40))
        ns = np.cumsum(MS * rng.choice([0.05, 0.3, 0.9, 1.6, 3, 6, 15, 25], n) * rng.uniform(0.8, 1.2, n))
        ns = ns.astype(np.int64)
        is_record, lanes = rng.random(n) < 0.5, rng.choice([7, 7, 7, 9], n)
        likeliest = rng.permutation(np.r_[np.arange(is_record.sum()), unknown(n)])[: n - is_record.sum()]
        order = rng.permutation(n)
        packet, record = order[~is_record[order]], order[is_record[order]]
        asked = lanes[packet], ns[packet], lanes[record], ns[record], likeliest
        assert match_lanes(*asked).tolist() == _matched(*asked, most_cells)


@pytest.mark.parametrize("quiet_ms", [20, 5, 2, 1])
def test_a_block_too_large_is_cut_where_it_is_quiet_for_longer(quiet_ms, monkeypatch):
    """Two pairs, whose delay is more than half of the pause between them; only one is small enough."""
    monkeypatch.setattr(pairing, "_MOST_CELLS", 2 * 33)
    delay = quiet_ms * 3 * MS // 5
    for longer, paired in ((1, [0, 1]), (0, [-1, -1])):
        second = delay + quiet_ms * MS + longer
        packets, records = ints(delay, second + delay), ints(0, second)
        assert match_lanes(lane(2), packets, lane(2), records, unknown(2)).tolist() == paired


@pytest.mark.parametrize(("n", "slack"), [(127, 17), (128, 18), (64 * 120, 128)])
def test_pairs_leave_the_diagonal_by_some_packets_more_in_long_blocks(n, slack):
    """The capture of one side begins that many packets later than the other's, and ends as much later."""
    rng = np.random.default_rng(n)
    sent = np.cumsum(MS * np.exp(rng.uniform(np.log(0.02), np.log(19), n + slack + 1))).astype(np.int64)
    for late in (slack, slack + 1):
        records, packets = sent[:n], sent[late : late + n] + 100_000
        right = np.where(np.arange(n) + late < n, np.arange(n) + late, -1)
        matched = match_lanes(lane(n), packets, lane(n), records, unknown(n))
        assert (matched.tolist() == right.tolist()) == (late == slack)


def test_a_packet_is_paired_in_the_lane_of_its_tunnel_direction_and_size():
    """Beside each record of the linked flows stand some of another tunnel, direction and size."""
    maps, map_of_tunnel = (LengthMap(24), LengthMap(32)), ints(0, 1, -1)
    flows = [  # tunnel, then of each packet: ms, size, up
        (0, [(10, 100, True), (20, 200, False), (30, 100, True)]),
        (1, [(10, 100, True), (20, 200, False), (40, 1500, True)]),
        (-1, [(50, 100, True), (50, 200, False)]),
        (2, [(60, 100, True)]),
    ]
    records, wanted = [], []
    for tunnel, packets in flows:
        for ms, size, up in packets:
            outer = size + (24, 32, 24, 24)[tunnel]
            known = 0 <= tunnel < 2 and size < 1500
            if size < 1500:
                wanted.append(len(records) if known else -1)
                records.append((ms * MS, max(tunnel, 0), up, outer))
                records += [(ms * MS + 1, max(tunnel, 0), not up, outer), (ms * MS + 1, 0, up, outer + 1)]
            else:
                wanted.append(-1)
    ts_ns, of, ups, sizes = (np.array(column) for column in zip(*records, strict=True))
    order = np.argsort(ts_ns, kind="stable")
    place = np.argsort(order)
    table = RecordTable(
        ts_ns[order], of[order].astype(np.int32), ups[order], sizes[order].astype(np.int32),
        unknown(len(ts_ns)), np.arange(len(ts_ns), dtype=np.int32),
    )  # fmt: skip
    every = [packet for _, packets in flows for packet in packets]
    egress = EgressRows(
        np.r_[0, np.cumsum([len(packets) for _, packets in flows])],
        np.arange(len(every), dtype=np.int32),
        ints(*[ms * MS + 100_000 for ms, _, _ in every]),
        np.array([size for _, size, _ in every], np.int32),
        np.array([up for _, _, up in every]),
    )
    case = SimpleNamespace(
        tunnels=SimpleNamespace(records=table), map_of_tunnel=map_of_tunnel, maps=maps, egress=egress
    )
    guess = unknown(len(every))
    guess[-1] = 3  # of a tunnel without a length map: what scoring said stays
    decision = SimpleNamespace(
        engine="packets", record=guess, tunnel=np.array([tunnel for tunnel, _ in flows], np.int32)
    )
    right = [int(place[n]) if n >= 0 else -1 for n in wanted]
    right[-1] = 3
    assert pair_in_order(case, decision).tolist() == right
    decision.engine = "exact"
    assert pair_in_order(case, decision).tolist() == guess.tolist()
    nothing = SimpleNamespace(engine="packets", record=guess, tunnel=np.full(len(flows), -1, np.int32))
    assert pair_in_order(case, nothing).tolist() == guess.tolist()


def test_a_block_too_large_keeps_what_scoring_said_by_row_of_the_table(monkeypatch):
    """Ten equal packets, a record each, of the second of two sizes: rows are those of the whole table."""
    monkeypatch.setattr(pairing, "_MOST_CELLS", 40)
    n = 10
    ts_ns = np.repeat(np.arange(n) * 100_000, 2)
    table = RecordTable(
        ts_ns, np.zeros(2 * n, np.int32), np.ones(2 * n, np.bool_), np.tile([90, 132], n).astype(np.int32),
        unknown(2 * n), np.arange(2 * n, dtype=np.int32),
    )  # fmt: skip
    egress = EgressRows(
        ints(0, n), np.arange(n, dtype=np.int32), ts_ns[::2] + 10, np.full(n, 100, np.int32), np.ones(n, bool)
    )
    case = SimpleNamespace(
        tunnels=SimpleNamespace(records=table), map_of_tunnel=ints(0), maps=(LengthMap(32),), egress=egress
    )
    guess = 2 * np.random.default_rng(1).permutation(n) + 1
    guess[4] = -1
    decision = SimpleNamespace(engine="packets", record=guess, tunnel=np.zeros(1, np.int32))
    found = pair_in_order(case, decision).tolist()
    assert found[4] == -1
    assert found[:4] + found[5:] == sorted(guess[guess >= 0].tolist())
