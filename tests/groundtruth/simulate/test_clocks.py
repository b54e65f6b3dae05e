"""Timestamp clocks: rate, offset, phase."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import dpkt
import numpy as np
import pytest

from vpnforensics.groundtruth.simulate import presets
from vpnforensics.groundtruth.simulate.clocks import TimestampClock
from vpnforensics.groundtruth.simulate.spec import ClockModel

from .cases import PUBLIC, small

SECOND = 1_000_000_000


def clock(**model):
    return TimestampClock(ClockModel(**model), 600 * SECOND, np.random.default_rng(3))


def ticks(made, times, connection=0, pair=0):
    same = np.ones(len(times), np.int64)
    return made.tsval(times, same * pair, same * connection).astype(np.int64)


@pytest.mark.parametrize("hz", [1, 2, 10, 100, 250, 300, 512, 1000, 1_000_000, 0.5])
@pytest.mark.parametrize("skew", [-200.0, 0.0, 35.0])
def test_rate_is_hz_with_the_skew(hz, skew):
    times = np.arange(0, 600 * SECOND, 7_777_777, dtype=np.int64)
    made = clock(kind="global", hz=hz, skew_ppm=skew, uptime_s=1000.0)
    exact = (times * (1 + skew * 1e-6) / 1e9 + 1000.0) * hz
    difference = exact - ticks(made, times)
    assert difference.min() > -0.01
    assert difference.max() < 1.01


def test_global_clock_is_one_line_and_uptime():
    made = clock(kind="global", hz=100.0, uptime_s=86400.0)
    times = np.array([0, SECOND])
    assert ticks(made, times, connection=1, pair=5).tolist() == ticks(made, times, connection=2).tolist()
    assert ticks(made, times).tolist() == [8_640_000, 8_640_100]


@pytest.mark.parametrize(("kind", "by"), [("per_connection", "connection"), ("per_pair", "pair")])
def test_random_offsets_are_whole_ticks_so_the_phase_is_shared(kind, by):
    made = clock(kind=kind, hz=1000.0, uptime_s=77.1234567)
    times = np.arange(0, 3 * SECOND, 12_345, dtype=np.int64)
    lines = [ticks(made, times, **{by: i}) for i in range(5)]
    assert len({line[0] for line in lines}) == 5
    edges = [np.flatnonzero(np.diff(line)).tolist() for line in lines]
    assert all(edge == edges[0] for edge in edges)
    other = "pair" if by == "connection" else "connection"
    assert ticks(made, times, **{by: 1, other: 9}).tolist() == lines[1].tolist()


def test_wander_moves_the_rate_and_comes_back():
    made = clock(kind="global", wander_ppm=50.0)
    times = np.arange(0, 600, 16, dtype=np.int64) * SECOND
    rates = (np.diff(made.local_ns(times)) / (16 * SECOND) - 1) * 1e6
    assert 15 < rates.std() < 120
    still = clock(kind="global", wander_ppm=0.0)
    assert np.ptp(np.diff(still.local_ns(times))) == 0


def test_tsval_wraps():
    made = clock(kind="global", hz=1000.0, uptime_s=2**32 / 1000 - 1)
    assert ticks(made, np.array([0, 2 * SECOND])).tolist() == [2**32 - 1000, 1000]


def timestamps(packet):
    for kind, value in dpkt.tcp.parse_opts(packet.transport.opts):
        if kind == 8:
            return int.from_bytes(value[:4], "big"), int.from_bytes(value[4:], "big")
    return None


def test_on_the_wire_a_legacy_device_shows_one_line_and_echoes_are_of_the_other_end(make):
    spec = small()
    stack = replace(presets.LINUX_LEGACY, clock=ClockModel("global", 250.0, skew_ppm=100.0))
    clients = tuple(
        replace(c, devices=tuple(replace(d, stack=stack) for d in c.devices)) for c in spec.clients
    )
    case = make(replace(spec, clients=clients))
    owner = {(f.src, f.dst): f.device for f in case.truth.flows}
    lines, sent = defaultdict(list), defaultdict(set)
    echoed = wrong = 0
    for packet in case.egress:
        stamp = timestamps(packet) if packet.ip.p == 6 else None
        if stamp is None:
            continue
        ends = (f"{packet.src}:{packet.transport.sport}", f"{packet.dst}:{packet.transport.dport}")
        up = packet.src == PUBLIC
        key = ends if up else ends[::-1]
        sent[key, up].add(stamp[0])
        if stamp[1]:
            echoed += 1
            wrong += stamp[1] not in sent[key, not up]
        if up:
            lines[owner[key]].append((packet.ts_ns, stamp[0]))
    assert len(lines) == 3
    for points in lines.values():
        t, ticks_seen = np.array(points).T
        offset_ms = ticks_seen * 4.0 - (t - t[0]) / 1e6 * (1 + 100e-6)
        assert np.ptp(np.quantile(offset_ms, [0.05, 0.95])) < 60, "one line but for path delay"
    assert echoed > 1000
    assert wrong < 0.01 * echoed, "only what was lost before the tap is missing"
