"""Packets on disk by spans of time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.groundtruth.simulate import frames
from vpnforensics.groundtruth.simulate.spec import Capture
from vpnforensics.groundtruth.simulate.surroundings import Records
from vpnforensics.groundtruth.simulate.tape import BINS, Tape, spans


def records(times, first):
    """A packet a time, whose content is its number and its number again."""
    rows = np.zeros(len(times), frames.RECORD)
    numbers = np.arange(first, first + len(times))
    rows["ts_ns"], rows["seq"], rows["proto"], rows["length"] = times, numbers, 6, 100
    rows["content"], rows["content_length"] = np.arange(len(times)) * 2, 2
    return Records(rows, np.repeat(numbers, 2).astype(np.uint8))


def test_spans_hold_every_packet_once_in_order_with_its_content(tmp_path):
    random = np.random.default_rng(3)
    tape = Tape(tmp_path / "tape", 3, 1000 * BINS)
    tape.create()
    # Part 1 has nothing; some stamps are later than the end; many are equal.
    times = {0: random.integers(0, 1000 * BINS + 5000, 90) // 50_000 * 50_000, 2: random.integers(0, 900, 60)}
    bytes_of = sum(tape.put(part, records(at, 100 * (part > 0)), Capture()) for part, at in times.items())
    assert tape.put(1, records([], 0), Capture()).sum() == 0
    assert tape.packets().sum() == 150
    assert bytes_of[tape.packets() > 0].min() > 0
    assert bytes_of.sum() == 150 * (16 + 14 + 20 + 20 + 100)
    cut = spans(tape.packets(), 20)
    assert len(cut) > 3
    wanted = sorted(
        (int(at), part, 100 * (part > 0) + n) for part, those in times.items() for n, at in enumerate(those)
    )
    found = []
    for span in cut:
        some = tape.read(*span)
        for i in np.argsort(some.rows["ts_ns"], kind="stable"):
            row = some.rows[i]
            assert some.content[row["content"] : row["content"] + 2].tolist() == [row["seq"]] * 2
            found.append((int(row["ts_ns"]), int(row["seq"] >= 100) * 2, int(row["seq"])))
    assert found == wanted


def test_content_that_is_not_captured_is_not_kept(tmp_path):
    tape = Tape(tmp_path / "tape", 1, 1000)
    tape.create()
    made = records([5, 1], 7)
    made.rows["length"] = made.rows["content_length"] = 4
    made.rows["content"] = 0
    tape.put(0, made, Capture(snaplen=3))
    assert len(tape.read(0, BINS).content) == 6


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 12))
def test_spans_are_all_bins_in_order_and_no_larger_than_asked(packets, most):
    found = spans(np.array(packets), most)
    assert [first for first, _ in found[1:]] == [last for _, last in found[:-1]]
    assert sum(sum(packets[first:last]) for first, last in found) == sum(packets)
    assert all(sum(packets[first:last]) <= most or last == first + 1 for first, last in found)
