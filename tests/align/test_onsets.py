"""Clocks from the beginnings of writes: right, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.align.test_relays import relayed
from vpnforensics.align.onsets import align_by_onsets, onsets
from vpnforensics.tunnels.carriers import find_carriers
from vpnforensics.tunnels.find import find_tunnels
from vpnforensics.tunnels.writes import find_writes


def aligned(outer, flows):
    carriers = find_carriers(outer, find_tunnels(outer))
    return align_by_onsets(carriers, flows, find_writes(flows), np.random.default_rng(0))


@pytest.mark.parametrize("offset_s", [0.0, -86_400.5, 4393.217])
def test_an_offset_is_found_whatever_the_sizes(offset_s):
    found = aligned(*relayed(1, frame=77, offset_s=offset_s))
    assert found.usable
    assert abs(found.offset_ns - offset_s * 1e9) < 2e6


def test_two_captures_of_other_things_have_no_offset():
    outer, _ = relayed(2, frame=77)
    _, flows = relayed(3, frame=77)
    assert not aligned(outer, flows).usable


def test_few_onsets_are_refused():
    found = aligned(*relayed(4, frame=77, clients=1, flows=1))
    assert not found.usable
    assert found.reason


def test_an_onset_follows_silence_of_its_own_direction():
    outer, _ = relayed(5, frame=34, clients=1, flows=1)
    writes = find_writes(outer)
    begins = onsets(writes)
    assert begins.tolist()[0] == 0
    gaps = writes.first_ns[1:] - writes.last_ns[:-1]
    same = writes.up[1:] == writes.up[:-1]
    assert len(begins) == 1 + int((~same | (gaps > 30_000_000)).sum())
