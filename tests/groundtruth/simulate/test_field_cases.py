"""The ready cases hold what they promise, read back from the files."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from vpnforensics.groundtruth.simulate import presets
from vpnforensics.groundtruth.simulate.field_cases import (
    devices_behind_one_tunnel,
    ip_id_classes,
    legacy_tcp_tunnels,
    skewed_clocks,
)

from .cases import PUBLIC, SERVER
from .test_clocks import timestamps


def up_packets(case):
    """Egress packets of each device, by the truth's flows."""
    owner = {(f.src, f.dst): f.device for f in case.truth.flows if f.proto == "tcp"}
    found = defaultdict(list)
    for packet in case.egress:
        if packet.src == PUBLIC and packet.ip.p == 6:
            key = f"{packet.src}:{packet.transport.sport}", f"{packet.dst}:{packet.transport.dport}"
            found[owner[key]].append(packet)
    return found


def test_skews_are_on_the_wire_under_bursty_queueing(make):
    case = make(skewed_clocks(6, 120.0))
    devices = up_packets(case)
    assert len(devices) == 6
    for name, packets in devices.items():
        points = [(p.ts_ns, timestamps(p)[0]) for p in packets if timestamps(p)]
        t, ticks = np.array(points).T
        late_ms = (t - t[0]) / 1e6 - (ticks - ticks[0])
        assert np.ptp(late_ms) > 15, "the queue is there"
        # The least delayed packets of the first and the last fifth lie on the clock's line.
        fifth = (t[-1] - t[0]) / 5
        early, late = late_ms[t < t[0] + fifth].min(), late_ms[t > t[-1] - fifth].min()
        skew_ppm = (early - late) / (4 * fifth / 1e6) * 1e6
        assert skew_ppm == pytest.approx(case.truth.devices[name].clock.skew_ppm, abs=30)


def test_ip_id_classes_are_all_there_and_named(make):
    case = make(ip_id_classes(1, 0.2, 30.0))
    kinds = Counter(device.ip_id.tcp for device in case.truth.devices.values())
    assert set(kinds.values()) == {1}
    assert len(kinds) == 8
    for name, packets in up_packets(case).items():
        ids = np.array([p.ip.id for p in packets])
        kind = case.truth.devices[name].ip_id.tcp
        assert len(ids) >= 50
        if kind in ("zero", "constant"):
            assert len(set(ids)) == 1
        if kind == "global":
            assert (np.diff(ids) % 65536 < 64).mean() > 0.9


def test_a_shared_counter_interleaves_outer_and_inner_packets(make):
    case = make(legacy_tcp_tunnels(presets.WINDOWS_7, 2, 8, 40.0))
    inner = up_packets(case)
    for tunnel in case.truth.tunnels:
        address = tunnel.client.split(":")[0]
        (device,) = {f.device for f in case.truth.flows if f.client == tunnel.client}
        outer = [(p.ts_ns, p.ip.id) for p in case.ingress if p.src == address and p.dst == SERVER]
        both = sorted(outer + [(p.ts_ns, p.ip.id) for p in inner[device]])
        steps = np.diff([identifier for _, identifier in both]) % 65536
        assert ((steps < 200) | (steps > 65336)).mean() > 0.97, "one counter"
        assert len({i for _, i in outer} & {p.ip.id for p in inner[device]}) == 0, "no number twice"


def test_legacy_clocks_show_one_line_outside_and_inside(make):
    case = make(legacy_tcp_tunnels(presets.LINUX_LEGACY, 2, 8, 40.0))
    inner = up_packets(case)
    for tunnel in case.truth.tunnels:
        address = tunnel.client.split(":")[0]
        (device,) = {f.device for f in case.truth.flows if f.client == tunnel.client}
        lines = []
        for packets in ([p for p in case.ingress if p.src == address], inner[device]):
            t, ticks = np.array([(p.ts_ns, timestamps(p)[0]) for p in packets if timestamps(p)]).T
            lines.append(np.max(ticks * 4.0 - (t - case.ingress[0].ts_ns) / 1e6))
        assert abs(lines[0] - lines[1]) < 8, "two ticks"


def test_several_devices_share_one_tunnel(make):
    case = make(devices_behind_one_tunnel(devices=3, flows=30, duration_s=60.0, others=1))
    by_client = defaultdict(set)
    for flow in case.truth.flows:
        by_client[flow.client].add(flow.device)
    assert sorted(len(devices) for devices in by_client.values()) == [1, 3]
    addresses = {f.inner.split(":")[0] for f in case.truth.flows}
    assert len(addresses) == 4
    hops = {p.ip.ttl for name, packets in up_packets(case).items() if "home" in name for p in packets}
    assert hops == {62}, "one hop at the gateway, one at the server"
