from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tunnels.streams import Talk
from vpnforensics.tunnels import _kernels
from vpnforensics.tunnels.reassembly import reassemble_streams

BASE = 2**32 - 700  # sequence numbers wrap inside every stream
LENGTH = 2000


def pieces_of(talk):
    return reassemble_streams(talk.from_table(), np.array([0]))


def twin(segments):
    """First arrival of every byte, and the arrival that made all before it known: the slow way."""
    first, delivered = {}, {}
    reached = 0
    for i, (at, size) in enumerate(segments):
        for byte in range(at, at + size):
            first.setdefault(byte, i)
        while reached in first:
            delivered[reached] = i
            reached += 1
    return first, delivered, reached


segment = st.tuples(st.integers(0, LENGTH - 1), st.integers(1, 400)).map(
    lambda s: (s[0], min(s[1], LENGTH - s[0]))
)


@settings(max_examples=150)
@given(st.lists(segment, min_size=1, max_size=60))
def test_delivery_is_what_a_byte_by_byte_reassembly_gives(segments):
    talk = Talk()
    talk.syn(seqs=(BASE - 1, 0))
    for at, size in segments:
        talk.segment(True, BASE + at, bytes(size))
    found = pieces_of(talk)
    first, delivered, reached = twin(segments)
    assert found.begun[0]
    covered = {}
    for k in np.flatnonzero(found.stream == 0):
        for byte in range(found.pos[k], found.pos[k] + found.size[k]):
            assert byte not in covered
            covered[byte] = k
    assert set(covered) == set(first)
    for byte, k in covered.items():
        at, size = segments[found.row[k] - 2]
        assert at + found.skip[k] == found.pos[k]
        assert at <= byte < at + size
        if byte < reached:
            assert found.done[k] - 2 == delivered[byte]
    assert np.all(np.diff(found.ready) >= 0)
    assert found.holes_bytes[0] == max(first) + 1 - len(first)


def test_a_hole_of_the_capture_delays_nothing():
    talk = Talk()
    talk.syn(seqs=(BASE - 1, 0))
    talk.segment(True, BASE, bytes(100))
    talk.segment(True, BASE + 200, bytes(100))  # 100 bytes before it were not captured
    for k in range(40):
        talk.segment(False, 1, b"", ack=BASE + 300 + k)
        talk.segment(True, BASE + 300 + 10 * k, bytes(10))
    found = pieces_of(talk)
    assert found.holes_bytes[0] == 100
    late = found.pos >= 200
    assert np.array_equal(found.done[late], found.row[late])


def test_a_retransmission_that_fills_a_hole_delivers_what_waited():
    talk = Talk()
    talk.syn(seqs=(BASE - 1, 0))
    for at in (0, 200, 300, 100, 100, 400):
        talk.segment(True, BASE + at, bytes(100))
    found = pieces_of(talk)
    assert found.pos.tolist() == [0, 100, 200, 300, 400]
    assert (found.done - 2).tolist() == [0, 3, 3, 3, 5]
    assert not found.holes_bytes.any()


def test_holes_that_follow_each_other_are_each_waited_for():
    """Jitter: at any time something acknowledged is still to come, but nothing is for long."""
    talk = Talk()
    talk.syn(seqs=(BASE - 1, 0))
    for k in range(1, 200, 2):
        for part in (k, k - 3) if k > 3 else (k,):
            talk.segment(True, BASE + 100 * part, bytes(100), step_s=0.005)
            talk.segment(False, 1, b"", ack=(BASE + 100 * (k + 1)) % 2**32, step_s=0.005)
        if k == 3:
            talk.segment(True, BASE, bytes(100))
    talk.segment(True, BASE + 100 * 198, bytes(100))
    found = pieces_of(talk)
    assert found.size[found.stream == 0].sum() == 20_000
    assert not found.holes_bytes.any()


def test_a_stream_may_begin_in_the_middle():
    talk = Talk()
    talk.segment(False, 77, bytes(10))
    talk.segment(True, 500, bytes(10))
    talk.segment(False, 87, bytes(5))
    found = pieces_of(talk)
    assert not found.begun.any()
    assert sorted(found.pos.tolist()) == [0, 0, 10]


@pytest.mark.parametrize("seed", range(3))
def test_hostile_sequence_numbers_are_bounded_work(seed):
    rng = np.random.default_rng(seed)
    n = 20_000
    side, pos, size, skip, row, done, ready, _ = _kernels.reassemble(
        np.sort(rng.integers(0, 10**12, n)),
        rng.random(n) < 0.5,
        rng.integers(0, 2**32, n).astype(np.uint32),
        rng.integers(0, 2**32, n).astype(np.uint32),
        rng.integers(0, 256, n).astype(np.uint16),
        rng.integers(0, 65536, n).astype(np.int32),
    )
    assert len(pos) <= n
    assert (size > 0).all()
    assert (skip >= 0).all()
    for s in (0, 1):
        mine = side == s
        ends = pos[mine] + size[mine]
        assert np.all(pos[mine][1:] >= ends[:-1])
    assert ((row >= 0) & (row < n) & (done >= 0) & (done < n) & (ready < n)).all()
