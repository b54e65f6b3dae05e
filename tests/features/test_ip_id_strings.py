import numpy as np
import pytest

from vpnforensics.features.ip_id_strings import shared_counters, weigh_members


def hosts(rng, count, packets=400, flows=5, seconds=60.0, other=0.5):
    """Counters of several hosts behind one address, each with its flows."""
    t = np.sort(rng.integers(0, int(seconds * 1e9), packets))
    host = rng.integers(0, count, packets)
    ids = np.empty(packets, np.int64)
    for h in range(count):
        mine = host == h
        ids[mine] = h * (65_536 // count) + 100 + np.cumsum(1 + rng.poisson(other, mine.sum()))
    return t, ids % 65_536, host * flows + rng.integers(0, flows, packets), host


@pytest.mark.parametrize("count", [1, 3, 6])
def test_hosts_behind_one_address_are_counted(count):
    rng = np.random.default_rng(count)
    t, ids, flow, host = hosts(rng, count)
    found = shared_counters(0 * t, t, ids, flow)
    assert found.hosts == count
    for string in range(count):
        assert len(np.unique(host[found.string_of_packet == string])) == 1
    assert found.llr.min() > 4


def test_counters_by_socket_are_not_shared():
    rng = np.random.default_rng(0)
    joined = 0
    for _ in range(20):
        flow = rng.integers(0, 30, 1500)
        t = np.sort(rng.integers(0, 60_000_000_000, 1500))
        ids = np.empty(1500, np.int64)
        for f in range(30):
            ids[flow == f] = rng.integers(0, 65_536) + np.arange((flow == f).sum())
        found = shared_counters(0 * t, t, ids % 65_536, flow)
        joined += int(np.sum(found.llr > 3.5)) + int(np.sum(found.joints.llr > 3.5))
    assert joined <= 2, "600 flows; one in a hundred may meet a stranger"


def test_random_ids_share_nothing():
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 60_000_000_000, 3000))
    found = shared_counters(0 * t, t, rng.integers(1, 65_536, 3000), rng.integers(0, 60, 3000))
    assert not np.any(found.llr > 3.5)
    assert not np.any(found.joints.llr > 3.5)


def test_pools_are_kept_apart():
    t = np.arange(100) * 10**8
    ids = np.arange(100) + 7
    found = shared_counters(np.arange(100) % 2, t, ids, np.arange(100) % 2)
    assert len(found.flow) == 0
    assert found.hosts == 2


def test_zero_is_no_id():
    t = np.arange(20) * 10**8
    found = shared_counters(0 * t, t, 0 * t, t)
    assert found.hosts == 0
    assert found.string_of_packet.tolist() == [-1] * 20


def test_weight_is_what_the_whole_sequence_says():
    """The difference of description lengths, computed from whole sequences."""
    from vpnforensics.features.gap_law import LOG_CHANCE, best_scale, step_log_p

    rng = np.random.default_rng(4)
    member = rng.integers(0, 3, 60)
    ids = np.cumsum(rng.choice([1, 2, 5], 60)) + 500
    members, packets, llr = weigh_members(member, ids, np.ones(60, np.int64))
    scale = best_scale(np.diff(ids))[0]

    def length(values):
        return LOG_CHANCE + step_log_p(np.diff(values), scale).sum() if len(values) else 0.0

    for m, n, value in zip(members, packets, llr, strict=True):
        apart = length(ids[member == m]) + length(ids[member != m])
        assert value * np.log(10) == pytest.approx(length(ids) - apart)
        assert n == np.sum(member == m)
