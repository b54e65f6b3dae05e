"""Each protocol against its stated lengths, headers and counters, packet by packet."""

from __future__ import annotations

import struct
from collections import defaultdict

import numpy as np
import pytest

from vpnforensics.groundtruth.simulate.outer import datagrams

from .cases import PUBLIC, SERVER, small

# Outer UDP payload (or, for ESP, IP payload) of an inner packet, from the published formulas, written anew.
FORMULAS = {
    "wireguard": lambda n: 32 + min(1420, (n + 15) // 16 * 16),
    "reftunnel": lambda n: 32 + min(1420, (n + 15) // 16 * 16),
    "openvpn-udp": lambda n: n + 24,
    "openvpn-udp-v1": lambda n: n + 21,
    "openvpn-udp-cbc": lambda n: 4 + 20 + 16 + 16 * ((4 + n) // 16) + 16,
    "strongswan": lambda n: 60 - 28 + 4 * ((n + 5) // 4),
    "strongswan-kernel": lambda n: 52 - 20 + 4 * ((n + 5) // 4),
    "ocserv-dtls": lambda n: n + 66 - 28,
    "nebula": lambda n: n + 60 - 28,
    "tinc": lambda n: 32 - 28 + 16 * ((n + 18) // 16 + 1),
    "custom": lambda n: n + 37,
    "custom-block": lambda n: 29 + (n + 1 + 31) // 32 * 32,
}


def is_data(protocol, payload):
    """What carries a packet, as far as clear bytes or known lengths tell; keep-alives are left in."""
    first = payload[0]
    match protocol:
        case "wireguard" | "reftunnel":
            return first == 4 and len(payload) > 32
        case "openvpn-udp" | "openvpn-udp-cbc":
            return first >> 3 == 9
        case "openvpn-udp-v1":
            return first >> 3 == 6
        case "strongswan":
            return payload[:4] != bytes(4) and len(payload) > 1
        case "ocserv-dtls":
            return first == 23 and len(payload) > 38
        case "nebula":
            return first == 0x11
    return True


def sides(case):
    """Outer and inner packets of each tunnel and direction, in order of time."""
    outer, inner = defaultdict(list), defaultdict(list)
    for packet in case.ingress:
        up = packet.dst == SERVER
        outer[packet.src if up else packet.dst, up].append(packet)
    owner = {(f.proto, f.src, f.dst): f.client.split(":")[0] for f in case.truth.flows}
    names = {6: "tcp", 17: "udp", 1: "icmp"}
    for packet in case.egress:
        up = packet.src == PUBLIC
        if packet.ip.p == 1:
            near = far = packet.transport.data.id
        else:
            near, far = packet.transport.sport, packet.transport.dport
            near, far = (near, far) if up else (far, near)
        public, host = (packet.src, packet.dst) if up else (packet.dst, packet.src)
        inner[owner[names[packet.ip.p], f"{public}:{near}", f"{host}:{far}"], up].append(packet)
    return outer, inner


@pytest.mark.parametrize("protocol", sorted(FORMULAS))
def test_one_outer_packet_of_the_right_length_for_each_inner_one_in_order(make, protocol):
    outer, inner = sides(make(small(protocol)))
    assert len(inner) == 6
    for key, packets in inner.items():
        expected = [FORMULAS[protocol](packet.ip.len) for packet in packets]
        seen = [packet.payload if packet.ip.p == 17 else bytes(packet.ip.data) for packet in outer[key]]
        lengths = [len(payload) for payload in seen if is_data(protocol, payload)]
        # The tunnel's own probes stand between; every inner packet has its outer one, in order.
        position = 0
        matched = 0
        for length in expected:
            while position < len(lengths) and lengths[position] != length:
                position += 1
            matched += position < len(lengths)
            position += 1
        at_the_edges = 12  # in the server when the captures end
        assert matched >= len(expected) - at_the_edges
        assert len(lengths) - len(expected) <= 12
        assert len(expected) > 100


def test_delay_through_the_server_has_the_measured_law(make):
    outer, inner = sides(make(small("openvpn-udp")))
    delays = []
    for key, packets in inner.items():
        data = [packet for packet in outer[key] if is_data("openvpn-udp", packet.payload)]
        data = [packet for packet in data if len(packet.payload) != 40]
        pings = [packet for packet in packets if packet.ip.len != 16]
        if len(data) != len(pings):
            continue
        before, after = (data, pings) if key[1] else (pings, data)
        delays += [b.ts_ns - a.ts_ns for a, b in zip(before, after, strict=True)]
    delays_ms = np.sort(np.array(delays)) / 1e6
    assert len(delays_ms) > 1000
    assert delays_ms[0] > 0
    median, p95, p99 = np.quantile(delays_ms, [0.5, 0.95, 0.99])
    assert 0.05 < median < 0.3
    assert 0.15 < p95 < 4.0
    assert 0.5 < p99 < 20.0
    assert 2.0 < delays_ms[-1] <= 200.0


def counters(case, protocol, read):
    outer, _ = sides(case)
    for packets in outer.values():
        payloads = [p.payload if p.ip.p == 17 else bytes(p.ip.data) for p in packets]
        yield [read(payload) for payload in payloads if is_data(protocol, payload)]


@pytest.mark.parametrize(
    ("protocol", "read", "first"),
    [
        ("openvpn-udp", lambda b: struct.unpack_from(">I", b, 4)[0], 1),
        ("openvpn-udp-v1", lambda b: struct.unpack_from(">I", b, 1)[0], 1),
        ("strongswan", lambda b: struct.unpack_from(">I", b, 4)[0], 1),
        ("strongswan-kernel", lambda b: struct.unpack_from(">I", b, 4)[0], 1),
        ("nebula", lambda b: struct.unpack_from(">Q", b, 8)[0], 3),
        ("ocserv-dtls", lambda b: int.from_bytes(b[5:11], "big"), 1),
    ],
)
def test_counters_rise_by_one_but_for_what_was_lost(make, protocol, read, first):
    for values in counters(make(small(protocol)), protocol, read):
        steps = np.diff(values)
        assert values[0] == first
        assert (steps >= 1).all()
        assert (steps == 1).mean() > 0.99
        assert values[-1] - first + 1 - len(values) < 0.01 * len(values) + 3


def test_wireguard_messages(make):
    outer, _ = sides(make(small("wireguard")))
    for (_, up), packets in outer.items():
        payloads = [packet.payload for packet in packets]
        shapes = {(p[0], len(p)) for p in payloads if p[0] != 4}
        assert shapes == ({(1, 148)} if up else {(2, 92)})
        assert all(p[1:4] == bytes(3) for p in payloads)
        data = [p for p in payloads if p[0] == 4]
        assert len({p[4:8] for p in data}) == 1, "one session within two minutes has one receiver index"
        numbers = [struct.unpack_from("<Q", p, 8)[0] for p in data]
        assert numbers[0] == 0
        assert (np.diff(numbers) >= 1).all()
        assert all((len(p) - 32) % 16 == 0 or len(p) == 1452 for p in data)
    # The answer names the index that the initiation offered, and the data the ones both chose.
    by_client = defaultdict(dict)
    for (client, up), packets in outer.items():
        by_client[client][up] = [packet.payload for packet in packets]
    for ways in by_client.values():
        initiation = next(p for p in ways[True] if p[0] == 1)
        response = next(p for p in ways[False] if p[0] == 2)
        assert response[8:12] == initiation[4:8]
        assert {p[4:8] for p in ways[True] if p[0] == 4} == {response[4:8]}
        assert {p[4:8] for p in ways[False] if p[0] == 4} == {initiation[4:8]}


def test_openvpn_control_packets_open_the_session(make):
    outer, _ = sides(make(small("openvpn-udp")))
    for (_, up), packets in outer.items():
        payloads = [packet.payload for packet in packets]
        assert payloads[0][0] >> 3 == (7 if up else 8)
        control = [p for p in payloads if p[0] >> 3 in (4, 5, 7, 8)]
        assert len({p[1:9] for p in control}) == 1, "one session id"
        numbers = [struct.unpack_from(">I", p, 10)[0] for p in control if p[0] >> 3 == 4]
        assert numbers == list(range(1, 1 + len(numbers)))


def reassembled(packets):
    """A TCP stream from its segments, by sequence number."""
    start = next(p.transport.seq for p in packets if p.transport.flags & 2) + 1
    length = max((p.transport.seq - start) % 2**32 + len(p.payload) for p in packets if p.payload)
    stream = bytearray(length)
    filled = np.zeros(length, bool)
    for packet in packets:
        at = (packet.transport.seq - start) % 2**32
        data = packet.payload
        if data:
            known = filled[at : at + len(data)]
            again = np.frombuffer(bytes(stream[at : at + len(data)]), np.uint8)
            assert (again[known] == np.frombuffer(data, np.uint8)[known]).all(), "a retransmission repeats"
            stream[at : at + len(data)] = data
            filled[at : at + len(data)] = True
    end = length if filled.all() else int(np.argmin(filled))
    return bytes(stream[:end])


def frames_of(stream):
    at = 0
    while at + 2 <= len(stream):
        size = struct.unpack_from(">H", stream, at)[0]
        if at + 2 + size > len(stream):
            return
        yield stream[at + 2 : at + 2 + size]
        at += 2 + size


def test_openvpn_over_tcp_carries_every_inner_packet_as_a_frame(make):
    outer, inner = sides(make(small("openvpn-tcp")))
    for key, segments in outer.items():
        frames = list(frames_of(reassembled(segments)))
        data = [frame for frame in frames if frame[0] >> 3 == 9]
        assert frames[0][0] >> 3 == (7 if key[1] else 8)
        assert len(frames) - len(data) >= 5
        assert [struct.unpack_from(">I", f, 4)[0] for f in data] == list(range(1, 1 + len(data)))
        lengths = [len(frame) - 24 for frame in data]
        expected = [packet.ip.len for packet in inner[key]]
        n = min(len(lengths), len(expected))
        assert n > 100
        assert lengths[:n] == expected[:n]
        assert abs(len(lengths) - len(expected)) <= 60


def test_a_tcp_tunnel_coalesces_small_packets_and_timestamps_every_segment(make):
    outer, _ = sides(make(small("openvpn-tcp")))
    alone = several = 0
    for (_, up), segments in outer.items():
        for packet in segments:
            options = dict(option_list(packet))
            if up and 8 in dict(option_list(segments[0])):
                assert 8 in options
            if packet.payload and up:
                # Frames begin anywhere; count headers of data frames inside the segment.
                headers = packet.payload.count(bytes([9 << 3, 0, 0, 0]))
                alone += headers == 1
                several += headers > 1
    assert several > 0.1 * alone


def option_list(packet):
    import dpkt

    return dpkt.tcp.parse_opts(packet.transport.opts)


@pytest.mark.parametrize("protocol", ["ocserv-tls", "sstp"])
def test_tls_tunnels_are_whole_records(make, protocol):
    outer, inner = sides(make(small(protocol)))
    for key, segments in outer.items():
        stream = reassembled(segments)
        at = 0
        records = []
        while at + 5 <= len(stream):
            kind, version, size = struct.unpack_from(">BHH", stream, at)
            assert kind in (22, 23)
            assert version == 0x0303
            records.append((kind, size + 5))
            at += 5 + size
        assert records[0][0] == 22
        data = [size - 37 for kind, size in records[1:] if kind == 23]
        own = 3  # messages of the log-in after the hello
        expected = [packet.ip.len for packet in inner[key]]
        n = min(len(data) - own, len(expected)) - 2
        assert data[own : own + n] == expected[:n]


def test_reference_tunnel_over_tcp_pads_like_wireguard(make):
    outer, inner = sides(make(small("reftunnel-tcp")))
    for key, segments in outer.items():
        data = [frame for frame in frames_of(reassembled(segments)) if frame[0] == 4]
        expected = [FORMULAS["wireguard"](packet.ip.len) for packet in inner[key]]
        n = min(len(data), len(expected))
        assert [len(frame) for frame in data[:n]] == expected[:n]
        assert [struct.unpack_from("<Q", f, 8)[0] for f in data] == list(range(len(data)))


def test_passive_keepalive_only_where_nothing_was_answered():
    second = 1_000_000_000
    sent = np.array([0, 100 * second])
    received = np.array([1, 2, 150, 151]) * second
    due = datagrams.silence(sent, received, 10 * second, 200 * second)
    assert due.tolist() == [11 * second, 160 * second]
    assert datagrams.silence(sent, received[:0], 10 * second, 200 * second).tolist() == []
    assert (
        datagrams.silence(np.array([0, 105]) * second, np.array([98]) * second, 10 * second, 0).tolist() == []
    )


def test_persistent_keepalive_fills_every_silence():
    found = datagrams.idle_gaps(np.array([5, 40, 41]), 10, 0, 60)
    assert found.tolist() == [15, 25, 35, 51]


def test_ranks_count_within_each_direction():
    side = np.array([0, 0, 0, 1, 1])
    mask = np.array([True, False, True, True, True])
    assert datagrams.ranks(mask, side)[mask].tolist() == [0, 1, 0, 1]
