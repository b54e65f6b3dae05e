"""Time and memory of correlating a large case, beside the time of reading it.

Simulates 500 tunnels with 20,000 flows, about 1 M packets a side (and the same with twice the packets), then
correlates in fresh processes, each a few times. Read the ratios of the medians: times move with the machine.
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
from statistics import median
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
_RUNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--tunnels", type=int, default=TUNNELS)
    parser.add_argument("--scale", type=float, default=0.045, help="factor on transfer sizes")
    parser.add_argument("--keep", type=Path, help="folder for the captures, reused if they are there")
    parser.add_argument("--engines", nargs="+", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps((memory if options.memory else measure)(options.measure, options.engines)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        for name, duration_s, factor in (("one", 300.0, 1), ("two", 600.0, 2)):
            if not (root / name / "egress.pcap").exists():
                simulate(root / name, options.tunnels, duration_s, options.scale, factor)
        in_own_process(root / "one", [])  # warms the kernel cache and the page cache
        in_own_process(root / "two", _ALONE)
        report(
            several(root / "one", _ALONE),
            several(root / "two", _ALONE),
            several(root / "one", []),
            in_own_process(root / "one", _ALONE, "--memory"),
        )


def simulate(folder: Path, tunnels: int, duration_s: float, scale: float, factor: int) -> None:
    """One case; ``factor`` times the flows in ``factor`` times the time."""
    command = [sys.executable, "-m", "vpnforensics.groundtruth.simulate", "--tunnels", str(tunnels)]
    command += ["--flows", str(FLOWS_A_TUNNEL * factor), "--duration", str(duration_s), "--scale", str(scale)]
    command += ["--snaplen", "96", "--offset", "12.5", "--drift", "20", "-o", str(folder)]
    subprocess.run(command, check=True)


def several(folder: Path, engines: list[str]) -> dict[str, float]:
    """Medians over a few processes: a shared machine's single times say little."""
    runs = [in_own_process(folder, engines) for _ in range(_RUNS)]
    return {key: median(run[key] for run in runs) for key in runs[0]}


def in_own_process(folder: Path, engines: list[str], *flags: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(folder), *flags]
    command += ["--engines", *engines] if engines else []
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def measure(folder: Path, engines: list[str]) -> dict[str, float]:
    """Read and correlate once, and the time of each."""
    import vpnforensics as vf

    warm_up(engines)
    start, start_cpu = time.perf_counter(), time.process_time()
    ingress = vf.read_capture(folder / "ingress.pcap")
    egress = vf.read_capture(folder / "egress.pcap")
    read, read_cpu = time.perf_counter() - start, time.process_time() - start_cpu
    start, start_cpu = time.perf_counter(), time.process_time()
    case = vf.correlate(ingress, egress, **chosen(engines))
    correlated, correlated_cpu = time.perf_counter() - start, time.process_time() - start_cpu
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
    }


def memory(folder: Path, engines: list[str]) -> dict[str, float]:
    """Peak memory of correlating two files, above that of the process with its libraries loaded."""
    import vpnforensics as vf

    warm_up(engines)
    before = peak_bytes()
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap", **chosen(engines))
    packets = sum(row["packets"] for row in case.inputs)
    return {"bytes_a_packet": (peak_bytes() - before) / packets}


def warm_up(engines: list[str]) -> None:
    """A small case first, so that compiled kernels and libraries are in memory before anything is counted."""
    import vpnforensics as vf

    sample = Path(__file__).parent.parent / "samples" / "wireguard"
    vf.correlate(sample / "ingress.pcap", sample / "egress.pcap", **chosen(engines))


def chosen(engines: list[str]) -> dict[str, Any]:
    return {"engines": engines} if engines else {}


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


def report(
    one: dict[str, float], two: dict[str, float], every: dict[str, float], peak: dict[str, float]
) -> None:
    print(f"{'':34}{'one':>14}{'two':>14}{'one, all':>14}")
    counts = {"packets, both sides": "packets", "tunnels": "tunnels", "flows": "flows"}
    for label, key in {**counts, "linked": "linked", "linked wrongly": "wrong"}.items():
        print(f"{label:34}{one[key]:>14,.0f}{two[key]:>14,.0f}{every[key]:>14,.0f}")
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
        peak["bytes_a_packet"],
        every["correlate_s"] / one["correlate_s"],
    )
    print()
    for (label, aim), value in zip(_AIMS, ratios, strict=True):
        print(f"{label:34}{value:>14.2f}   aim {aim}")


def pairs(row: dict[str, float]) -> float:
    return row["flows"] * row["tunnels"] / row["correlate_s"]


if __name__ == "__main__":
    main()
