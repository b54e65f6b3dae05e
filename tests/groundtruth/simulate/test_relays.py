"""ssh -w and relays: lengths written anew from the protocols, whose packets are whose, pace."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth import lab
from vpnforensics.groundtruth.simulate import SimulationSpec, simulate
from vpnforensics.groundtruth.simulate.presets import LINUX, WINDOWS
from vpnforensics.groundtruth.simulate.spec import (
    AccessPath,
    Activity,
    Client,
    Countermeasures,
    Device,
    Server,
)

from .cases import PUBLIC, SERVER, Case, read, small
from .test_outer import option_list, reassembled

CHANNELS, ALONE, KEEPING = ("ssh-socks", "tor"), ("shadowsocks", "trojan"), ("socks", "http-proxy")
RELAYS = (*CHANNELS, *ALONE, *KEEPING)
QUIET = AccessPath(loss=0.0, jitter_s=0.0)
CALM = Server(loss=0.0, internet_loss=0.0, stall_hz=0.0)


def ssh_packet(payload):
    """RFC 4253, section 6, with chacha20-poly1305@openssh.com: the length is apart, the tag 16."""
    padding = 8 - (1 + payload) % 8
    padding += 8 if padding < 4 else 0
    return 4 + 1 + payload + padding + 16


def alone(protocol, *traffic, stack=LINUX, path=QUIET, server=CALM, duration_s=20.0):
    client = Client("one", (Device("one", stack),), traffic, path)
    return SimulationSpec((client,), duration_s, protocol, server, hosts=40)


def ways(packets):
    found = defaultdict(list)
    for packet in packets:
        found[packet.dst == SERVER].append(packet)
    return found


def payload_bytes(segments):
    """Bytes of a stream, each once."""
    seen = {(p.transport.seq, len(p.payload)) for p in segments}
    return sum(length for _, length in seen)


def egress_flows(case):
    """TCP segments of each egress flow by its public port, up and down."""
    flows = defaultdict(lambda: ([], []))
    for p in case.egress:
        if p.ip.p == 6:
            up = p.src == PUBLIC
            flows[p.transport.sport if up else p.transport.dport][not up].append(p)
    return flows


@pytest.mark.parametrize("protocol", ["ssh-tun", *RELAYS])
def test_same_seed_same_bytes(make, tmp_path, protocol):
    first = make(small(protocol))
    simulate(small(protocol), tmp_path, 7)
    for path in first.folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def also(tunnel):
    """The client's ends of its other connections."""
    rows = [text.split(" ") for text in tunnel.also]
    assert {(proto, server) for proto, _, server in rows} <= {("tcp", tunnel.server)}
    return [client for _, client, _ in rows]


@pytest.mark.parametrize("protocol", ["ssh-tun", *RELAYS])
def test_truth_has_the_form_of_the_labs(make, protocol):
    case = make(small(protocol))
    document = json.loads((case.folder / "truth.json").read_text())
    jsonschema.validate(document, json.loads(Path(lab.__file__).with_name("truth.schema.json").read_text()))
    told = [end for tunnel in case.truth.tunnels for end in (tunnel.client, *also(tunnel))]
    assert len(told) == len(set(told))
    assert set(told) == {f"{p.src}:{p.transport.sport}" for p in case.ingress if p.dst == SERVER}
    tunnels = {tunnel.client: {tunnel.client, *also(tunnel)} for tunnel in case.truth.tunnels}
    assert len(tunnels) == len(case.spec.clients), "a client is one tunnel, whatever its connections"
    assert {device.client for device in case.truth.devices.values()} == set(tunnels)
    for flow in case.truth.flows:
        assert flow.client in tunnels
        assert (flow.connection is None) == (protocol == "ssh-tun")
        assert flow.connection is None or flow.connection in tunnels[flow.client]
    assert {flow.inner is None for flow in case.truth.flows} == {protocol in RELAYS}
    told = {flow.src: flow.packets for flow in case.truth.flows if flow.proto == "tcp"}
    seen = {f"{PUBLIC}:{port}": len(up) + len(down) for port, (up, down) in egress_flows(case).items()}
    assert told == seen


