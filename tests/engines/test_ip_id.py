import dataclasses
from itertools import pairwise
from math import log

import numpy as np
import pytest

from tests.engines import cases
from vpnforensics.engines import ip_id
from vpnforensics.engines.upstream import Upstream
from vpnforensics.features.gap_law import LOG_CHANCE, best_scale
from vpnforensics.groundtruth.simulate.run import simulate


def made(stack, protocol, clients, seed, folder):
    truth = simulate(cases.clients_of_one_stack(stack, protocol, clients, seed), folder, seed)
    return cases.case_of(folder, truth)


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    return made("windows-7", "openvpn-tcp", 20, 1, tmp_path_factory.mktemp("windows"))


def check(case, owner):
    linked = cases.best_alone(ip_id.score(case), len(owner))
    long = (case.flows.packets_up + case.flows.packets_down >= 10) & (owner >= 0)
    assert np.mean(linked[long] == owner[long]) >= 0.99
    assert not np.any((linked >= 0) & (linked != owner))


def test_a_shared_counter_links_alone(windows):
    check(*windows)


@pytest.mark.parametrize(("stack", "protocol"), [("printer", "openvpn-tcp"), ("windows-7", "wireguard")])
def test_swapped_bytes_and_datagrams(stack, protocol, tmp_path):
    check(*made(stack, protocol, 10, 2, tmp_path))


@pytest.mark.parametrize("stack", ["linux", "linux-next", "windows", "macos", "openbsd", "constant-id"])
def test_counters_of_their_own_link_nothing(stack, tmp_path):
    case, owner = made(stack, "openvpn-tcp", 8, 3, tmp_path)
    found = ip_id.score(case)
    assert not np.any(found.score > 3)
    assert found.silence
    assert np.all(cases.best_alone(found, len(owner)) == -1)


def test_turned_copies_score_little(windows):
    case, _ = windows
    high = []
    for turn in (0.15, 0.28, 0.43, 0.63, 0.78):
        moved, away = case.turned(turn)
        found = ip_id.score(moved)
        high.append(found.score[away[found.flow]])
    assert np.sum(np.concatenate(high) > 3.5) <= 2, "2000 turned flows against 20 tunnels"


def test_scores_do_not_depend_on_other_candidates(windows):
    case, _ = windows
    every = ip_id.score(case)
    few = ip_id.score(dataclasses.replace(case, tunnels=case.tunnels.select(np.arange(20) < 7)))
    expected = {(f, t): s for f, t, s in zip(every.flow, every.tunnel, every.score, strict=True) if t < 7}
    assert dict(zip(zip(few.flow, few.tunnel, strict=True), few.score, strict=True)) == expected


def test_profiles_of_outer_ids(windows):
    case, _ = windows
    assert all(p.scope is not None for p in case.outer_ip_ids)


S = 1_000_000_000


def sent(*senders):
    """Packets of some senders: (ns, IP ID) each, in order of time."""
    start = np.r_[0, np.cumsum([len(packets) for packets in senders])]
    ts_ns, ids = (np.array([p[k] for packets in senders for p in packets], np.int64) for k in (0, 1))
    return Upstream(start, ts_ns, np.arange(len(ts_ns))), ids


def signed(step):
    return (step + 32_768) % 65_536 - 32_768


def weighed(outer, inner):
    """Both hypotheses in words: one counter that the outer packets draw from, too, or one of its own."""
    taken = [n for _, n in outer]
    values, together = [], 0.0
    for at, number in inner:
        last = max([i for i, (t, _) in enumerate(outer) if t <= at + 2_000_000], default=0)
        first = max(min([i for i, (t, _) in enumerate(outer) if t >= at - S] + [len(outer)]) - 1, 0)
        ahead = signed(number - taken[last])
        values.append(taken[last] + ahead)
        if ahead > 16 or values[-1] < taken[min(first, last)] - 16:
            together += log(0.02)  # nothing of this counter
        if values[-1] in taken:
            together += log(0.001)  # an outer packet has it
        if len(values) == 1:
            behind = abs(ahead) + 1
            together += log(4 / ((7 + behind) * (8 + behind)) + 0.02 / 65_536)
    steps = [signed(b - a) for (_, a), (_, b) in pairwise(inner)]
    free = []
    for step, (low, high) in zip(steps, pairwise(values), strict=True):
        between = sum(low < n < high for n in set(taken)) if high - low == step > 0 else 0
        free.append(step - between)
    together += best_scale(np.array(free, np.int64))[1]
    own = best_scale(np.array(steps, np.int64))[1]
    return (together - LOG_CHANCE - max(own, len(steps) * LOG_CHANCE)) / log(10)


def test_a_pair_is_weighed_as_one_counter_against_two():
    rng = np.random.default_rng(4)
    for _ in range(60):
        counter = np.cumsum(rng.integers(1, 6, 60)) + rng.integers(0, 65_000)
        times = np.sort(rng.integers(0, 4 * S, 60))
        drawn = rng.random(60) < 0.7
        outer = list(zip(times[drawn].tolist(), counter[drawn].tolist(), strict=True))
        inner = list(
            zip((times[~drawn] + rng.integers(0, S // 5)).tolist(), counter[~drawn].tolist(), strict=True)
        )
        stray = rng.random(len(inner)) < 0.15
        inner = [
            (t, int(n + (rng.integers(-400, 400) if odd else 0)) % 65_536)
            for (t, n), odd in zip(inner, stray, strict=True)
        ]
        (ts_ns, line), (at_ns, ids) = (np.array(side, np.int64).T for side in (outer, inner))
        found = ip_id._weigh(ts_ns, line, np.unique(line), at_ns, ids)
        assert found == pytest.approx(weighed(outer, inner))


def test_pairs_worth_weighing_have_three_in_ten_of_their_first_packets_near():
    """Near is the same bin of 32 values or one beside, in the same half second or the two before."""
    rng = np.random.default_rng(5)
    for _ in range(30):
        tunnels = [
            sorted(
                (int(t), int(n))
                for t, n in zip(rng.integers(0, 4 * S, 25), rng.integers(0, 900, 25), strict=True)
            )
            for _ in range(3)
        ]
        flows = [
            sorted(
                (int(t), int(n) % 65_536)
                for t, n in zip(rng.integers(0, 5 * S, k), rng.integers(-99, 999, k), strict=True)
            )
            for k in (1, 4, 10, 30)
        ]
        (outer, line), (inner, ids) = sent(*tunnels), sent(*flows)
        swapped = np.array([False, True, False])
        counters = ip_id.OuterCounters(outer, line, line, swapped, {})
        wanted = []
        for f, flow in enumerate(flows):
            first = flow[:16]
            for t, tunnel in enumerate(tunnels):
                hits = 0
                for at, n in first:
                    n = (n >> 8 | n << 8) & 0xFFFF if swapped[t] else n
                    hits += any(
                        0 <= at // (S // 2) - s // (S // 2) <= 2 and (n // 32 - m // 32 + 1) % 2048 <= 2
                        for s, m in tunnel
                    )
                if hits >= max(0.3 * len(first), 1):
                    wanted.append((f, t))
        assert list(zip(*ip_id._pairs(counters, inner, ids), strict=True)) == wanted
