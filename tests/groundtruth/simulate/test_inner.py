"""Captures of the clients' tunnel devices, against the egress side of the same case."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import dpkt
import numpy as np
import pytest

from vpnforensics.groundtruth.simulate.spec import Capture

from .cases import PUBLIC, read, small
from .test_run import ones_complement


def key(packet, up):
    """What NAT leaves alone."""
    transport = packet.transport
    if packet.ip.p == 6:
        fields = transport.seq, transport.ack, transport.flags, bytes(transport.opts)
    elif packet.ip.p == 1:
        fields = transport.type, transport.data.seq
        return up, packet.ip.p, packet.dst if up else packet.src, packet.ip.id, packet.ip.len, fields
    else:
        fields = (packet.payload,)
    far = (packet.dst, transport.dport) if up else (packet.src, transport.sport)
    return up, packet.ip.p, far, packet.ip.id, packet.ip.len, fields


@pytest.mark.parametrize("protocol", ["wireguard", "openvpn-tcp"])
def test_every_inner_packet_is_the_egress_packet_before_the_nat(make, protocol):
    late = Capture(jitter_s=0.00002)
    case = make(replace(small(protocol, egress=late), inner=True))
    plain = make(small(protocol, egress=late))
    for name in ("ingress.pcap", "egress.pcap", "truth.json"):
        assert (case.folder / name).read_bytes() == (plain.folder / name).read_bytes()
    outside = defaultdict(list)
    for p in case.egress:
        outside[key(p, p.src == PUBLIC)].append(p)
    matched = total = 0
    delays = []
    paths = sorted(case.folder.glob("inner-*.pcap"))
    assert [p.stem for p in paths] == [f"inner-{client.name}" for client in case.spec.clients]
    for path in paths:
        packets = read(path)
        assert [p.ts_ns for p in packets] == sorted(p.ts_ns for p in packets)
        for p in packets:
            up = p.src.startswith("10.8.")
            assert up != p.dst.startswith("10.8.")
            assert ones_complement(bytes(p.ip)[:20]) == 0xFFFF
            total += 1
            same = outside.get(key(p, up), [])
            matched += bool(same)
            if len(same) == 1:
                assert p.ip.ttl - same[0].ip.ttl == (1 if up else -1)
                assert p.payload == same[0].payload
                delays.append((same[0].ts_ns - p.ts_ns) * (1 if up else -1))
    assert total > 1000
    # SYNs differ in their MSS where the tunnel rewrites it; some packets are still under way at the end.
    assert matched > 0.95 * total
    delays_ms = np.array(delays) / 1e6
    assert delays_ms.min() > 0
    assert 5 < np.median(delays_ms) < 200


def test_mss_is_the_devices_own_before_the_tunnel_rewrites_it(make):
    case = make(replace(small("openvpn-udp"), inner=True))
    offered = set()
    for path in case.folder.glob("inner-*.pcap"):
        for p in read(path):
            if p.ip.p == 6 and p.transport.flags & dpkt.tcp.TH_SYN:
                options = dict(dpkt.tcp.parse_opts(p.transport.opts))
                mss = int.from_bytes(options[dpkt.tcp.TCP_OPT_MSS], "big")
                offered.add((p.src.startswith("10.8."), mss))
    assert offered == {(True, 1460), (False, 1400)}
