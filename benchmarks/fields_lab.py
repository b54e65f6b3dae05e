"""Figures of the header-field engines on real stacks, recorded by this script in network namespaces.

    python benchmarks/fields_lab.py [personalities|tunnels|clocks]...

Needs root and the lab's programs (``vpnf lab doctor`` lists them); what cannot be recorded is said to be
left out, and why. The clocks take five minutes and a half, the rest three minutes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import vpnforensics as vf
from benchmarks.figures import chosen_sections, figure, heading, share
from tests.groundtruth.lab import personalities as lab_personalities
from tests.truth import load, tally
from vpnforensics.errors import ScenarioError
from vpnforensics.features.senders import find_senders
from vpnforensics.features.tcp_clock import sender_clock
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.groundtruth.lab.record import usual
from vpnforensics.groundtruth.lab.run import run as record
from vpnforensics.groundtruth.scenario import loads
from vpnforensics.packets.read import read_capture

EACH_PERSONALITY = 3
ASKED_PPM, WITHIN_PPM = (-80, 35, 200), 1.0
TUNNEL_S = 60.0


def personalities() -> None:
    heading("IP ID of recorded hosts, by personality: devices of 50 and more packets classed right")
    with tempfile.TemporaryDirectory() as folder:
        record(lab_personalities.scenario(seconds=20, each=EACH_PERSONALITY), folder)
        for loss in (0.0, 0.2):
            graded = [g for g in lab_personalities.grade(Path(folder), loss) if g.packets >= 50]
            for true in dict.fromkeys(g.true for g in graded):
                found = Counter(g.found for g in graded if g.true == true)
                others = ", ".join(f"{name} {n}" for name, n in found.items() if name != true)
                said = share(found[true], found.total()) + (f"; else {others}" if others else "")
                figure(f"{true}, {loss:.0%} missing", said, "all", not others)


def tunnels() -> None:
    heading(f"tunnels over TCP: 3 clients, {TUNNEL_S:g} s; flows of 10+ packets linked, all engines")
    for kind in ("openvpn-tcp", "ocserv-tls"):
        with tempfile.TemporaryDirectory() as folder:
            record(usual(kind, 3, TUNNEL_S, 1), folder)
            recording = load(Path(folder))
            found = tally(recording, vf.correlate(recording.ingress, recording.egress))
        figure(
            kind,
            f"{share(found.long_linked, found.long)}, wrong {found.wrong};"
            f" shorter flows {share(found.short_linked, found.short)}",
            ">= 0.98, none wrong",
            found.long_share >= 0.98 and not found.wrong,
        )


def clocks() -> None:
    heading("clocks of recorded hosts on kernels of their own, 5 min, by the tunnel's TSval at ingress, ppm")
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
        said, met = f"nothing: {found.reason}", False
        if found.skew_ppm is not None and found.skew_interval_ppm is not None:
            low, high = found.skew_interval_ppm
            said = f"{found.skew_ppm:+.2f} ({low:+.2f} to {high:+.2f}), error {found.skew_ppm - ppm:+.2f}"
            met = abs(found.skew_ppm - ppm) <= WITHIN_PPM
        figure(
            f"set {ppm:+.0f}, {len(rows)} packets, {found.duration_ns * 1e-9:.0f} s",
            said,
            f"within {WITHIN_PPM:g}",
            met,
        )


SECTIONS = {"personalities": personalities, "tunnels": tunnels, "clocks": clocks}


def main() -> None:
    for name in chosen_sections(__doc__, SECTIONS):
        if os.geteuid() != 0:
            heading(f"{name}: left out: recording needs root")
            continue
        try:
            SECTIONS[name]()
        except ScenarioError as error:
            figure(name, f"left out: {error}")


if __name__ == "__main__":
    main()
