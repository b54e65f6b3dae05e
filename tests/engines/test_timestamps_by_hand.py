"""The parts of the clock engine on packets made by hand, each against its rule in words."""

from __future__ import annotations

from dataclasses import replace
from math import log10, pi
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.tables import table, tcp, udp
from vpnforensics.align.alignment import Alignment, same_clock
from vpnforensics.engines import timestamps
from vpnforensics.engines.scores import Pairs
from vpnforensics.engines.upstream import Upstream
from vpnforensics.features.skews import phase_llr, skew_llr, skew_population, skew_sd_ppm
from vpnforensics.features.tcp_clock import sender_clock
from vpnforensics.flows.assemble import assemble_flows

S = 1_000_000_000


def side(*senders: list[tuple[float, int]], hz: float | list[float] = 1000.0) -> timestamps._Side:
    """Senders of (s, TSval) each; the first packet of each is its least delayed one."""
    start = np.r_[0, np.cumsum([len(packets) for packets in senders])].astype(np.int64)
    rows = [packet for packets in senders for packet in packets]
    ts_ns = np.array([round(t * S) for t, _ in rows], np.int64)
    best = np.where(np.diff(start) > 0, start[:-1], -1)
    rates = np.broadcast_to(np.asarray(hz, float), len(senders)).copy()
    upstream = Upstream(start, ts_ns, np.arange(len(ts_ns)))
    return timestamps._Side(upstream, np.array([v for _, v in rows], np.int64), rates, best)


def line(offset_s: float, times: Any, hz: float = 1000.0) -> list[tuple[float, int]]:
    """Packets of a clock that stood at 0 ``offset_s`` before the origin."""
    return [(float(t), round((offset_s + float(t)) * hz)) for t in times]


def scored(outer: timestamps._Side, inner: timestamps._Side) -> dict[tuple[int, int], float]:
    tunnels = np.flatnonzero(outer.hz > 0)
    flow, tunnel, value = timestamps._line_scores(outer, inner, tunnels, 0)
    return dict(zip(zip(flow.tolist(), tunnel.tolist(), strict=True), value.tolist(), strict=True))


def worth(age_s: float, distance_s: float, tick_s: float = 0.001) -> float:
    """Cauchy about the line with five milliseconds and a tick, against anywhere in the clock's age."""
    scale = 0.005 + tick_s
    return log10(age_s / (pi * scale * (1 + (distance_s / scale) ** 2)))


TIMES = np.arange(0.0, 60.0, 1.0)


@pytest.mark.parametrize("late_s", [0.0, 0.004, 0.5, 2.0, -0.02])
def test_a_flow_near_a_line_is_worth_its_age_over_the_distance(late_s: float) -> None:
    outer, inner = side(line(8000.0, TIMES)), side(line(8000.0 - late_s, [30.0]), hz=0.0)
    assert scored(outer, inner)[0, 0] == pytest.approx(worth(8000.0 - late_s, late_s), abs=1e-6)


@pytest.mark.parametrize("late_s", [2.01, -2.01, 300.0])
def test_beyond_two_seconds_nothing_is_said(late_s: float) -> None:
    assert scored(side(line(8000.0, TIMES)), side(line(8000.0 - late_s, [30.0]), hz=0.0)) == {}


def test_a_young_clock_is_a_second_old_at_least() -> None:
    outer, inner = side(line(0.4, TIMES)), side(line(0.3, [30.0]), hz=0.0)
    assert scored(outer, inner)[0, 0] == pytest.approx(worth(1.0, 0.1), abs=1e-6)


def test_each_flow_is_held_against_all_lines_near_it_and_ticks_count() -> None:
    outer = side(line(8000.0, TIMES), line(8001.0, TIMES), line(9000.0, TIMES), line(8000.0, TIMES, 100.0))
    outer.hz[3] = 100.0
    flows = [line(8000.0, [10.0, 11.0]), line(9000.0, [20.0]), line(8000.0, [30.0], 100.0), []]
    inner = side(*flows, hz=[1000.0, 1000.0, 100.0, 0.0])
    inner.packets.ts_ns[1] += 20 * S  # long enough to be sure of its rate
    found = scored(outer, inner)
    assert {(0, 0), (0, 1), (1, 2), (2, 3)} == set(found)
    assert found[2, 3] == pytest.approx(worth(8000.0, 0.0, 0.01), abs=1e-6)


