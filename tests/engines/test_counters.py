from __future__ import annotations

import time
from math import log10
from types import SimpleNamespace

import numpy as np
import pytest

from tests.truth import RECORDINGS, load
from vpnforensics.align.alignment import Alignment, same_clock
from vpnforensics.align.settle import settle
from vpnforensics.engines import counters
from vpnforensics.engines.case import Case
from vpnforensics.engines.scores import Pairs
from vpnforensics.features._counter_kernels import counter_totals
from vpnforensics.features.counter_advance import _JUMP, _REORDERED, Advances
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.find import TunnelSet, find_tunnels


def case_of(ingress, egress):
    """Both sides on one clock, which the recordings share."""
    conversations = assemble_flows(ingress, idle_tcp_s=np.inf, idle_other_s=np.inf)
    flows = assemble_flows(egress)
    found = find_tunnels(conversations)
    settled = settle(found, flows, same_clock("of one recording"), np.random.default_rng(0))
    return Case(conversations, settled.tunnels, flows, settled.alignment, settled.maps, settled.map_of_tunnel)


@pytest.fixture(scope="module", params=["wireguard", "openvpn-udp"])
def recording(request):
    return load(RECORDINGS / request.param)


@pytest.fixture(scope="module")
def complete(recording):
    return case_of(recording.ingress, recording.egress)


@pytest.fixture(scope="module")
def owner(recording, complete):
    """True tunnel of each flow, -1 where it has none."""
    clients = {t.client: n for n, t in enumerate(complete.tunnels.tunnels)}
    known = {(f["src"], f["dst"]): clients.get(f["client"], -1) for f in recording.truth["flows"]}
    flows = complete.flows
    return np.array([known.get((flows.source(f), flows.destination(f)), -1) for f in range(len(flows))])


def counted_slowly(counter):
    """How far a counter came, one packet at a time."""
    total, lift, last = [], 1 - int(counter[0]), int(counter[0])
    reached = 0
    for value in counter.tolist():
        if value - last < -1024 or value - last > 1 << 20:
            lift = reached + 1 - value
        reached = max(reached, value + lift)
        total.append(reached)
        last = value
    return total


def totals(counter):
    """Packets sent up to each record of one tunnel, by its counter."""
    total = np.empty(len(counter), np.int64)
    counter_totals(counter, np.array([0, len(counter)]), _REORDERED, _JUMP, total)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_advance_over_gaps_disorder_and_new_keys(seed):
    rng = np.random.default_rng(seed)
    keys = [int(rng.integers(0, 2**40)) + np.cumsum(rng.integers(1, 4, 200)) for _ in range(4)]
    counter = np.concatenate([k[np.argsort(np.arange(200) + rng.uniform(0, 5, 200))] for k in keys])
    assert totals(counter).tolist() == counted_slowly(counter)


def test_short_keys_and_packets_of_the_old_one_after_the_new_began():
    """Keys of 300 packets, the last three of each under way while the next is in use: all are counted."""
    keys = [np.arange(300), np.arange(250), np.arange(400)]
    counter = np.concatenate(keys)
    late = counter.copy()
    late[297:303] = [297, 0, 298, 1, 299, 2]
    found = totals(late)
    assert abs(found[-1] - len(counter)) <= 3
    assert (np.diff(found) >= 0).all()


def test_advance_of_nothing_and_of_noise_is_quick():
    assert len(totals(np.zeros(0, np.int64))) == 0
    noise = np.random.default_rng(1).integers(0, 2**62, 200_000)
    began = time.perf_counter()
    found = totals(noise)
    assert time.perf_counter() - began < 1.0
    assert found[-1] <= 2 * len(noise) + (1 << 20)


def test_a_complete_pair_balances(complete):
    balance = counters.conserve(complete)
    assert balance.complete
    assert repr(balance) == "Conservation(complete)"
    table = balance.to_pandas()
    total = table[table["tunnel"] < 0]
    assert (total["lost_in"] < 0.002).all()
    assert ((total["share_out"] - 1).abs() < 0.005).all()
    assert balance.windows["egress"].sum() == pytest.approx(total["advanced"].sum(), rel=0.005)


