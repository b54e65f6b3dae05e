"""Writes against a slow twin, and on what captures do to streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables import table, tcp
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.writes import find_writes

FULL = 1448
ACK, PSH = 0x10, 0x18
CLIENT, SERVER = ("10.0.0.2", 40000), ("10.0.0.1", 8388)


def conversation(segments, *, opened=True):
    """Segments as (up, sequence number from 0, bytes, PSH, time in s); with the connection's SYNs or not."""
    rows = []
    if opened:
        rows += [tcp(0.0, *CLIENT, *SERVER, 0x02, seq=999), tcp(0.001, *SERVER, *CLIENT, 0x12, seq=4999)]
    for up, seq, size, push, ts in segments:
        ends = (CLIENT, SERVER) if up else (SERVER, CLIENT)
        base = 1000 if up else 5000
        rows.append(
            tcp(
                ts, *ends[0], *ends[1], PSH if push else ACK,
                seq=base + seq, payload_bytes=size, ip_len_bytes=size + 40,
            )
        )  # fmt: skip
    return assemble_flows(table(rows), idle_tcp_s=np.inf, idle_other_s=np.inf)


def in_turn(sizes, *, up=True, step_s=0.001, begin_s=0.01):
    at, rows = 0, []
    for n, (size, push) in enumerate(sizes):
        rows.append((up, at, size, push, begin_s + n * step_s))
        at += size
    return rows


def twin(sizes):
    """Write sizes of a stream without damage, segment by segment."""
    largest = max(size for size, _ in sizes)
    out, sofar = [], 0
    for size, push in sizes:
        sofar += size
        if push or largest < 500 or size < largest:
            out.append(sofar)
            sofar = 0
    return out + ([sofar] if sofar else [])


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from([1, 30, 200, 700, FULL]), st.booleans()), min_size=1, max_size=40))
def test_a_write_ends_at_psh_or_at_a_segment_that_is_not_full(sizes):
    writes = find_writes(conversation(in_turn(sizes)))
    assert writes.size.tolist() == twin(sizes)
    assert writes.position.tolist() == [0, *np.cumsum(twin(sizes))[:-1].tolist()]
    assert writes.whole.all()
    assert writes.opens.tolist() == [True] + [False] * (len(writes) - 1)
    assert writes.segments.sum() == len(sizes)


def test_directions_stand_apart_and_times_are_those_of_first_and_last_byte():
    up = in_turn([(FULL, False), (FULL, False), (100, True)])
    writes = find_writes(conversation([*up, *in_turn([(50, True)], up=False, begin_s=0.02)]))
    assert writes.up.tolist() == [True, False]
    assert writes.size.tolist() == [2 * FULL + 100, 50]
    assert writes.first_ns.tolist() == [10_000_000, 20_000_000]
    assert writes.last_ns.tolist() == [12_000_000, 20_000_000]
    assert writes.opens.tolist() == [True, True]
    assert writes.start.tolist() == [0, 2]


def test_a_pause_parts_what_a_window_held_back():
    up = [(True, 0, FULL, False, 0.01), (True, FULL, FULL, False, 0.2), (True, 2 * FULL, 9, True, 0.2001)]
    assert find_writes(conversation(up)).size.tolist() == [FULL, FULL + 9]


def test_retransmissions_add_nothing_and_what_waited_was_written_when_the_hole_was_filled():
    up = [
        (True, 0, FULL, False, 0.01),
        (True, 0, FULL, False, 0.011),
        (True, 2 * FULL, 100, True, 0.012),
        (True, FULL, FULL, False, 0.013),
        (True, 2 * FULL, 100, True, 0.02),
    ]
    writes = find_writes(conversation(up))
    assert writes.size.tolist() == [2 * FULL + 100]
    assert writes.last_ns.tolist() == [13_000_000]
    assert writes.whole.all()


def test_writes_beside_a_hole_are_not_whole():
    sizes = [(FULL, False), (FULL, False), (100, True), (70, True), (80, True)]
    rows = in_turn(sizes)
    del rows[1]
    rows.append((False, 0, 5, True, 0.03))
    writes = find_writes(conversation(rows))
    upward = writes.up
    assert writes.size[upward].tolist() == [FULL, 100, 70, 80]
    assert writes.whole[upward].tolist() == [False, False, True, True]


@pytest.mark.parametrize("opened", [True, False])
def test_a_stream_joined_in_its_middle_does_not_open(opened):
    writes = find_writes(conversation(in_turn([(100, True), (200, True)]), opened=opened))
    assert writes.opens.any() == opened
    assert writes.whole.tolist() == [opened, True]


def test_only_conversations_asked_for_have_writes():
    flows = conversation(in_turn([(100, True)]))
    none = find_writes(flows, np.zeros(0, np.int64))
    assert len(none) == 0
    assert none.start.tolist() == [0, 0]
    assert len(find_writes(flows).take(np.zeros(1, np.bool_))) == 0
