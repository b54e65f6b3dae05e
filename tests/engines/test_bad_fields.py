"""Fields that are wrapped, reset, blanked, rewritten, late, doubled, one-sided, few or absurd.

Clients with one clock (Linux before 4.10) or one IP-ID counter (Windows 7) are recorded, so that the engines
have everything to go on; then the fields are damaged. What is left must be right, or silent with a reason.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.engines import cases
from tests.tables import table, tcp
from vpnforensics.engines import ip_id, rtt, timestamps
from vpnforensics.features.devices import find_devices
from vpnforensics.features.round_trips import round_trips
from vpnforensics.features.senders import find_senders
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import TCP_SYN

CLIENTS = 8


class Recorded:
    """Both sides of a simulated server, and what an engine makes of them when they are damaged."""

    def __init__(self, stack, engine, folder):
        spec = cases.clients_of_one_stack(stack, "openvpn-tcp", CLIENTS, 4, seconds=50.0)
        self.engine, self.truth = engine, simulate(spec, folder, 4)
        self.ingress, self.egress = (read_capture(folder / f"{side}.pcap") for side in ("ingress", "egress"))
        self.middle_ns = int(np.median(self.ingress.ts_ns))

    def judge(self, ingress=None, egress=None):
        """The engine's scores, flows of 10+ packets linked right, of how many, and flows linked wrongly."""
        case = cases.case_between(
            self.ingress if ingress is None else ingress,
            self.egress if egress is None else egress,
            self.truth,
        )
        scores = self.engine.score(case)
        owner = self.owner(case.flows)
        linked = cases.best_alone(scores, len(owner))
        long = (case.flows.packets_up + case.flows.packets_down >= 10) & (owner >= 0)
        wrong = (linked >= 0) & (linked != owner)
        return scores, int(np.sum(long & (linked == owner))), int(long.sum()), int(wrong.sum())

    def owner(self, flows):
        """True client of each flow by its endpoints, which no damage touches; ports are used once here."""
        number = {t.client: n for n, t in enumerate(self.truth.tunnels)}
        known = {(t.src, t.dst): number[t.client] for t in self.truth.flows}
        return np.array([known.get((flows.source(f), flows.destination(f)), -1) for f in range(len(flows))])


@pytest.fixture(scope="module")
def clocks(tmp_path_factory):
    return Recorded("linux-legacy", timestamps, tmp_path_factory.mktemp("clocks"))


@pytest.fixture(scope="module")
def counters(tmp_path_factory):
    return Recorded("windows-7", ip_id, tmp_path_factory.mktemp("counters"))


@pytest.fixture(params=["clocks", "counters"])
def either(request):
    return request.getfixturevalue(request.param)


def stamped(packets, tsval, has_ts=None):
    changed = {"tsval": tsval.astype(packets.tsval.dtype)}
    changed |= {} if has_ts is None else {"has_ts": has_ts.astype(packets.has_ts.dtype)}
    return dataclasses.replace(packets, **changed)


def numbered(packets, ids):
    return dataclasses.replace(packets, ip_id=(ids % 65_536).astype(packets.ip_id.dtype))


def in_order(packets, ts_ns):
    order = np.argsort(ts_ns, kind="stable")
    return dataclasses.replace(packets, ts_ns=ts_ns).take(order)


def reasons(scores):
    return "; ".join(scores.silence)


def test_undamaged_fields_link(either):
    _, right, long, wrong = either.judge()
    assert right >= 0.98 * long > 50
    assert not wrong


def test_counters_that_wrap_on_the_way(clocks, counters):
    client = clocks.ingress.addresses.texts.index(clocks.truth.tunnels[0].client.partition(":")[0])
    its = clocks.ingress.tsval[(clocks.ingress.src == client) & (clocks.ingress.has_ts == 1)]
    ahead = np.int64(2**32) - int(np.median(its))
    sides = [stamped(p, (p.tsval + ahead) % 2**32) for p in (clocks.ingress, clocks.egress)]
    assert np.ptp(sides[0].tsval[(clocks.ingress.src == client) & (clocks.ingress.has_ts == 1)]) > 2**31
    _, right, long, wrong = clocks.judge(*sides)
    assert right >= 0.95 * long
    assert not wrong
    sides = [numbered(p, p.ip_id.astype(np.int64) + 40_000) for p in (counters.ingress, counters.egress)]
    _, right, long, wrong = counters.judge(*sides)
    assert right >= 0.95 * long
    assert not wrong