@pytest.mark.parametrize("seed", range(3))
def test_two_percent_missing_shows_and_where(recording, seed):
    rng = np.random.default_rng(seed)
    ingress, egress = recording.ingress, recording.egress
    some = counters.conserve(case_of(ingress, egress.take(rng.random(len(egress)) >= 0.02)))
    assert any("only 98" in finding or "only 97" in finding for finding in some.findings)
    assert not any("ingress capture lacks" in finding for finding in some.findings)
    some = counters.conserve(case_of(ingress.take(rng.random(len(ingress)) >= 0.02), egress))
    assert sum("ingress capture lacks" in finding for finding in some.findings) == 2
    assert not any("egress" in finding for finding in some.findings)


def test_a_client_missing_shows_and_which(recording, complete, owner):
    ingress, egress = recording.ingress, recording.egress
    names = [t.client for t in complete.tunnels.tunnels]
    for t, name in enumerate(names):
        gone = counters.conserve(case_of(ingress, egress.take(owner[complete.flows.flow] != t)))
        assert not gone.complete
        assert any(f"the egress of {name} is not" in finding for finding in gone.findings)
        assert not any(
            f"the egress of {other} is not" in f for f in gone.findings for other in names if other != name
        )
        conversation = complete.tunnels.tunnels[t].conversation
        without = counters.conserve(
            case_of(ingress.take(complete.conversations.flow != conversation), egress)
        )
        assert any("more packets at egress" in finding for finding in without.findings)


def test_scores_are_low_for_tunnels_that_carried_too_little(complete, owner):
    scores = counters.score(complete)
    assert scores.engine == counters.NAME
    right = owner[scores.flow] == scores.tunnel
    assert scores.score[right].min() > -0.5
    assert scores.score.max() == 0.0  # that a tunnel sent enough speaks for no flow in particular
    assert (scores.score[~right & (owner[scores.flow] >= 0)] < -1).mean() > 0.2
    assert "flow of fewer than 10 packets" in scores.silence


def test_silence_has_reasons(complete):
    blind = Case(
        complete.conversations, complete.tunnels, complete.flows,
        Alignment("not_identifiable", reason="test"), complete.maps, complete.map_of_tunnel,
    )  # fmt: skip
    assert counters.conserve(blind) is None
    records = complete.tunnels.records
    mute = type(records)(
        records.ts_ns, records.tunnel, records.up, records.size, np.full(len(records), -1), records.row
    )
    silent = Case(
        complete.conversations, TunnelSet(complete.tunnels.tunnels, mute, complete.tunnels.plain),
        complete.flows, complete.alignment, complete.maps, complete.map_of_tunnel,
    )  # fmt: skip
    assert counters.score(silent).silence["tunnel without a clear counter"] == len(complete.tunnels)
    assert counters.conserve(silent) is None


def test_no_pairs_wanted_are_none_compared_and_a_leap_in_time_costs_nothing(complete):
    """An empty choice is not all pairs; a clock that stood at 1970 does not size the work."""
    none = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32))
    assert len(counters.score(complete, none)) == 0
    late = np.r_[np.arange(100), np.arange(100) + 1_800_000_000] * 1_000_000_000
    advance = Advances(np.array([0, 0, 200]), late, np.arange(1, 201))
    asked = np.array([1_799_999_999, 1_800_000_010]) * 1_000_000_000
    assert advance.between(np.ones(2, np.int64), asked, asked + 250_000_000).tolist() == [0, 1]


def test_the_advance_between_two_times():
    """Direction 0 has no counter; direction 1 counted 5, 6, 9 and 10 packets at 10, 20, 30 and 40."""
    found = Advances(np.array([0, 0, 4]), np.array([10, 20, 30, 40]), np.array([5, 6, 9, 10]))
    asked = [(0, 10, 40), (1, 10, 40), (1, 11, 40), (1, 10, 41), (1, 9, 40), (1, 20, 31)]
    group, first, last = (np.array(column) for column in zip(*asked, strict=True))
    assert found.between(group, first, last).tolist() == [-1, 9, 4, -1, -1, 4]


