"""Packets and records of a lane, paired in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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
    passed = np.maximum.accumulate(sent + delay_ns + np.array([chance.randint(0, MS) for _ in sent]))
    lanes = np.repeat(ints(3), len(sent))
    guesses = list(range(len(sent)))
    chance.shuffle(guesses)
    matched = match_lanes(lanes, sent, lanes, passed, ints(*guesses))
    assert (np.sort(matched) == np.arange(len(sent))).all()
    assert (passed[matched] == np.sort(passed)).all()


def test_a_burst_that_lost_a_packet_does_not_unsettle_its_neighbours():
    packets = ints(0, 10, 20, 100 * MS, 100 * MS + 10, 200 * MS)
    records = ints(5, 15, 25, 100 * MS + 5, 200 * MS + 5)
    matched = match_lanes(lane(6), packets, lane(5), records, ints(0, 1, 2, -1, 3, 4))
    assert matched.tolist() == [0, 1, 2, -1, 3, 4]


def test_records_of_flows_that_were_not_linked_are_left_where_scoring_left_them():
    matched = match_lanes(lane(2), ints(0, 10), lane(3), ints(3, 5, 15), ints(2, 1))
    assert matched.tolist() == [1, 2]  # in order now, and the first record remains free


def test_a_block_that_does_not_balance_is_cut_finer():
    packets = ints(0, 10, 8 * MS, 8 * MS + 10)
    records = ints(5, 15, 8 * MS + 5)
    matched = match_lanes(lane(4), packets, lane(3), records, ints(1, 0, -1, 2))
    assert matched.tolist() == [0, 1, -1, 2]


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
