"""Time and memory of correlating a large case, beside the time of reading it.

Simulates 500 tunnels with 20,000 flows, about 1 M packets a side (and the same with twice the packets), then
correlates in fresh processes. Read the ratios: single times move with the machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import vpnforensics as vf

TUNNELS, FLOWS_A_TUNNEL = 500, 40
_AIMS = (
    ("correlating / reading both", "<= 3"),
    ("twice the packets", "<= 2.2"),
    ("bytes a packet beside the files", "<= 150"),
    ("all engines / packets alone", "<= 2"),
)
_ALONE = ["packets"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tunnels", type=int, default=TUNNELS)
    parser.add_argument("--scale", type=float, default=0.045, help="factor on transfer sizes")
    parser.add_argument("--keep", type=Path, help="folder for the captures, reused if they are there")
    parser.add_argument("--engines", nargs="+", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.engines)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        rows = []
        for name, duration_s, scale in (
            ("one", 300.0, options.scale),
            ("two", 600.0, options.scale),
        ):
            folder = root / name
            if not (folder / "egress.pcap").exists():
                simulate(folder, options.tunnels, duration_s, scale, 1 if name == "one" else 2)
            in_own_process(folder, _ALONE)  # warms the kernel cache and the page cache
            rows.append(in_own_process(folder, _ALONE))
        in_own_process(root / "one", [])
        rows.append(in_own_process(root / "one", []))
    report(*rows)


def simulate(folder: Path, tunnels: int, duration_s: float, scale: float, factor: int) -> None:
    """One case; ``factor`` times the flows in ``factor`` times the time."""
    command = [sys.executable, "-m", "vpnforensics.groundtruth.simulate", "--tunnels", str(tunnels)]
    command += ["--flows", str(FLOWS_A_TUNNEL * factor), "--duration", str(duration_s), "--scale", str(scale)]
    command += ["--snaplen", "96", "--offset", "12.5", "--drift", "20", "-o", str(folder)]
    subprocess.run(command, check=True)


def in_own_process(folder: Path, engines: list[str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(folder)]
    command += ["--engines", *engines] if engines else []
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def measure(folder: Path, engines: list[str]) -> dict[str, float]:
    """Read and correlate once; peak memory is above that of the process with its libraries loaded."""
    import vpnforensics as vf

    # A small case first, so that compiled kernels and libraries are in memory before anything is counted.
    small = next(Path(__file__).parent.parent.glob("samples/wireguard/ingress.pcap*"), None)
    if small is not None:
        vf.correlate(small, small.with_name(small.name.replace("ingress", "egress")))
    before = peak_bytes()
    start, start_cpu = time.perf_counter(), time.process_time()
    ingress = vf.read_capture(folder / "ingress.pcap")
    egress = vf.read_capture(folder / "egress.pcap")
    read, read_cpu = time.perf_counter() - start, time.process_time() - start_cpu
    after_reading = peak_bytes()
    start, start_cpu = time.perf_counter(), time.process_time()
    case = vf.correlate(ingress, egress, **({"engines": engines} if engines else {}))
    correlated, correlated_cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = peak_bytes()
    wrong = wrong_links(case, json.loads((folder / "truth.json").read_text()))
    links = case.summary[case.summary["verdict"] == "linked"]
    return {
        "packets": len(ingress) + len(egress),
        "tunnels": len(case.tunnels),
        "flows": len(case.endpoints),
        "linked": len(links),
        "wrong": wrong,
        "read_s": read,
        "correlate_s": correlated,
        "read_cpu_s": read_cpu,
        "correlate_cpu_s": correlated_cpu,
        "read_bytes": after_reading - before,
        "peak_bytes": peak - before,
    }


def wrong_links(case: vf.CaseResult, truth: dict[str, Any]) -> int:
    """Links to a tunnel that did not carry the flow; a translated port is used again, so time tells."""
    known: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for flow in truth["flows"]:
        known.setdefault((flow["src"], flow["dst"]), []).append(flow)
    clients = dict(zip(case.tunnels["id"], case.tunnels["client"], strict=True))
    wrong = 0
    for flow, tunnel in zip(case.endpoints.itertuples(), case.links["tunnel"], strict=True):
        if tunnel in clients:
            nearest = min(known[flow.src, flow.dst], key=lambda f: abs(f["first_ns"] - flow.first_ns))
            wrong += nearest["client"] != clients[tunnel]
    return wrong


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(one: dict[str, float], two: dict[str, float], every: dict[str, float]) -> None:
    print(f"{'':34}{'one':>14}{'two':>14}{'one, all':>14}")
    counts = {"packets, both sides": "packets", "tunnels": "tunnels", "flows": "flows"}
    for label, key in {**counts, "linked": "linked", "linked wrongly": "wrong"}.items():
        print(f"{label:34}{one[key]:>14,}{two[key]:>14,}{every[key]:>14,}")
    for label, key in (
        ("reading both, s", "read_s"),
        ("correlating, s", "correlate_s"),
        ("reading both, CPU s", "read_cpu_s"),
        ("correlating, CPU s", "correlate_cpu_s"),
    ):
        print(f"{label:34}{one[key]:>14.2f}{two[key]:>14.2f}{every[key]:>14.2f}")
    print(f"{'pairs compared a second':34}{pairs(one):>14,.0f}{pairs(two):>14,.0f}{pairs(every):>14,.0f}")
    growth = (two["correlate_s"] / one["correlate_s"]) / (two["packets"] / one["packets"]) * 2
    ratios = (
        one["correlate_s"] / one["read_s"],
        growth,
        one["peak_bytes"] / one["packets"],
        every["correlate_s"] / one["correlate_s"],
    )
    print()
    for (label, aim), value in zip(_AIMS, ratios, strict=True):
        print(f"{label:34}{value:>14.2f}   aim {aim}")


def pairs(row: dict[str, float]) -> float:
    return row["flows"] * row["tunnels"] / row["correlate_s"]


if __name__ == "__main__":
    main()