@pytest.mark.parametrize("protocol", ["ssh-tun", "ssh-socks"])
def test_ssh_begins_in_the_clear(make, protocol):
    streams = {up: reassembled(segments) for up, segments in ways(make(alone(protocol)).ingress).items()}
    for stream in streams.values():
        banner, _, rest = stream.partition(b"\r\n")
        assert banner.startswith(b"SSH-2.0-OpenSSH_")
        kexinit = int.from_bytes(rest[:4], "big")
        assert rest[5] == 20
        assert rest[4 + kexinit + 5] in (30, 31)
    assert len(streams[True]) > 3000


def test_a_lone_packet_in_ssh_has_the_length_of_its_message(make):
    case = make(alone("ssh-tun", Activity("ping", 2), Activity("dns", 6)))
    sent = {up: [p.ip.len for p in case.egress if (p.src == PUBLIC) == up] for up in (True, False)}
    assert len(sent[True]) > 10
    for up, segments in ways(case.ingress).items():
        # Type, channel, string length, address family, packet.
        frames = [ssh_packet(1 + 4 + 4 + 4 + n) for n in sent[up]]
        began = case.egress[0].ts_ns - 20_000_000
        lengths = [len(p.payload) for p in segments if p.payload and p.ts_ns > began]
        assert sum(lengths) == sum(frames)
        if up:  # the client's socket does not wait to fill segments
            assert lengths == frames


def test_ssh_tun_stream_is_its_frames_and_window_adjustments(make):
    traffic = Activity("download", 2, end_s=10, scale=0.3), Activity("browse", 8, end_s=10)
    spec = alone("ssh-tun", *traffic, duration_s=40.0)
    case = make(replace(spec, inner=True))
    quiet = make(alone("ssh-tun"))
    # What the tunnel carried; its full queue drops some of what comes down.
    carried = {True: [p.ip.len for p in case.egress if p.src == PUBLIC]}
    inside = read(case.folder / "inner-one.pcap")
    carried[False] = [p.ip.len for p in inside if p.dst.startswith("10.8.")]
    assert sum(carried[False]) > 1_000_000
    for up, segments in ways(case.ingress).items():
        set_up = len(reassembled(ways(quiet.ingress)[up]))
        left = len(reassembled(segments)) - set_up - sum(ssh_packet(13 + n) for n in carried[up])
        assert left % ssh_packet(1 + 4 + 4) == 0
        adjustments = left // ssh_packet(1 + 4 + 4)
        assert adjustments == pytest.approx(sum(carried[not up]) / 98_304, rel=0.03, abs=1)


def test_ssh_socks_frames_are_channel_messages(make):
    case = make(alone("ssh-socks", Activity("telemetry", 1), duration_s=60.0))
    (port,) = egress_flows(case)
    up, _ = egress_flows(case)[port]
    said = [len(p.payload) for p in up if p.payload]
    began = min(p.ts_ns for p in up) - 100_000_000
    outer = [len(p.payload) for p in ways(case.ingress)[True] if p.payload and p.ts_ns > began]
    opened, frames = outer[0], outer[1:]
    assert opened in {ssh_packet(54 + name) for name in range(10, 34)}
    assert len(said) > 20
    assert frames == [ssh_packet(1 + 4 + 4 + n) for n in said[: len(frames)]]
    assert 0 <= len(frames) - len(said) <= 1 or 0 <= len(said) - len(frames) <= 1


def test_shadowsocks_opens_one_connection_a_flow_and_truth_names_it(make):
    case = make(small("shadowsocks"))
    outer = defaultdict(lambda: ([], []))
    for p in case.ingress:
        up = p.dst == SERVER
        end = f"{p.src}:{p.transport.sport}" if up else f"{p.dst}:{p.transport.dport}"
        outer[end][not up].append(p)
    flows = egress_flows(case)
    checked = 0
    for flow in case.truth.flows:
        if flow.proto != "tcp":
            continue
        inner, carrier = flows[int(flow.src.rpartition(":")[2])], outer[flow.connection]
        assert carrier[0][0].ts_ns < inner[0][0].ts_ns, "the client opens first"
        first = next(p for p in carrier[0] if p.payload)
        assert first.ts_ns < inner[0][0].ts_ns, "and says where to"
        if flow.packets < 12 or not payload_bytes(inner[0]):
            continue
        own = [payload_bytes(carrier[0]) - payload_bytes(inner[0]) - 32 - 34, payload_bytes(carrier[1])]
        own[1] -= payload_bytes(inner[1]) + 32
        name = own[0] % 34
        assert 4 + 10 <= (name if name >= 14 else name + 34) <= 4 + 33 + 34
        checked += own[1] >= 0 and own[1] % 34 == 0
    tcp = [flow for flow in case.truth.flows if flow.proto == "tcp"]
    assert len({flow.connection for flow in tcp}) == len(tcp)
    assert checked > 0.7 * sum(flow.packets >= 12 for flow in tcp), "chunks of 34 bytes beside their content"


