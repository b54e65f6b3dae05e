"""What each countermeasure changes on the wire, and that it changes nothing else it should not."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.simulate import presets, simulate
from vpnforensics.groundtruth.simulate.padding import padded
from vpnforensics.groundtruth.simulate.spec import Countermeasures

from .cases import PUBLIC, SERVER, small
from .test_clocks import timestamps


def outer_lengths(case):
    return {len(p.payload) for p in case.ingress if p.payload[0] == 4 and len(p.payload) > 32}


def test_padding_rules():
    sizes = np.array([1, 40, 128, 129, 1300, 1400])
    none = Countermeasures()
    assert padded(sizes, none, 1400).tolist() == sizes.tolist()
    assert padded(sizes, Countermeasures(pad_block=128), 1400).tolist() == [128, 128, 128, 256, 1400, 1400]
    assert padded(sizes, Countermeasures(pad_mtu=True), 1400).tolist() == [1400] * 6
    buckets = Countermeasures(pad_buckets=(64, 512))
    assert padded(sizes, buckets, 1400).tolist() == [64, 64, 512, 512, 1400, 1400]
    assert padded(np.array([1500]), Countermeasures(pad_mtu=True), 1400).tolist() == [1500]


def test_padding_to_the_mtu_leaves_one_length(make):
    case = make(small(countermeasures=Countermeasures(pad_mtu=True)))
    assert outer_lengths(case) == {1452}


def test_padding_to_blocks(make):
    case = make(small(countermeasures=Countermeasures(pad_block=256)))
    assert outer_lengths(case) == {32 + 256 * i for i in range(1, 6)} | {1452}


def test_padding_to_buckets(make):
    case = make(small(countermeasures=Countermeasures(pad_buckets=(128, 640))))
    assert outer_lengths(case) == {32 + 128, 32 + 640, 1452}


def test_padded_frames_of_a_stream_tunnel(make):
    from .test_outer import frames_of, reassembled, sides

    outer, _ = sides(make(small("reftunnel-tcp", countermeasures=Countermeasures(pad_block=512))))
    for segments in outer.values():
        data = [frame for frame in frames_of(reassembled(segments)) if frame[0] == 4]
        assert {len(frame) for frame in data} <= {32 + 512, 32 + 1024, 1452}


def test_cover_traffic_is_constant_both_ways(make):
    measures = Countermeasures(pad_mtu=True, cover_hz=200.0)
    spec = small(countermeasures=measures)
    slow = tuple(replace(c, path=replace(c.path, jitter_s=0.0, loss=0.0, up_mbit=0.0)) for c in spec.clients)
    case = make(replace(spec, clients=slow))
    counts = defaultdict(list)
    for packet in case.ingress:
        if packet.payload[0] == 4 and len(packet.payload) > 32:
            up = packet.dst == SERVER
            counts[packet.src if up else packet.dst, up].append(packet.ts_ns)
    assert len(counts) == 6
    for times in counts.values():
        seconds = np.bincount((np.array(times) - times[0]) // 1_000_000_000)[1:-1]
        assert (np.abs(seconds - 200) <= 2).all()


def test_scrubbing_at_egress(make):
    spec = small()
    legacy = tuple(
        replace(c, devices=tuple(replace(d, stack=presets.LINUX_LEGACY) for d in c.devices))
        for c in spec.clients
    )
    spec = replace(spec, clients=legacy)
    plain = make(spec)
    measures = Countermeasures(scrub_tsval=True, scrub_ip_id=True, normalise_ttl=60)
    case = make(replace(spec, countermeasures=measures))
    shifts = defaultdict(set)
    ids = []
    for before, after in zip(plain.egress, case.egress, strict=True):
        assert (before.ts_ns, before.ip.len) == (after.ts_ns, after.ip.len)
        if after.src != PUBLIC:
            assert (before.ip.ttl, before.ip.id) == (after.ip.ttl, after.ip.id)
            continue
        assert after.ip.ttl == 60
        ids.append(after.ip.id)
        if after.ip.p == 6 and timestamps(after):
            key = after.transport.sport, after.dst
            shifts[key].add((timestamps(after)[0] - timestamps(before)[0]) % 2**32)
    assert all(len(found) == 1 for found in shifts.values()), "one constant a connection"
    assert len({min(found) for found in shifts.values()}) == len(shifts) > 10
    assert len(set(ids)) > 0.9 * len(ids)
    assert [p.ts_ns for p in plain.ingress] == [p.ts_ns for p in case.ingress]


def test_cover_traffic_over_a_stream_is_refused(tmp_path):
    spec = small("openvpn-tcp", countermeasures=Countermeasures(cover_hz=10.0))
    with pytest.raises(ScenarioError, match="datagrams"):
        simulate(spec, tmp_path / "x", 1)
