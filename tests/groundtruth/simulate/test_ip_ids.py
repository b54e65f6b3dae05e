"""IP ID classes, each against its law."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.groundtruth.simulate.ip_ids import ip_ids
from vpnforensics.groundtruth.simulate.spec import IpIdModel

N = 4000
RNG = np.random.default_rng(5)
SENT = np.sort(RNG.integers(0, 60_000_000_000, N))
FLOW = RNG.integers(0, 12, N)
PEER = FLOW // 3
TCP = RNG.random(N) < 0.7


def ids(kind, other_hz=0.0, udp=None, sent=SENT):
    model = IpIdModel(kind, udp or kind, other_hz)
    return ip_ids(model, sent, TCP, FLOW, PEER, np.random.default_rng(1)).astype(np.int64)


def steps(values, key):
    return np.concatenate([np.diff(values[key == k]) % 65536 for k in np.unique(key)])


def test_zero_constant_random():
    assert (ids("zero") == 0).all()
    assert len(set(ids("constant"))) == 1
    assert ids("constant")[0] > 0
    random = ids("random")
    assert len(set(random)) > 0.9 * N
    assert abs(np.corrcoef(random[1:], random[:-1])[0, 1]) < 0.06


def test_global_counter_is_shared_by_all_and_skips_what_is_unseen():
    assert (steps(ids("global"), np.zeros(N)) == 1).all()
    gaps = steps(ids("global", other_hz=50.0), np.zeros(N))
    assert abs(gaps.mean() - (1 + 50.0 * 60 / N)) < 0.1
    assert gaps.min() == 1


def test_byte_swapped_counts_after_swapping():
    values = ids("byte_swapped")
    swapped = (values >> 8) | ((values & 255) << 8)
    assert (np.diff(swapped) % 65536 == 1).all()
    assert not (np.diff(values) % 65536 == 1).mean() > 0.5


@pytest.mark.parametrize(("kind", "key"), [("per_flow", FLOW), ("per_destination", PEER)])
def test_counters_of_a_scope(kind, key):
    values = ids(kind)
    assert (steps(values, key) == 1).all()
    assert len({values[key == k][0] for k in np.unique(key)}) == len(np.unique(key))


def test_bucket_jumps_grow_with_idle_time():
    key = PEER * 2 + TCP
    values = ids("bucket")
    jumps, idle = [], []
    for k in np.unique(key):
        jumps.append(np.diff(values[key == k]) % 65536 - 1)
        idle.append(np.diff(SENT[key == k] // 4_000_000))
    jumps, idle = np.concatenate(jumps), np.concatenate(idle)
    assert (jumps >= 0).all()
    assert (jumps <= np.maximum(idle, 0)).all()
    long = idle > 20
    assert abs((jumps[long] / idle[long]).mean() - 0.5) < 0.05
    busy = ids("bucket", sent=np.arange(N) * 1000)
    assert (steps(busy, key) == 1).mean() > 0.95


def test_tcp_and_the_rest_may_differ():
    values = ids("per_flow", udp="zero")
    assert (values[~TCP] == 0).all()
    assert (steps(values[TCP], FLOW[TCP]) == 1).all()


def test_order_of_the_rows_does_not_matter():
    shuffled = np.random.default_rng(9).permutation(N)
    model = IpIdModel("global", "global", 0.0)
    again = ip_ids(
        model, SENT[shuffled], TCP[shuffled], FLOW[shuffled], PEER[shuffled], np.random.default_rng(1)
    )
    assert (np.diff(again[np.argsort(SENT[shuffled], kind="stable")].astype(np.int64)) % 65536 == 1).all()


def test_nothing_sent():
    empty = np.empty(0, np.int64)
    assert len(ip_ids(IpIdModel("bucket", "global"), empty, empty > 0, empty, empty, RNG)) == 0