def test_hosts_that_all_start_anew_at_one_moment_are_not_told_apart_by_their_clocks(clocks):
    sides = []
    for packets in (clocks.ingress, clocks.egress):
        since_ms = (packets.ts_ns - clocks.middle_ns) // 1_000_000
        anew = np.where(since_ms >= 0, since_ms // 4 + 1, packets.tsval)  # 250 Hz
        sides.append(stamped(packets, anew))
    _, right, long, wrong = clocks.judge(*sides)
    assert not wrong
    assert right < 0.8 * long, "after the reset, all are on one line"


def test_a_counter_that_is_reset_outside_only_is_found_no_more(counters):
    ids = counters.ingress.ip_id.astype(np.int64)
    late = counters.ingress.ts_ns >= counters.middle_ns
    scores, right, long, wrong = counters.judge(numbered(counters.ingress, ids + np.where(late, 23_456, 0)))
    assert not wrong
    assert right < 0.9 * long
    assert "run with no tunnel's counter" in reasons(scores)


def test_blanked_fields_are_silence(clocks, counters):
    for side, reason in (
        ("ingress", "tunnel over TCP without a usable timestamp clock"),
        ("egress", "TCP flow without timestamps of its client side"),
    ):
        packets = getattr(clocks, side)
        scores, *_ = clocks.judge(**{side: stamped(packets, 0 * packets.tsval)})
        assert len(scores) == 0
        assert reason in scores.silence
    for side, reason in (("ingress", "no counter (zero)"), ("egress", "flow without IP IDs")):
        packets = getattr(counters, side)
        scores, *_ = counters.judge(**{side: numbered(packets, 0 * packets.ip_id)})
        assert len(scores) == 0
        assert reason in reasons(scores)


def test_timestamps_on_the_syn_only(clocks):
    """Outside, no clock; inside, the SYN's is as good as any, and there is only one."""
    outside, inside = (
        stamped(p, p.tsval, p.has_ts * (p.tcp_flags & TCP_SYN != 0)) for p in (clocks.ingress, clocks.egress)
    )
    scores, *_ = clocks.judge(outside, inside)
    assert len(scores) == 0
    assert "tunnel over TCP without a usable timestamp clock" in scores.silence
    scores, _, _, wrong = clocks.judge(None, inside)
    assert not wrong
    assert scores.n.max() <= 2


@pytest.mark.parametrize("by", ["connection", "packet"])
def test_rewritten_timestamps_are_on_no_line(clocks, by):
    """A middlebox modulates them: pf by a constant for each connection, others as they like."""
    flows = assemble_flows(clocks.egress)
    rng = np.random.default_rng(1)
    added = rng.integers(1, 2**32, len(flows))[flows.flow]
    added = added if by == "connection" else rng.integers(1, 2**32, len(flows.flow))
    egress = stamped(clocks.egress, (clocks.egress.tsval + added) % 2**32)
    scores, right, _, wrong = clocks.judge(None, egress)
    assert right + wrong == 0
    assert "flow on no tunnel's clock line" in scores.silence
    if by == "connection":
        assert any("middlebox" in note for note in find_devices(find_senders(assemble_flows(egress))).notes)


@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_rewritten_ids_are_no_counter(counters, side):
    packets = getattr(counters, side)
    scores, right, _, wrong = counters.judge(
        **{side: numbered(packets, np.random.default_rng(2).integers(1, 65_536, len(packets)))}
    )
    assert right + wrong == 0
    expected = "no counter (random)" if side == "ingress" else "run with no tunnel's counter"
    assert expected in reasons(scores)


def test_retransmissions_and_reordering(either):
    rng = np.random.default_rng(3)
    sides = []
    for packets in (either.ingress, either.egress):
        again = np.flatnonzero(rng.random(len(packets)) < 0.05)
        late_ns = np.r_[packets.ts_ns, packets.ts_ns[again] + rng.integers(1, 300, len(again)) * 1_000_000]
        late_ns = late_ns + rng.integers(0, 3_000_000, len(late_ns))
        sides.append(in_order(packets.take(np.r_[np.arange(len(packets)), again]), late_ns))
    _, right, long, wrong = either.judge(*sides)
    assert not wrong
    if either.engine is timestamps:
        assert right >= 0.95 * long


def test_one_way_captures(either):
    flows = assemble_flows(either.egress)
    _, right, long, wrong = either.judge(None, either.egress.take(flows.up))
    assert right >= 0.95 * long
    assert not wrong
    _, _, _, wrong = either.judge(None, either.egress.take(~flows.up))  # the far side's fields
    assert not wrong


def test_flows_of_three_packets(either):
    flows = assemble_flows(either.egress)
    place = np.arange(len(flows.flow)) - flows.order[1][flows.flow[flows.order[0]]]
    _, _, _, wrong = either.judge(None, either.egress.take(np.sort(flows.order[0][place < 3])))
    assert not wrong


def test_times_before_1970_change_nothing(either):
    back_ns = int(either.egress.ts_ns[0]) + 86_400_000_000_000
    past = [dataclasses.replace(p, ts_ns=p.ts_ns - back_ns) for p in (either.ingress, either.egress)]
    now, then = either.judge()[0], either.judge(*past)[0]
    assert then.score == pytest.approx(now.score, abs=1e-6)
    assert then.flow.tolist() == now.flow.tolist()


def test_blanked_echoes_are_no_round_trips():
    """Seen from the middle of a connection: all TSvals are 0, and so is every echo."""
    client, server = ("10.0.0.1", 5000), ("10.9.9.9", 443)
    rows = []
    for i in range(6):
        rows.append(tcp(1.0 + i, *server, *client, payload_bytes=100, seq=1 + 100 * i, has_ts=1))
        rows.append(tcp(1.0001 + i, *client, *server, ack=1 + 100 * i, has_ts=1))  # of the one before
    packets = table(rows)
    up = np.array([packets.addresses.texts[s] == client[0] for s in packets.src])
    whole = np.array([0, len(packets)])
    assert round_trips(packets, whole, np.arange(len(packets)), up, packets.ts_ns).count.tolist() == [0]


def test_round_trips_of_one_way_captures_are_silence(clocks):
    flows = assemble_flows(clocks.egress)
    for way in (flows.up, ~flows.up):
        case = cases.case_between(clocks.ingress, clocks.egress.take(way), clocks.truth)
        scores = rtt.score(case)
        assert len(scores) == 0
        assert "flow without a round trip at egress" in scores.silence