def test_a_clock_that_is_percents_off_is_found_far_from_its_least_delayed_packet() -> None:
    """Old macOS: 3 % slow. Its line at the flow's time counts, not where it stood an hour before."""
    slow = [(t, round((8000.0 + 0.97 * t) * 1000)) for t in np.arange(0.0, 600.0, 1.0).tolist()]
    inner = side([(500.0, round((8000.0 + 0.97 * 500.0) * 1000))], hz=0.0)
    # Within ten seconds the line falls by 0.3: it is taken where it is nearest to the flow.
    assert scored(side(slow), inner)[0, 0] == pytest.approx(worth(8000.0 - 15.0, 0.0), abs=0.2)


def test_without_flows_or_lines_there_is_nothing() -> None:
    assert scored(side(line(1.0, TIMES)), side([], [])) == {}
    assert scored(side(line(1.0, TIMES), hz=0.0), side(line(1.0, TIMES))) == {}


def slow_edge(sender: list[tuple[float, int]], hz: float, at_s: float, near_s: float) -> float:
    """Highest offset in the flow's ten seconds, or in those nearest; of a stretch beside it, if nearer."""
    tops: dict[int, float] = {}
    for t, value in sender:
        tops[int(t // 10)] = max(tops.get(int(t // 10), -1e9), value / hz - t)
    wanted = int(at_s // 10)
    since = max((b for b in tops if b < wanted), default=min(tops))
    until = min((b for b in tops if b >= wanted), default=max(tops))
    if until < wanted:  # none is later: the last two
        since = max((b for b in tops if b < until), default=until)
    chosen = since if abs(since - wanted) < abs(until - wanted) else until
    other = until if chosen == since else since
    near = [b for b in (chosen, other) if b == chosen or abs(b - wanted) <= 1]
    return min((tops[b] for b in near), key=lambda top: abs(top - near_s))


def test_the_edge_is_the_highest_offset_near_the_flows_time() -> None:
    rng = np.random.default_rng(8)
    for _ in range(200):
        sender = sorted((float(t), 0) for t in rng.choice(80, rng.integers(1, 9), replace=False))
        sender = [(t, round((500.0 + t + float(rng.uniform(-2, 2))) * 1000)) for t, _ in sender]
        outer = side(line(100.0, [1.0]), sender)
        at_s, near_s = float(rng.integers(0, 90)), 500.0 + float(rng.uniform(-2, 2))
        args = (np.array([1]), np.array([round(at_s * S)]), np.array([near_s]))
        found = timestamps._edges(outer, 1000.0, 0, *args)
        assert found[0] == pytest.approx(slow_edge(sender, 1000.0, at_s, near_s), abs=1e-6)


def steady(skew_ppm: float, seconds: int = 150, value: int = 5_000_000) -> list[tuple[float, int]]:
    """Four packets a second of a clock of 1000 Hz, each delayed by up to two milliseconds."""
    rng = np.random.default_rng(seconds + int(skew_ppm))
    sent = np.arange(0.0, seconds, 0.25) + rng.uniform(0, 0.2, 4 * seconds)
    ticks = value + np.floor(sent * 1000 * (1 + skew_ppm * 1e-6)).astype(np.int64)
    arrived = sent + rng.exponential(0.0005, len(sent))
    return list(zip(arrived.tolist(), ticks.tolist(), strict=True))


def clock_of(packets: list[tuple[float, int]]) -> Any:
    ts_ns = np.array([round(t * S) for t, _ in packets], np.int64)
    return sender_clock(ts_ns, np.array([v for _, v in packets], np.int64))


def aligned(drift_sd_ppm: float = 0.0, offset_sd_ns: int = 0) -> Any:
    """Intervals of four standard deviations."""
    clock = replace(
        same_clock("made up"),
        drift_interval_ppm=(-2 * drift_sd_ppm, 2 * drift_sd_ppm),
        offset_interval_ns=(-2 * offset_sd_ns, 2 * offset_sd_ns),
    )
    return SimpleNamespace(alignment=clock)


def rates(case: Any, outer: Any, inner: Any, on_line: Any = ()) -> dict[tuple[int, int], float]:
    tunnels = np.flatnonzero(outer.hz > 0)
    flow, tunnel, value = timestamps._rate_scores(case, outer, inner, tunnels, set(on_line))
    return dict(zip(zip(flow.tolist(), tunnel.tolist(), strict=True), value.tolist(), strict=True))


def compared(case: Any, one: Any, two: Any, drift_sd: float, extra_s: float) -> float:
    sd_in = np.array([np.hypot(skew_sd_ppm(one), drift_sd)])
    sd_out = np.array([skew_sd_ppm(two)])
    skews = [np.array([clock.skew_ppm]) for clock in (one, two)]
    llr = skew_llr(skews[0], sd_in, skews[1], sd_out, skew_population())
    return float(llr[0]) + phase_llr(one, two, extra_s)


@pytest.mark.parametrize(("drift_sd", "offset_sd_ns"), [(0.0, 0), (1.0, 100_000)])
def test_rates_within_four_standard_errors_are_compared_with_their_phases(
    drift_sd: float, offset_sd_ns: int
) -> None:
    flows, tunnels = [steady(40.0), steady(-60.0)], [steady(41.0), steady(-59.5, 140), steady(300.0)]
    case = aligned(drift_sd, offset_sd_ns)
    found = rates(case, side(*tunnels), side(*flows))
    assert set(found) == {(0, 0), (1, 1)}
    for f, t in found:
        one, two = clock_of(flows[f]), clock_of(tunnels[t])
        extra_s = offset_sd_ns * 1e-9 + 0.0005
        assert found[f, t] == pytest.approx(compared(case, one, two, drift_sd, extra_s))


def test_the_reach_is_of_both_errors() -> None:
    """It is that of the worst tunnel, so that none is overlooked; what is far off scores low by itself."""
    flows, tunnels = [steady(0.0)], [steady(float(x), 150) for x in range(-60, 61, 4)]
    case = aligned(drift_sd_ppm=5.0)
    found = rates(case, side(*tunnels), side(*flows))
    one, others = clock_of(flows[0]), [clock_of(packets) for packets in tunnels]
    widest = max(skew_sd_ppm(clock) for clock in others)
    reach = 4.0 * np.hypot(np.hypot(skew_sd_ppm(one), 5.0), widest)
    near = {t for t, clock in enumerate(others) if abs(clock.skew_ppm - one.skew_ppm) <= reach}
    assert {t for _, t in found} == near
    assert 5 < len(near) < len(tunnels)


def test_pairs_on_a_line_other_rates_of_ticks_and_short_clocks_are_not_compared() -> None:
    long, short = steady(10.0), steady(10.0)[:200]
    slow = [(t, v // 10) for t, v in steady(10.0)]
    inner = side(long, short, long[:19])
    assert set(rates(aligned(), side(long, slow), inner)) == {(0, 0)}
    assert rates(aligned(), side(long), inner, on_line=[(0, 0)]) == {}
    assert rates(aligned(), side(long), side(short)) == {}
    assert rates(aligned(), side(short), side(long)) == {}


def test_clocks_are_long_from_twenty_packets_and_a_minute_on() -> None:
    minute = [(t, round(1000 * t) + 5) for t in np.linspace(0.0, 60.0, 240).tolist()]
    senders = side(minute, minute[:-1], minute[:: 240 // 12])
    assert set(timestamps._long_clocks(senders)) <= {0}
    assert set(timestamps._long_clocks(side(steady(5.0), steady(6.0)), {1})) == {1}


def test_flows_of_a_device_have_what_its_best_measured_flow_says() -> None:
    inner = side(*(line(1.0, range(k)) for k in (3, 9, 9, 4, 2)))
    flow, tunnel = np.array([0, 1, 1, 2, 3, 4]), np.array([0, 0, 1, 0, 0, 5])
    value, note = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), list("abcdef")
    devices = np.array([7, 7, 7, -1, -1, 7])
    got = timestamps._pooled(flow, tunnel, value, note, devices, inner)
    rows = {(f, t): (v, n) for f, t, v, n in zip(*(list(column) for column in got), strict=True)}
    by = ", by another flow of its device"
    assert rows == {
        (3, 0): (5.0, "e"), (4, 5): (6.0, "f"),
        (0, 0): (2.0, "b" + by), (1, 0): (2.0, "b"), (2, 0): (2.0, "b" + by), (5, 0): (2.0, "b" + by),
        (0, 1): (3.0, "c" + by), (1, 1): (3.0, "c"), (2, 1): (3.0, "c" + by), (5, 1): (3.0, "c" + by),
    }  # fmt: skip


def whole_case(**changes: Any) -> Any:
    """Two tunnels over TCP and one over UDP; flows on the first one's line, on none, without stamps, UDP."""
    outer, inner = [], []

    def client(t: float, port: int, value: int | None, made: list[Any], dst: str, dport: int) -> None:
        stamp = {} if value is None else {"has_ts": 1, "tsval": value}
        made.append(tcp(t, "198.51.100.1", port, dst, dport, **stamp))
        made.append(tcp(t + 0.001, dst, dport, "198.51.100.1", port))

    for t in TIMES.tolist():
        client(t, 1, round((9000.0 + t) * 1000), outer, "203.0.113.1", 443)
        client(t, 2, None if t > 0 else round((5000.0 + t) * 1000), outer, "203.0.113.1", 443)
    for k, t in enumerate((10.0, 10.5, 11.0)):
        client(t, 11, round((9000.0 + t) * 1000) - 3, inner, "192.0.2.1", 443)
        client(t, 12, round((2000.0 + t) * 1000), inner, "192.0.2.2", 443)
        client(t, 13, None, inner, "192.0.2.3", 443)
        client(t, 15, 0, inner, "192.0.2.4", 443)
        inner.append(udp(t, "198.51.100.1", 14, "192.0.2.53", 53, 40 + k))
    conversations, flows = (
        assemble_flows(table(sorted(rows, key=lambda row: row["ts_ns"]))) for rows in (outer, inner)
    )
    up = [np.flatnonzero(conversations.up & (conversations.flow == c)) for c in (0, 1)]
    rows = np.concatenate([*up, np.zeros(0, np.int64)])
    start = np.array([0, len(up[0]), len(rows), len(rows)])
    parts = {
        "tunnels": SimpleNamespace(tunnels=[SimpleNamespace(transport=t) for t in ("tcp", "tcp", "udp")]),
        "conversations": conversations,
        "flows": flows,
        "outer": Upstream(start, conversations.packets.ts_ns[rows], rows),
        "alignment": same_clock("made up"),
        "devices": SimpleNamespace(device=np.full(len(flows), -1)),
    }
    return SimpleNamespace(**(parts | changes))


def test_the_whole_engine_says_what_it_compared_and_why_not_the_rest() -> None:
    said = timestamps.score(whole_case())
    assert (said.flow.tolist(), said.tunnel.tolist(), said.n.tolist()) == ([0], [0], [3])
    assert said.score[0] == pytest.approx(worth(9000.0, 0.003), abs=1e-6)
    assert said.note == ("timestamps on the tunnel's line",)
    assert said.silence == {
        "tunnel not over TCP: its outer packets carry no timestamps": 1,
        "tunnel over TCP without a usable timestamp clock": 1,
        "flow that is not TCP": 1,
        "TCP flow without timestamps of its client side": 2,
        "flow on no tunnel's clock line": 1,
    }


def test_only_wanted_pairs_and_no_tunnel_over_tcp() -> None:
    none = Pairs(np.array([1], np.int32), np.array([0], np.int32))
    assert len(timestamps.score(whole_case(), none)) == 0
    of_udp = SimpleNamespace(tunnels=[SimpleNamespace(transport="udp")] * 3)
    said = timestamps.score(whole_case(tunnels=of_udp))
    assert (len(said), list(said.silence.values())) == (0, [3])


def test_a_flow_far_off_its_line_says_nothing_against_it() -> None:
    """Two seconds off the line of a clock of two minutes it is likelier of another one: that is no pair."""
    case = whole_case()
    for side_of, offset in (("conversations", 8_880_000), ("flows", 8_881_990)):
        table_of = getattr(case, side_of)
        tsval = table_of.packets.tsval.copy()
        tsval[tsval > 8_900_000] -= offset
        setattr(case, side_of, replace(table_of, packets=replace(table_of.packets, tsval=tsval)))
    assert worth(118.0, 1.993) < 0
    said = timestamps.score(case)
    assert len(said) == 0
    assert said.silence["flow on no tunnel's clock line"] == 2


def test_a_device_lends_its_line_to_its_flows_without_stamps() -> None:
    devices = SimpleNamespace(device=np.array([0, 1, 0, 1, 0]))
    said = timestamps.score(whole_case(devices=devices))
    first = said.score[0]
    assert set(said.score.tolist()) == {first}
    assert said.flow.tolist() == [0, 2, 4]
    assert "flow on no tunnel's clock line" in said.silence
    assert said.silence["flow on no tunnel's clock line"] == 1
    assert isinstance(whole_case().alignment, Alignment)
