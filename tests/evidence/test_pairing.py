"""Packets and records of a lane, paired in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.evidence import pairing
from vpnforensics.evidence._pairing_kernels import FOLLOW, align_blocks
from vpnforensics.evidence.pairing import match_lanes

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


def _aligned(packets, records):
    """Needleman and Wunsch, the last pair kept with each cell."""
    cell = {(0, 0): (0.0, None, ())}
    for i in range(len(packets) + 1):
        for j in range(len(records) + 1):
            ways = []
            if i and j:
                cost, pair, path = cell[i - 1, j - 1]
                delay = float(packets[i - 1] - records[j - 1])
                z = delay / 100.0
                if pair:
                    z = (delay - pair[0]) / (100.0 + FOLLOW * (packets[i - 1] - pair[1]))
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