def tls_records(stream):
    """Type and length of each record, and what is left over."""
    found, at = [], 0
    while at + 5 <= len(stream):
        assert stream[at + 1] == 3
        size = 5 + int.from_bytes(stream[at + 3 : at + 5], "big")
        found.append((stream[at], size))
        at += size
    return found, at - len(stream)


def connections(case):
    """Streams up and down by the client's end."""
    found = defaultdict(lambda: ([], []))
    for p in case.ingress:
        up = p.dst == SERVER
        end = f"{p.src}:{p.transport.sport}" if up else f"{p.dst}:{p.transport.dport}"
        found[end][not up].append(p)
    return {end: tuple(reassembled(way) if way else b"" for way in ways) for end, ways in found.items()}


def test_trojan_is_tls_records_of_what_was_said_and_22(make):
    case = make(alone("trojan", Activity("browse", 20)))
    outer, flows = connections(case), egress_flows(case)
    checked = 0
    for flow in (f for f in case.truth.flows if f.proto == "tcp"):
        inner = [reassembled(way) if way else b"" for way in flows[int(flow.src.rpartition(":")[2])]]
        for side, said in enumerate(inner):
            records, over = tls_records(outer[flow.connection][side])
            assert over >= 0 or not records
            data = [size - 22 for kind, size in records if kind == 23]
            hidden = [74] if side == 0 else [28, 442, 101, 74]
            assert [n + 22 for n in data[: len(hidden)]] == hidden[: len(data)]
            data = data[len(hidden) :]
            if data and data[-1] == 2:  # it is over
                name = sum(data) - 2 - len(said) - 65 if side == 0 else 0
                assert name in range(10, 34) if side == 0 else sum(data) - 2 == len(said)
                checked += 1
    assert checked > 4


def test_tor_is_tls_records_of_cells(make):
    case = make(alone("tor", Activity("download", 1, scale=0.2), Activity("browse", 4)))
    (streams,) = connections(case).values()
    for side, stream in enumerate(streams):
        records, over = tls_records(stream)
        assert over <= 0
        cells = [(size - 22) / 514 for kind, size in records if kind == 23][2 if side == 0 else 5 :]
        assert len(cells) > 50
        assert all(n == int(n) and 1 <= n <= 31 for n in cells)
    up, down = (
        sum(payload_bytes(way) for way in pair) for pair in zip(*egress_flows(case).values(), strict=True)
    )
    assert len(streams[1]) == pytest.approx(down * 514 / 498, rel=0.2)
    assert len(streams[0]) > up + 0.8 * down / (31 * 498) * 536, "and what acknowledges the cells down"


@pytest.mark.parametrize("protocol", KEEPING)
def test_a_proxy_in_clear_keeps_every_byte(make, protocol):
    case = make(alone(protocol, Activity("browse", 20)))
    outer, flows = connections(case), egress_flows(case)
    asks, answers = {
        "socks": (b"\x05\x02\x00\x01\x05\x01\x00\x03", b"\x05\x00\x05\x00\x00\x01" + bytes(6)),
        "http-proxy": (
            b"CONNECT ",
            b"HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n",
        ),
    }[protocol]
    seen = set()
    for flow in (f for f in case.truth.flows if f.proto == "tcp"):
        up, down = (reassembled(way) if way else b"" for way in flows[int(flow.src.rpartition(":")[2])])
        asked, answered = outer[flow.connection]
        assert asked.startswith(asks)
        assert asked.endswith(up)
        assert answered.startswith(answers)
        assert down.startswith(answered.removeprefix(answers))
        seen.add(up[:32])
    assert len(seen) > 4, "what two connections say differs"


