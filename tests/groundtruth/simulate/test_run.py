"""The files of a whole case: repeatable, true, well-formed."""

from __future__ import annotations

import json
import struct
import subprocess
from collections import Counter, defaultdict
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import dpkt
import jsonschema
import numpy as np
import pytest

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth import lab
from vpnforensics.groundtruth.simulate import simulate
from vpnforensics.groundtruth.simulate.outer import PROTOCOLS
from vpnforensics.groundtruth.simulate.spec import Background, Capture

from .cases import PUBLIC, SERVER, Case, small

FILES = ("ingress.pcap", "egress.pcap", "truth.json", "manifest.json")


def test_same_seed_same_bytes_other_seed_other_bytes(make, tmp_path):
    first = make(small())
    simulate(small(), tmp_path / "again", 7)
    simulate(small(), tmp_path / "other", 8)
    for name in FILES:
        original = (first.folder / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == original
        assert (tmp_path / "other" / name).read_bytes() != original


def test_nothing_else_is_left_in_the_folder(make):
    assert sorted(path.name for path in make(small()).folder.iterdir()) == sorted(FILES)


def test_manifest_names_the_files_by_hash(make):
    case = make(small())
    manifest = json.loads((case.folder / "manifest.json").read_text())
    assert manifest["seed"] == 7
    for name in FILES[:3]:
        content = (case.folder / name).read_bytes()
        assert manifest["files"][name] == {"bytes": len(content), "sha256": sha256(content).hexdigest()}


def test_a_client_keeps_its_packets_when_another_is_added(make):
    full = small()
    both = make(full), make(replace(full, clients=full.clients[:2]))
    tunnels = {tunnel.client.split(":")[0] for tunnel in both[1].truth.tunnels}
    assert len(tunnels) == 2
    seen = [
        [(p.ts_ns, p.ip.id, p.ip.len, p.transport.sport) for p in case.ingress if {p.src, p.dst} & tunnels]
        for case in both
    ]
    assert len(seen[0]) > 500
    assert seen[0] == seen[1]


def flow_key(packet):
    proto = {6: "tcp", 17: "udp", 1: "icmp"}[packet.ip.p]
    if proto == "icmp":
        near = far = packet.transport.data.id
    else:
        near, far = packet.transport.sport, packet.transport.dport
    if packet.src == PUBLIC:
        return proto, f"{packet.src}:{near}", f"{packet.dst}:{far}"
    return proto, f"{packet.dst}:{far}", f"{packet.src}:{near}"


def test_truth_agrees_with_every_packet(make):
    spec = replace(small(), background=Background(ingress=5, egress=4), egress=Capture(1.5, -20.0, loss=0.02))
    case = make(spec)
    times = defaultdict(list)
    for packet in case.egress:
        times[flow_key(packet)].append(packet.ts_ns)
    told = {(f.proto, f.src, f.dst): f for f in case.truth.flows}
    assert len(told) == len(case.truth.flows), "a flow's endpoints name it"
    own = {(f["proto"], f["src"], f["dst"]): f["packets"] for f in case.truth.unattributed}
    assert len(own) >= 4
    assert set(times) == set(told) | set(own)
    for key, flow in told.items():
        assert (flow.packets, flow.first_ns, flow.last_ns) == (len(times[key]), times[key][0], times[key][-1])
    assert all(len(times[key]) == packets for key, packets in own.items())
    outer = {f"{p.src}:{p.transport.sport}" for p in case.ingress if p.dst == SERVER and p.ip.p == 17}
    assert {t.client for t in case.truth.tunnels} <= outer
    assert {f.client for f in case.truth.flows} <= {t.client for t in case.truth.tunnels}
    assert {f.device for f in case.truth.flows} <= set(case.truth.devices)
    document = json.loads((case.folder / "truth.json").read_text())
    assert len(document["flows"]) == len(told)
    reference_ns = case.ingress[0].ts_ns + 1_500_000_000
    expected = {"offset_ns": 1_500_000_000, "drift_ppm": -20.0, "reference_ns": reference_ns}
    assert document["alignment"] == expected
    schema = Path(lab.__file__).with_name("truth.schema.json").read_text()
    jsonschema.validate(document, json.loads(schema))


def test_captures_are_in_order_of_time(make):
    case = make(small())
    for packets in (case.ingress, case.egress):
        times = [packet.ts_ns for packet in packets]
        assert times == sorted(times)


def test_egress_clock_is_offset_and_drifts_from_the_first_ingress_packet(make):
    plain = make(small())
    moved = make(small(egress=Capture(offset_s=4393.217, drift_ppm=40.0)))
    assert moved.truth.alignment.offset_ns == 4_393_217_000_000
    assert moved.truth.alignment.drift_ppm == 40.0
    start = plain.ingress[0].ts_ns
    for before, after in zip(plain.egress, moved.egress, strict=True):
        expected = before.ts_ns + 4_393_217_000_000 + round(40e-6 * (before.ts_ns - start))
        assert abs(after.ts_ns - expected) <= 1


def test_snapped_copy_keeps_times_and_lengths(make):
    whole = make(small())
    cut = make(small(ingress=Capture(snaplen=96), egress=Capture(snaplen=96)))
    for side in ("ingress", "egress"):
        for a, b in zip(getattr(whole, side), getattr(cut, side), strict=True):
            assert (a.ts_ns, a.frame_bytes, a.ip.len, a.ip.id) == (b.ts_ns, b.frame_bytes, b.ip.len, b.ip.id)
            assert b.captured == min(96, b.frame_bytes)


def test_capture_loss_is_what_was_asked(make):
    whole, lossy = make(small()), make(small(ingress=Capture(loss=0.2), egress=Capture(loss=0.2)))
    for side in ("ingress", "egress"):
        n, kept = len(getattr(whole, side)), len(getattr(lossy, side))
        assert abs(kept / n - 0.8) < 4 * np.sqrt(0.16 / n)


def test_late_start_omitted_client_and_cut_file(make):
    spec = small()
    name = spec.clients[0].name
    case = make(replace(spec, ingress=Capture(without=(name,)), egress=Capture(start_s=10.0)))
    whole = make(spec)
    gone = whole.truth.tunnels[0].client
    assert gone not in {t.client for t in case.truth.tunnels}
    assert gone in {f.client for f in case.truth.flows}
    assert gone.split(":")[0] not in {p.src for p in case.ingress}
    assert case.egress[0].ts_ns >= (spec.epoch_s + 10) * 10**9
    cut = make(replace(spec, ingress=Capture(cut_bytes=37)))
    size = (whole.folder / "ingress.pcap").stat().st_size
    assert (cut.folder / "ingress.pcap").stat().st_size == size - 37


def test_microsecond_file(make):
    whole, coarse = make(small()), make(small(ingress=Capture(resolution_ns=1000)))
    content = (coarse.folder / "ingress.pcap").read_bytes()
    assert content[:4] == struct.pack("<I", 0xA1B2C3D4)
    fine = whole.ingress[0].ts_ns
    assert struct.unpack_from("<II", content, 24) == (fine // 10**9, fine % 10**9 // 1000)


def ones_complement(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("protocol", ["wireguard", "openvpn-tcp", "strongswan-kernel"])
def test_lengths_and_checksums(make, protocol):
    case = make(small(protocol))
    for packet in case.ingress[:1500] + case.egress[:3000]:
        raw = bytes(packet.ip)
        assert packet.ip.len == packet.frame_bytes - 14 == len(raw)
        assert ones_complement(raw[:20]) == 0xFFFF
        if packet.ip.p in (6, 17):
            pseudo = raw[12:20] + struct.pack(">HH", packet.ip.p, len(raw) - 20)
            assert ones_complement(pseudo + raw[20:]) == 0xFFFF
        if packet.ip.p == 17:
            assert packet.transport.ulen == len(raw) - 20
        if packet.ip.p == 1:
            assert ones_complement(raw[20:]) == 0xFFFF


DISSECTED = (
    "eth",
    "sll",
    "ip",
    "tcp",
    "udp",
    "icmp",
    "dns",
    "wg",
    "openvpn",
    "esp",
    "udpencap",
    "isakmp",
    "dtls",
)


@pytest.mark.needs("tshark")
@pytest.mark.parametrize(
    ("protocol", "linktype", "snaplen"),
    [("wireguard", "ethernet", 65535), ("openvpn-udp", "sll2", 200), ("strongswan", "raw", 128)]
    + [(p, "ethernet", 65535) for p in ("ocserv-dtls", "openvpn-tcp", "openvpn-udp-v1")],
)
def test_tshark_finds_nothing_malformed(make, protocol, linktype, snaplen):
    capture = Capture(linktype=linktype, snaplen=snaplen)
    case = make(small(protocol, ingress=capture, egress=capture))
    only = ["--disable-protocol", "ALL"]
    for name in DISSECTED:
        only += ["--enable-protocol", name]
    bad = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0"
    # Desegmentation complains of retransmissions that were cut elsewhere.
    only += ["-o", "tcp.desegment_tcp_streams:FALSE"]
    checks = [part for name in ("ip", "tcp", "udp") for part in ("-o", f"{name}.check_checksum:TRUE")]
    if snaplen < 1600:
        bad, checks = "_ws.malformed", []
    for side in ("ingress", "egress"):
        path = str(case.folder / f"{side}.pcap")
        found = subprocess.run(
            ["tshark", "-r", path, *only, *checks, "-Y", bad], capture_output=True, text=True, check=True
        )
        assert found.stdout == ""


def test_background_is_not_a_tunnel_and_not_in_the_flows(make):
    spec = replace(small(), background=Background(ingress=5))
    case, plain = make(spec), make(small())
    extra = [p for p in case.ingress if "100.80.0." in p.src]
    assert {p.src for p in extra} == {f"100.80.0.{i}" for i in range(5)}
    ports = {p.transport.dport for p in extra}
    assert {443, 3478, 53} <= ports
    assert case.truth.flows == plain.truth.flows
    assert (case.folder / "egress.pcap").read_bytes() == (plain.folder / "egress.pcap").read_bytes()
    stun = next(p for p in extra if p.transport.dport == 3478)
    assert stun.payload[:8] == bytes.fromhex("000100002112a442")


def test_nat_keeps_ports_where_it_can_and_never_gives_a_tuple_twice(make):
    case = make(small())
    kept = Counter(f.src.split(":")[1] == f.inner.split(":")[1] for f in case.truth.flows)
    assert kept[True] > 0.95 * len(case.truth.flows)
    spec = small()
    random = make(replace(spec, server=replace(spec.server, random_ports=True)))
    same = sum(f.src.split(":")[1] == f.inner.split(":")[1] for f in random.truth.flows)
    assert same < 0.1 * len(random.truth.flows)


def test_dns_content_is_real(make):
    case = make(small())
    answers = 0
    for packet in case.egress:
        if packet.ip.p == 17 and 53 in (packet.transport.sport, packet.transport.dport):
            message = dpkt.dns.DNS(packet.payload)
            assert len(message.qd) == 1
            answers += len(message.an)
    assert answers > 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol": "pigeon"}, "no protocol 'pigeon'"),
        ({"duration_s": 0.0}, "duration"),
    ],
)
def test_impossible_cases_are_refused_before_anything_is_written(tmp_path, change, said):
    with pytest.raises(ScenarioError, match=said):
        simulate(replace(small(), **change), tmp_path / "new", 1)
    assert not (tmp_path / "new").exists()


def test_two_devices_of_one_name_are_refused(tmp_path):
    spec = small()
    with pytest.raises(ScenarioError, match="same name"):
        simulate(replace(spec, clients=(spec.clients[0],) * 2), tmp_path / "new", 1)


def test_no_clients_is_an_empty_case(tmp_path):
    truth = simulate(replace(small(), clients=()), tmp_path, 1)
    assert truth.flows == ()
    assert (tmp_path / "egress.pcap").stat().st_size == 24


def test_every_protocol_runs(make):
    for name in PROTOCOLS:
        case: Case = make(small(name))
        assert len({tunnel.name for tunnel in case.truth.tunnels}) == 3
        assert sum(f.packets for f in case.truth.flows) > 1000
