"""The parts of the IP-ID engine on packets made by hand, each against its rule in words."""

from itertools import pairwise
from math import log
from types import SimpleNamespace

import numpy as np
import pytest

from tests.tables import table, tcp, udp
from vpnforensics.align.alignment import same_clock
from vpnforensics.engines import ip_id
from vpnforensics.engines.scores import Pairs
from vpnforensics.engines.upstream import Upstream
from vpnforensics.features.gap_law import LOG_CHANCE, best_scale
from vpnforensics.features.ip_id import IpIdProfile
from vpnforensics.flows.assemble import assemble_flows

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


def profile(scope, *, swapped=False, reason=""):
    return IpIdProfile("unknown" if scope is None else "per_flow", 40, reason, scope, swapped)


def whole_case(*, swapped=False):
    """Client 0 has one counter: each inner packet, then its outer one. Client 1 counts, far away; 2 does not.

    Flows: of client 0 (12 packets), one with a counter of its own, one without IDs.
    """
    outer, inner = [], []

    def swap(value):
        value &= 0xFFFF
        return (value >> 8 | value << 8) & 0xFFFF if swapped else value

    for k in range(40):
        t = 1.0 + k / 10
        for client, value in enumerate((65_503 + 2 * k, 30_000 + k, 7 * k * k % 60_000)):
            mine = {"ip_id": swap(value) if client < 2 else value}
            outer.append(udp(t, f"198.51.100.{client + 1}", 51_820, "203.0.113.1", 51_820, **mine))
        outer.append(udp(t + 0.001, "203.0.113.1", 51_820, "198.51.100.1", 51_820, ip_id=9))
    for k in range(12):
        t = 1.2 + k / 5
        value = 65_503 + 2 * round((t - 1.0) * 10) - 1
        inner.append(tcp(t, "203.0.113.1", 11, "192.0.2.1", 443, ip_id=swap(value)))
        inner.append(tcp(t + 0.01, "203.0.113.1", 12, "192.0.2.2", 443, ip_id=12_000 + k))
        inner.append(tcp(t + 0.02, "203.0.113.1", 13, "192.0.2.3", 443, ip_id=0))
    conversations, flows = (
        assemble_flows(table(sorted(rows, key=lambda row: row["ts_ns"]))) for rows in (outer, inner)
    )
    up = [np.flatnonzero(conversations.up & (conversations.flow == c)) for c in range(3)]
    rows = np.concatenate(up)
    start = np.r_[0, np.cumsum([len(mine) for mine in up])]
    counters = [profile("flow", swapped=swapped), profile("flow", swapped=swapped), profile(None)]
    return SimpleNamespace(
        conversations=conversations,
        flows=flows,
        outer=Upstream(start, conversations.packets.ts_ns[rows], rows),
        outer_ip_ids=counters,
        tunnels=range(3),
        alignment=same_clock("made up"),
    )


@pytest.mark.parametrize("swapped", [False, True])
def test_the_whole_engine_says_what_it_compared_and_why_not_the_rest(swapped):
    case = whole_case(swapped=swapped)
    said = ip_id.score(case)
    assert (said.flow.tolist(), said.tunnel.tolist(), said.n.tolist()) == ([0], [0], [12])
    outer = [(round((1.0 + k / 10) * 1e9), 65_503 + 2 * k) for k in range(40)]
    inner = [(round((1.2 + k / 5) * 1e9), (65_506 + 4 * k) % 65_536) for k in range(12)]
    assert said.score[0] == pytest.approx(weighed(outer, inner))
    assert said.score[0] > 3
    assert said.note == ("outer and inner IP IDs of one counter",)
    assert said.silence == {
        "tunnel whose outer IP IDs are no counter (unknown)": 1,
        "flow without IP IDs (zero, or IPv6)": 1,
        "flow whose IP IDs run with no tunnel's counter": 1,
    }


def test_only_wanted_pairs_are_weighed():
    other = Pairs(np.array([0, 1], np.int32), np.array([1, 0], np.int32))
    assert len(ip_id.score(whole_case(), other)) == 0


def test_without_counters_or_ids_it_is_silent():
    case = whole_case()
    case.outer_ip_ids = [profile(None, reason="few"), profile(None, reason="few"), profile(None)]
    said = ip_id.score(case)
    assert (len(said), said.silence) == (
        0,
        {
            "tunnel whose outer IP IDs are no counter (few)": 2,
            "tunnel whose outer IP IDs are no counter (unknown)": 1,
            "flow without IP IDs (zero, or IPv6)": 1,
        },
    )
    case = whole_case()
    case.flows.packets.ip_id[:] = 0
    said = ip_id.score(case)
    assert (len(said), said.silence["flow without IP IDs (zero, or IPv6)"]) == (0, 3)


def test_outer_counters_are_without_wraps_and_never_fall():
    case = whole_case()
    ids = case.conversations.packets.ip_id
    mine = case.outer.row[:40]
    ids[mine[4]], ids[mine[5]] = ids[mine[5]], ids[mine[4]]  # one came late
    ids[mine[9]] = 0  # a reset
    found = ip_id.outer_counters(case)
    assert np.diff(found.packets.start).tolist() == [39, 40, 0]
    expected = [65_503 + 2 * k for k in range(40) if k != 9]
    expected[4], expected[5] = expected[5], expected[5]
    assert found.line[:39].tolist() == expected
    sent = [0, 1, 2, 3, 5, 4, *range(6, 9), *range(10, 40)]
    assert found.ip_id[:39].tolist() == [(65_503 + 2 * k) & 0xFFFF for k in sent]