@pytest.mark.parametrize("protocol", RELAYS)
def test_egress_shows_the_servers_stack_and_ingress_the_clients(make, protocol):
    case = make(alone(protocol, Activity("browse", 20), stack=WINDOWS))
    server = case.spec.server.stack
    up = [p for p in case.egress if p.src == PUBLIC and p.ip.p == 6]
    assert {p.ip.ttl for p in up} == {server.ttl}
    # Where the host agrees, as most do.
    up = [p for p in up if 8 in dict(option_list(p))]
    assert len(up) > 50
    sent = ways(case.ingress)[True]
    assert {p.ip.ttl for p in sent} == {WINDOWS.ttl - QUIET.hops}
    assert not any(8 in dict(option_list(p)) for p in sent)
    ticks = np.array([[p.ts_ns, int.from_bytes(dict(option_list(p))[8][:4], "big")] for p in up])
    by_flow = defaultdict(list)
    for p, row in zip(up, ticks, strict=True):
        by_flow[p.transport.sport].append(row)
    longest = np.array(max(by_flow.values(), key=len))
    steps = np.diff(longest, axis=0).sum(axis=0)
    assert steps[1] == pytest.approx(steps[0] / 1e6, abs=2), "the server's clock ticks in milliseconds"


@pytest.mark.parametrize("protocol", [*CHANNELS, "shadowsocks"])
def test_everything_said_arrives_once_and_the_server_reads_no_faster_than_the_line(make, protocol):
    slow = AccessPath(loss=0.0, down_mbit=8.0)
    case = make(alone(protocol, Activity("download", 1, start_s=2, end_s=2.1), path=slow, duration_s=15.0))
    (pair,) = egress_flows(case).values()
    egress = [(p.ts_ns, len(p.payload)) for p in pair[1] if p.payload]
    ingress = [(p.ts_ns, len(p.payload)) for p in ways(case.ingress)[False] if p.payload]
    total = sum(n for _, n in egress)
    assert total > 2_500_000
    assert 1.0 <= sum(n for _, n in ingress) / total < 1.06
    times, sizes = np.array(ingress).T
    sent = np.concatenate([[0], np.cumsum(sizes)])
    ahead = max(
        done - sent[np.searchsorted(times, t)]
        for (t, _), done in zip(egress, np.cumsum([n for _, n in egress]), strict=True)
    )
    assert 100_000 < ahead < 1_200_000, "a send buffer and a receive buffer, not the whole file"
    assert egress[-1][0] - egress[0][0] > 2_000_000_000


@pytest.mark.parametrize("protocol", [*CHANNELS, "shadowsocks"])
def test_losses_on_the_line_do_not_break_streams(make, protocol):
    lossy = AccessPath(loss=0.01)
    case: Case = make(
        alone(protocol, Activity("browse", 12, end_s=10), Activity("ssh", 1), path=lossy, duration_s=40.0)
    )
    good = make(alone(protocol, Activity("browse", 12, end_s=10), Activity("ssh", 1), duration_s=40.0))
    said = [sum(payload_bytes(up) for up, _ in egress_flows(c).values()) for c in (case, good)]
    assert said[0] > 0.95 * said[1]
    assert len(egress_flows(case)) == len(egress_flows(good))


def test_what_no_relay_can_do_is_refused(tmp_path):
    spec = alone("ssh-socks", Activity("ping", 1))
    with pytest.raises(ScenarioError, match="ping cannot use a proxy"):
        simulate(spec, tmp_path / "x", 1)
    padded = replace(alone("shadowsocks"), countermeasures=Countermeasures(pad_block=64))
    with pytest.raises(ScenarioError, match="padding needs packets"):
        simulate(padded, tmp_path / "x", 1)
    behind = replace(spec.clients[0], traffic=(), outer=LINUX)
    with pytest.raises(ScenarioError, match="no devices behind"):
        simulate(replace(spec, clients=(behind,)), tmp_path / "x", 1)
    assert not (tmp_path / "x").exists()
