"""Heads of payloads: which are made anew each time, and which two sides have alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.align.payload_heads import (
    HEAD_BYTES,
    PayloadHeads,
    alike_beside,
    first_places,
    holders,
    never_twice,
    number_heads,
)


def some_heads(texts, *, up=True):
    head = np.array([list(text.ljust(HEAD_BYTES, b".")) for text in texts], np.uint8)
    count = np.arange(len(texts))
    return PayloadHeads(count, count, np.full(len(texts), up), count + HEAD_BYTES, head)


def test_equal_heads_of_one_direction_have_one_number():
    outer, inner = some_heads([b"a", b"b", b"a"]), some_heads([b"b", b"c", b"a"])
    mine, theirs, numbers = number_heads(outer, inner)
    assert numbers == 3
    assert mine[0] == mine[2] == theirs[2]
    assert mine[1] == theirs[0]
    assert len({*mine.tolist(), *theirs.tolist()}) == 3
    assert number_heads(outer, some_heads([b"a"], up=False))[2] == 3


def test_holders_count_each_conversation_once_and_first_places_are_the_earliest():
    number, of = np.array([2, 0, 2, 2]), np.array([7, 7, 8, 7])
    assert holders(number, of, 4).tolist() == [1, 0, 2, 0]
    assert first_places(number, 4).tolist() == [1, -1, 0, -1]


numbers_and_times = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=60)


@given(numbers_and_times, numbers_and_times, st.integers(0, 9), st.integers(0, 9))
def test_alike_within_bounds(mine, theirs, before, behind):
    number, ns = np.array(mine).T
    other, other_ns = np.array(theirs).T
    found = alike_beside(number, ns - before, ns + behind, other, other_ns)
    expected = []
    for n, (what, at) in enumerate(mine):
        near = [m for m, (w, t) in enumerate(theirs) if w == what and at - before <= t <= at + behind]
        expected += [(n, m) for m in near] if len(near) <= 16 else []
    assert sorted(zip(*(side.tolist() for side in found), strict=True)) == expected


@pytest.mark.parametrize(
    ("begins", "made_anew"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", True),
        (b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03", True),
        (b"\x16\x03\x03\x03\xe8\x0b\x00\x03\xe4\x00\x03", False),  # a certificate
        (b"\x17\x03\x03\x01\x00", True),
        (b"\x15\x03\x03\x00\x1a", False),
        (b"\x17\x02\x03\x01\x00", False),
        (b"\x17\x03\x07\x01\x00", False),
        (b"\x00\x00\x05\xdc\x06\x14", True),  # KEXINIT
        (b"\x00\x00\x05\xdc\x06\x1e", False),
        (b"\x01\x00\x05\xdc\x06\x14", False),
        (b"", False),
    ],
)
def test_what_is_made_anew_each_time(begins, made_anew):
    rng = np.random.default_rng(4)
    head = np.frombuffer(begins + rng.bytes(24 - len(begins)), np.uint8)[None]
    assert never_twice(head).tolist() == [made_anew]
    flat = np.frombuffer(begins.ljust(24, b"\x99"), np.uint8)[None]
    assert never_twice(flat).tolist() == [False]
    text = np.frombuffer(begins + b"abcdefghijklmnopqrstuvwx"[len(begins) :], np.uint8)[None]
    assert never_twice(text).tolist() == [False]
