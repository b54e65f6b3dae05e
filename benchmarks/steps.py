"""Flows linked, wrong and denied where a capture's clock is set while it runs, and where it is not."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

import vpnforensics as vf
from tests.truth import Recording, Tally, load, tally
from vpnforensics.cli.main import main as vpnf
from vpnforensics.report.result import CaseResult

PROTOCOLS = ("wireguard", "openvpn-udp")
SIZES_S = (-5.0, -1.5, -0.3, 2.0, 3600.0)
PLACES = (0.2, 0.5, 0.8)


def main() -> None:
    seeds = [int(seed) for seed in sys.argv[1:]] or [1, 2, 3]
    heads = (
        "protocol",
        "seed",
        "role",
        "set by",
        "flows",
        "no step",
        "with",
        "wrong",
        "denied",
        "steps named",
    )
    print(("{:>12}" * len(heads)).format(*heads))
    for protocol in PROTOCOLS:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                arguments = ["--tunnels", "6", "--flows", "30", "--duration", "90", "--offset", "17.25"]
                arguments += ["--drift", "20", "--loss", "0.003", "--protocol", protocol]
                vpnf(["simulate", "-q", "-o", folder, "--seed", str(seed), *arguments])
                recording = load(Path(folder))
            sides = {side: replace(getattr(recording, side), source=None) for side in ("ingress", "egress")}
            recording = replace(recording, **sides)
            plain = vf.correlate(recording.ingress, recording.egress)
            without, denied_without = tally(recording, plain, offset_s=17.25), denied(recording, plain)
            for role in ("ingress", "egress"):
                for size_s in SIZES_S:
                    runs = [run(recording, role, size_s, place) for place in PLACES]
                    total = without.long + without.short
                    print(
                        f"{protocol:>12}{seed:>12}{role:>12}{size_s:>+10g} s{total:>12}"
                        f"{linked(without):>12}{'/'.join(str(linked(found)) for found, *_ in runs):>12}"
                        f"{sum(found.wrong for found, *_ in runs):>12}"
                        f"{max(d for _, d, _ in runs) - denied_without:>12}"
                        f"{sum(named for *_, named in runs)}/{len(runs)}".rjust(12),
                        flush=True,
                    )


def run(recording: Recording, role: str, size_s: float, place: float) -> tuple[Tally, int, bool]:
    """One capture with its clock set after this share of its packets: tally, false denials, step named."""
    table = getattr(recording, role)
    set_ns = round(size_s * 1e9) * (np.arange(len(table)) >= round(place * len(table)))
    stepped = replace(recording, **{role: replace(table, ts_ns=table.ts_ns + set_ns)})
    found = vf.correlate(stepped.ingress, stepped.egress)
    steps = found.alignment.steps
    size_ns = round(size_s * 1e9)
    named = len(steps) == 1 and steps[0].role == role and abs(steps[0].size_ns - size_ns) < 2_000_000
    return tally(stepped, found, offset_s=17.25), denied(recording, found), named


def linked(found: Tally) -> int:
    return found.long_linked + found.short_linked


def denied(recording: Recording, case: CaseResult) -> int:
    """Flows called ``no_tunnel`` that a tunnel carried."""
    carried = {(f["src"], f["dst"]) for f in recording.truth["flows"]}
    rows = zip(case.flows.itertuples(), case.links["verdict"], strict=True)
    return sum(verdict == "no_tunnel" and (flow.src, flow.dst) in carried for flow, verdict in rows)


if __name__ == "__main__":
    main()