MS = 1_000_000


def made_case(monkeypatch, sent, flows):
    """Each tunnel's times (ms) going down and up, one packet each; each flow's packets as (ms, up)."""
    groups = [sorted(way) for tunnel in sent for way in tunnel]
    start = np.r_[0, np.cumsum([len(way) for way in groups])]
    total = np.concatenate([np.arange(1, len(way) + 1) for way in groups]).astype(np.int64)
    ts_ns = np.concatenate([np.array(way, float) for way in groups]) * MS
    monkeypatch.setattr(counters, "advances", lambda _: Advances(start, ts_ns.astype(np.int64), total))
    packets = [packet for flow in flows for packet in flow]
    egress = SimpleNamespace(
        start=np.r_[0, np.cumsum([len(flow) for flow in flows])],
        ts_ns=np.array([round(ms * MS) for ms, _ in packets], np.int64),
        up=np.array([up for _, up in packets], bool),
    )
    return SimpleNamespace(flows=range(len(flows)), egress=egress, tunnels=range(len(sent)))


def test_each_quarter_of_a_second_that_the_counter_came_less_far_speaks_against_a_pair(monkeypatch):
    rng = np.random.default_rng(9)
    for _ in range(20):
        sent = [
            [rng.uniform(0, 4000, rng.integers(8, 300)).round(), np.r_[0, 4000, rng.integers(0, 4000, 60)]]
            for _ in range(3)
        ]
        flows = [
            sorted((float(ms), bool(rng.random() < 0.6)) for ms in rng.integers(0, 4000, size))
            for size in (9, 10, 60, 200)
        ]
        found = counters.score(made_case(monkeypatch, sent, flows))
        wanted = []
        for t, tunnel in enumerate(sent):
            for f, flow in enumerate(flows[1:], 1):
                short = compared = 0
                for window in range(16):
                    for up in (False, True):
                        count = sum(int(ms // 250) == window and way == up for ms, way in flow)
                        first, last = 250 * window - 75, 250 * window + 325
                        known = first >= tunnel[up].min() and last <= tunnel[up].max()
                        if count and known:
                            compared += count
                            short += np.sum((tunnel[up] >= first) & (tunnel[up] < last)) < int(0.95 * count)
                if compared:
                    wanted.append((f, t, max(short * log10(0.03), -6.0), compared))
        assert len(found) == len(wanted)
        got = zip(found.flow, found.tunnel, found.score.round(9), found.n, strict=True)
        assert list(got) == [(f, t, round(score, 9), n) for f, t, score, n in wanted]
        assert found.silence == {"flow of fewer than 10 packets": 1}


def test_one_in_twenty_packets_may_be_a_fragment_or_a_copy(monkeypatch):
    """Of forty packets in a window thirty-eight are enough."""
    flow = [(1100.0 + i, True) for i in range(40)]
    for carried, score in ((38, 0.0), (37, log10(0.03))):
        sent = [[[0.0] * 9, [0.0, *(1100.0 + i for i in range(carried)), 3000.0]]]
        found = counters.score(made_case(monkeypatch, sent, [flow]))
        assert (found.score.tolist(), found.n.tolist()) == ([pytest.approx(score)], [40])
        assert found.silence == {}


def test_a_tunnel_that_was_not_there_is_not_compared(monkeypatch):
    flow = [(1100.0 + i, True) for i in range(40)]
    sent = [[[0.0] * 9, [2000.0, 3000.0]], [[], []]]
    found = counters.score(made_case(monkeypatch, sent, [flow]))
    assert (len(found), found.silence) == (0, {"tunnel without a clear counter": 1})
    alone = counters.score(made_case(monkeypatch, sent[:1], [flow]))
    assert (len(alone), alone.silence) == (0, {"no flow at the time of a tunnel": 1})
