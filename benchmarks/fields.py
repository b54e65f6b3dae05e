"""Figures of the header-field features and engines: clocks, IP IDs, devices, legacy TCP tunnels.

    python benchmarks/fields.py [--lab] [clock|ipid|devices|tunnels|lab-ipid|lab-clock]...

What is simulated comes from fixed seeds and takes less than two minutes. As root the last two sections
record real stacks: hosts dressed as other systems (half a minute), and, with --lab, hosts on kernels of their
own whose clocks were set off (five minutes and a half).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.engines import cases
from tests.features import models
from tests.groundtruth.lab import personalities
from vpnforensics.engines import ip_id, timestamps
from vpnforensics.errors import ScenarioError
from vpnforensics.features.devices import find_devices
from vpnforensics.features.ip_id import classify_ip_ids
from vpnforensics.features.senders import find_senders
from vpnforensics.features.tcp_clock import sender_clock
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.groundtruth.lab.run import run as record
from vpnforensics.groundtruth.scenario import loads
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PROTO_TCP

CLOCKS = 200
SENDERS = 200
DEVICE_CASES = 8
EACH_PERSONALITY = 3
ASKED_PPM = (-80, 35, 200)


def clock() -> None:
    print("clock: error of the skew under bursty queueing, ppm")
    for name, path in (
        ("load 0.6", models.Path()),
        ("load 0.2", models.Path(burst_hz=2.0)),
        ("load 0.8, sparse", models.Path(burst_hz=8.0, packets_hz=6.0)),
    ):
        for seconds, target in ((75, None), (120, 2.0), (600, 0.3)):
            rng = np.random.default_rng(seconds)
            errors, covered, hull, median, agreed, spoke = [], [], [], [], 0, 0
            for _ in range(CLOCKS):
                skew = float(rng.normal(0, 50))
                found = sender_clock(*models.clock_packets(seconds, skew, rng, path))
                if found.fit is None:
                    continue
                spoke += 1
                low, high = found.skew_interval_ppm
                errors.append(abs(found.skew_ppm - skew))
                covered.append(low <= skew <= high)
                hull.append(abs(found.fit.hull * 1e6 - skew))
                median.append(abs(found.fit.theil_sen * 1e6 - skew))
                agreed += found.fit.agree
            goal = f" (target {target})" if target else ""
            at_90, sharp, robust = np.quantile(errors, 0.9), np.median(hull), np.median(median)
            print(
                f"  {name:16s} {seconds:4d} s: median {np.median(errors):.3f}{goal}, 90 % {at_90:.3f};"
                f" hull {sharp:.3f}, Theil-Sen {robust:.3f}; interval covers {np.mean(covered):.3f};"
                f" agree {agreed}/{spoke}; spoke {spoke}/{CLOCKS}"
            )


def ipid() -> None:
    print("IP ID: senders of 50 and more packets classed right at 20 % loss (target 0.99)")
    rng = np.random.default_rng(1)
    right, total = 0, 0
    for kind in models.PERSONALITIES:
        found: dict[str, int] = {}
        for _ in range(SENDERS):
            t, ids, flow, destination = models.ip_id_packets(kind, rng, packets=int(rng.integers(65, 400)))
            if len(ids) >= 50:
                named = classify_ip_ids(t, ids, flow, destination).ip_id_class
                found[named] = found.get(named, 0) + 1
        right += found.get(kind, 0)
        total += sum(found.values())
        print(f"  {kind:16s} {found}")
    print(f"  right: {right}/{total} = {right / total:.4f}")


def devices() -> None:
    print("devices: 3 behind one tunnel, about 60 TCP flows, 10 min; pairs of TCP flows")
    for stack, target in (
        ("linux-legacy", "precision 0.99, recall 0.9"),
        ("android-legacy", "precision 0.99, recall 0.9"),
        ("macos-legacy", "precision 0.99, recall 0.9"),
        ("linux-4.11", "precision 0.99"),
        ("linux", "precision 0.99"),
        ("windows-7", "no target"),
        ("openbsd", "precision 0.99"),
    ):
        joined, right, same, flows = 0, 0, 0, 0
        for seed in range(DEVICE_CASES):
            with tempfile.TemporaryDirectory() as folder:
                truth = simulate(cases.devices_behind_one_tunnel(stack, seed), folder, seed)
                table = assemble_flows(read_capture(Path(folder) / "egress.pcap"))
            owner = cases.owners(table, truth, "device")
            found = find_devices(find_senders(table)).device
            tcp = np.flatnonzero((table.proto == PROTO_TCP) & (owner >= 0))
            one, other = np.triu_indices(len(tcp), 1)
            alike = owner[tcp[one]] == owner[tcp[other]]
            told = (found[tcp[one]] == found[tcp[other]]) & (found[tcp[one]] >= 0)
            joined, right, same = joined + told.sum(), right + (told & alike).sum(), same + alike.sum()
            flows += len(tcp)
        precision = f"{right / joined:.4f}" if joined else "nothing joined"
        print(
            f"  {stack:16s} {DEVICE_CASES} cases, {flows} flows: precision {precision},"
            f" recall {right / same:.4f} (target: {target})"
        )


def tunnels() -> None:
    print("tunnels: 20 clients of one stack, one engine alone; flows of 10+ packets (target 0.99, 0 false)")
    for stack, protocol in (
        ("linux-legacy", "openvpn-tcp"),
        ("macos-legacy", "openvpn-tcp"),
        ("windows-7", "openvpn-tcp"),
        ("printer", "openvpn-tcp"),
        ("linux", "openvpn-tcp"),
        ("linux-legacy", "wireguard"),
        ("windows-7", "wireguard"),
    ):
        with tempfile.TemporaryDirectory() as folder:
            truth = simulate(cases.clients_of_one_stack(stack, protocol, 20, 1), folder, 1)
            case, owner = cases.case_of(Path(folder), truth)
        long = (case.flows.packets_up + case.flows.packets_down >= 10) & (owner >= 0)
        for engine in (timestamps, ip_id):
            began = time.perf_counter()
            scores = engine.score(case)
            took = time.perf_counter() - began
            linked = cases.best_alone(scores, len(owner))
            right = int(np.sum(long & (linked == owner)))
            wrong = int(np.sum((linked >= 0) & (linked != owner)))
            share = f"{right}/{long.sum()} = {right / long.sum():.4f}"
            print(
                f"  {stack:13s} {protocol:12s} {engine.NAME:11s} {share}, false {wrong},"
                f" {took:.2f} s; {scores.silence}"
            )


def lab_ipid() -> None:
    print(
        "IP ID of recorded hosts, by personality: devices of 50 and more packets classed right (target: all)"
    )
    with tempfile.TemporaryDirectory() as folder:
        record(personalities.scenario(seconds=20, each=EACH_PERSONALITY), folder)
        for loss in (0.0, 0.2):
            graded = [g for g in personalities.grade(Path(folder), loss) if g.packets >= 50]
            for true in dict.fromkeys(g.true for g in graded):
                found = Counter(g.found for g in graded if g.true == true)
                print(f"  {loss:4.0%} missing: {true:16s} {dict(found)}")
            right = sum(g.found == g.true for g in graded)
            print(f"  {loss:4.0%} missing: right: {right}/{len(graded)} = {right / len(graded):.4f}")


def lab_clock() -> None:
    print("clock of recorded hosts on kernels of their own, 5 min, by the tunnel's TSval at ingress, ppm")
    hosts = "".join(
        f"  - {{name: 'host-{i}', host: uml, stack: {{clock_ppm: {ppm}}}, traffic: [ping, dns, ssh]}}\n"
        for i, ppm in enumerate(ASKED_PPM, start=1)
    )
    scenario = loads(f"duration_s: 305\nseed: 7\nvpn: {{kind: openvpn-tcp}}\nclients:\n{hosts}")
    with tempfile.TemporaryDirectory() as folder:
        record(scenario, folder)
        truth = json.loads((Path(folder) / "truth.json").read_text())
        packets = read_capture(Path(folder) / "ingress.pcap")
    asked = {t["client"]: truth["devices"][t["name"]]["clock"]["skew_ppm"] for t in truth["tunnels"]}
    senders = find_senders(assemble_flows(packets, idle_tcp_s=np.inf))
    for s in range(len(senders)):
        if (ppm := asked.get(senders.endpoint(s))) is None:
            continue
        rows = senders.rows_of(s)
        rows = rows[packets.has_ts[rows] == 1]
        found = sender_clock(packets.ts_ns[rows], packets.tsval[rows])
        if found.skew_ppm is None or found.skew_interval_ppm is None:
            print(f"  asked {ppm:+7.1f}: nothing: {found.reason}")
            continue
        low, high = found.skew_interval_ppm
        print(
            f"  asked {ppm:+7.1f}: measured {found.skew_ppm:+8.2f} ({low:+.2f} to {high:+.2f}),"
            f" error {found.skew_ppm - ppm:+.2f}; {len(rows)} packets, {found.duration_ns * 1e-9:.0f} s"
        )


SECTIONS = {"clock": clock, "ipid": ipid, "devices": devices, "tunnels": tunnels}
LAB_SECTIONS = {"lab-ipid": lab_ipid, "lab-clock": lab_clock}


def recorded(name: str, long: bool) -> None:
    """A section that needs the lab, or why it is left out."""
    if os.geteuid() != 0:
        print(f"{name}: skipped: not root")
    elif name == "lab-clock" and not long:
        print(f"{name}: skipped: takes five minutes and a half; give --lab")
    else:
        try:
            LAB_SECTIONS[name]()
        except ScenarioError as error:
            print(f"{name}: skipped: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lab", action="store_true", help="also the recording of five minutes and a half")
    parser.add_argument("section", nargs="*", help=", ".join([*SECTIONS, *LAB_SECTIONS]))
    options = parser.parse_args()
    for name in options.section:
        if name not in SECTIONS and name not in LAB_SECTIONS:
            parser.error(f"there is no section {name!r}")
    for name in options.section or [*SECTIONS, *LAB_SECTIONS]:
        began = time.perf_counter()
        if name in SECTIONS:
            SECTIONS[name]()
        else:
            recorded(name, options.lab or name in options.section)
        print(f"  [{time.perf_counter() - began:.1f} s]")


if __name__ == "__main__":
    main()
