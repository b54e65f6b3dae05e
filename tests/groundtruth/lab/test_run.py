from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import dpkt
import jsonschema
import numpy as np
import pytest

from tests.truth import carriers, is_right, known_clients, load
from vpnforensics import correlate
from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab import run as run_module
from vpnforensics.groundtruth.lab.drivers import DRIVERS
from vpnforensics.groundtruth.lab.record import usual
from vpnforensics.groundtruth.lab.run import run
from vpnforensics.groundtruth.lab.state import RUNS, clean
from vpnforensics.groundtruth.scenario import loads
from vpnforensics.packets.table import PROTO_UDP

LOOKS_UP_FOR_ALL = ("http-proxy-squid", "tor")
"""Relays of one process for all: whom a lookup is for cannot be told."""


def needing(kind: str, *more: object):
    """The parameters of a test that runs this VPN."""
    return pytest.param(kind, *more, marks=pytest.mark.needs(kind))


SCHEMA = json.loads(Path(run_module.__file__).with_name("truth.schema.json").read_text())


def check(folder: Path) -> dict:
    truth = json.loads((folder / "truth.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    jsonschema.validate(truth, SCHEMA)
    assert set(manifest["dropped"].values()) == {0}
    assert manifest["congestion_control"] in ("cubic", "reno")
    assert {p.name for p in folder.iterdir()} == {*manifest["sha256"], "manifest.json"}
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    clients = {t["client"] for t in truth["tunnels"]}
    assert {f["client"] for f in truth["flows"]} <= clients
    return truth


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.needs("wireguard")
def test_ten_seconds_of_wireguard_are_covered_by_the_truth(tmp_path):
    result = run(usual("wireguard", 3, 10, seed=5, inner=True), tmp_path / "out")
    truth = check(result.folder)
    assert result.coverage.share >= 0.999
    assert len(truth["tunnels"]) == 3
    with (result.folder / "egress.pcap").open("rb") as file:
        frames = [bytes(frame) for _, frame in dpkt.pcap.Reader(file)]
    rows = truth["flows"] + truth["unattributed"]
    assert sum(row["packets"] for row in rows) == len(frames)
    assert not any(len(frame) > 1514 for frame in frames), "a super-packet: offloads were left on"
    with (result.folder / "ingress.pcap").open("rb") as file:
        outer = [dpkt.ethernet.Ethernet(frame).data for _, frame in dpkt.pcap.Reader(file)]
    initiation = next(ip.data.data for ip in outer if isinstance(ip, dpkt.ip.IP) and ip.p == 17)
    assert initiation[:4] == b"\1\0\0\0", "the capture began after the handshake"
    assert {tuple(d["ip_id"].items()) for d in truth["devices"].values()} == {
        (("tcp", "per_flow"), ("udp", "per_flow"), ("icmp", "bucket"))
    }
    steps = udp_id_steps(frames)
    assert steps[1] > 0.9 * steps.total() > 10, "the kernel numbers connected UDP sockets otherwise"
    inner = sorted(p.name for p in result.folder.glob("inner-*"))
    assert inner == [*(f"inner-client-{i}.pcap" for i in (1, 2, 3)), "inner-server-1.pcap"]


def udp_id_steps(frames: list[bytes]) -> Counter[int]:
    """By how much IP IDs grow from one datagram up to the next of the same flow."""
    last: dict[tuple[int, bytes], int] = {}
    steps: Counter[int] = Counter()
    for ip in (dpkt.ethernet.Ethernet(frame).data for frame in frames):
        if isinstance(ip, dpkt.ip.IP) and isinstance(ip.data, dpkt.udp.UDP) and ip.data.dport == 53:
            flow = ip.data.sport, ip.dst
            if flow in last:
                steps[(ip.id - last[flow]) & 0xFFFF] += 1
            last[flow] = ip.id
    return steps


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("kind", [needing(kind) for kind in sorted(DRIVERS)])
def test_every_driver_records(kind, tmp_path):
    clients = 2 if "linux.uml" in DRIVERS[kind].programs else 3  # each boots a kernel
    result = run(usual(kind, clients, 4, seed=6), tmp_path)
    truth = check(tmp_path)
    assert {t["protocol"] for t in truth["tunnels"]} == {kind}
    idle = 1 if DRIVERS[kind].relay else 0  # many connect only when there is something to carry
    assert len(truth["tunnels"]) >= clients - idle
    assert result.coverage.flows > 10
    assert all(row["reason"] for row in truth["unattributed"])
    rows = truth["flows"] + truth["unattributed"]
    lookups = sum(row["packets"] for row in truth["unattributed"] if row.get("dst", "").endswith(":53"))
    lookups = lookups if kind in LOOKS_UP_FOR_ALL else 0
    least = 0.99 if DRIVERS[kind].told_by_programs else 0.999  # some say nothing before the end
    assert result.coverage.in_true_flows + lookups >= least * result.coverage.egress_packets
    assert sum(row["packets"] for row in rows) == result.coverage.egress_packets


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.needs("shadowsocks")
def test_lookups_that_a_relay_passes_on_as_datagrams_are_left_open(tmp_path):
    """Each is a conversation of its own on either side; what else the relay carried is linked beside them."""
    scenario = loads("""
duration_s: 8
vpn: {kind: shadowsocks}
clients: [{traffic: [browse, browse, dns]}, {traffic: [browse, dns]}, {traffic: [dns, dns]}]
""")
    run(scenario, tmp_path)
    check(tmp_path)
    recording = load(tmp_path)
    assert np.count_nonzero(recording.ingress.proto == PROTO_UDP) > 20
    case = correlate(recording.ingress, recording.egress)
    true, known = carriers(recording, case), known_clients(case)
    tcp = (case.endpoints["proto"] == "tcp").to_numpy()
    linked = case.links["tunnel"].isin(known).to_numpy()
    assert linked[tcp].mean() > 0.5
    assert set(case.links["verdict"][~tcp]) == {"undecided"}
    assert all(is_right(known[case.links["tunnel"][f]], true[f]) for f in np.flatnonzero(linked))


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.needs("openvpn-tcp")
def test_stacks_devices_and_degraded_captures(tmp_path):
    scenario = loads("""
duration_s: 6
vpn: {kind: openvpn-tcp}
clients:
  - {name: ann, traffic: [browse, dns], stack: {personality: windows-legacy}}
  - name: bob
    devices:
      - {name: mac, traffic: [browse], stack: {personality: macos}}
      - {name: old, traffic: [browse], stack: {personality: linux-legacy}}
capture:
  ingress: {snaplen: 128, format: pcapng}
  egress: {snaplen: 96, linktype: sll2, clock_offset_s: 4393.217, clock_drift_ppm: 40, loss: 0.05}
""")
    run(scenario, tmp_path)
    truth = check(tmp_path)
    assert (tmp_path / "ingress.pcapng").exists()
    assert abs(truth["alignment"]["offset_ns"] - 4_393_217_000_000) < 2
    owner = {(f["proto"], f["src"].rpartition(":")[2]): f["device"] for f in truth["flows"]}
    seen = Counter()
    with (tmp_path / "egress.pcap").open("rb") as file:
        reader = dpkt.pcap.Reader(file)
        assert reader.datalink() == 276
        for _, frame in reader:
            assert len(frame) <= 96
            ip = dpkt.ip.IP(frame[20:])
            if isinstance(ip.data, dpkt.tcp.TCP) and bytes(ip.src) == bytes([203, 0, 113, 1]):
                options = dict(dpkt.tcp.parse_opts(ip.data.opts))
                device = owner["tcp", str(ip.data.sport)]
                seen[device, ip.ttl, dpkt.tcp.TCP_OPT_TIMESTAMP in options, ip.id == 0] += 1
    shapes = {shape for shape, n in seen.items() if n > 5}
    assert ("ann", 127, False, False) in shapes
    assert ("bob-mac", 62, True, True) in shapes
    assert ("bob-old", 62, True, False) in shapes
    assert {device for device, *_ in shapes} == {"ann", "bob-mac", "bob-old"}


OWN_KERNEL = """
duration_s: 40
vpn: {kind: wireguard}
clients:
  - {host: uml, traffic: [ping, dns, browse], stack: {clock_ppm: 200, personality: linux-legacy}}
  - {traffic: [ping, dns]}
"""


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.needs("wireguard", "uml")
def test_a_host_with_its_own_kernel(tmp_path):
    scenario = loads(OWN_KERNEL.replace("40", "6"))
    result = run(scenario, tmp_path)
    truth = check(tmp_path)
    assert result.coverage.share >= 0.999
    assert truth["devices"]["client-1"]["clock"]["skew_ppm"] == 200.0
    flows = Counter(f["device"] for f in truth["flows"])
    assert set(flows) == {"client-1", "client-2"}
    with (tmp_path / "egress.pcap").open("rb") as file:
        sizes = [len(frame) for _, frame in dpkt.pcap.Reader(file)]
    assert max(sizes) <= 1514, "offloads are on somewhere"


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.needs("wireguard", "uml")
def test_a_host_with_its_own_kernel_is_cleaned_away(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN_KERNEL)
    process = start(
        "from vpnforensics.groundtruth import scenario; from vpnforensics.groundtruth.lab import run;"
        f"run.run(scenario.load('{tmp_path}/own.yaml'), '{tmp_path}/out')"
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert any(line.startswith("process") for line in clean())
    assert list((tmp_path / "out").iterdir()) == []


def start_and_wait(kind: str, tmp_path: Path) -> subprocess.Popen:
    argv = ["--vpn", kind, "--clients", "2", "--seconds", "60", "-o", str(tmp_path / "out")]
    return start(f"from vpnforensics.groundtruth.lab import record\nraise SystemExit(record.main({argv!r}))")


def start(program: str) -> subprocess.Popen:
    """Run a program in another process until its traffic goes."""
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 120
    own = f'"pid": {process.pid},'
    while not any(own in (log.parent / "state.jsonl").read_text() for log in RUNS.glob("*/tap-inner-*.log")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(2)
    return process


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("kind", [needing("wireguard"), needing("strongswan-kernel")])
def test_killed_midway_and_cleaned(kind, tmp_path):
    process = start_and_wait(kind, tmp_path)
    assert clean() == [], "a live run was cleaned away"
    process.send_signal(signal.SIGKILL)
    process.wait()
    removed = clean()
    assert any(line.startswith("namespace") for line in removed)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("kind", "number"),
    [
        needing("wireguard", signal.SIGINT),
        needing("wireguard", signal.SIGTERM),
        needing("strongswan-kernel", signal.SIGINT),
    ],
)
def test_interrupted(kind, number, tmp_path):
    process = start_and_wait(kind, tmp_path)
    process.send_signal(number)
    assert process.wait(timeout=60) != 0
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("kind", "program"), [needing("openvpn-udp", "openvpn"), needing("strongswan-kernel", "linux.uml")]
)
def test_a_vpn_program_that_fails_is_one_error(kind, program, tmp_path, monkeypatch):
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / program).write_text("#!/bin/sh\necho broken on purpose; exit 3\n")
    (broken / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    with pytest.raises(ScenarioError, match="broken on purpose"):
        run(usual(kind, 2, 5, seed=1), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
