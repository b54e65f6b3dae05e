"""What memory a large case takes while it is correlated: by step, without and with a budget.

The smaller case of scale.py, and the same tiled (see tiling.py). Each runs in a process of its own, whose
memory that only swap could hold is read two hundred times a second; with a budget, what is as long as a
capture lies in files. What a packet costs is the larger case's memory beside the smaller's: what Python and
its libraries take by themselves is not in it, but what flows and their results take is, of which there are
more with more packets. ``--modules`` says who asked for memory, of what Python and numpy allocate (what
kernels allocate is not in that).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from threading import Thread

from correlating import simulate
from figures import figure, heading
from scale import DRIFT, PERIOD_NS, anonymous_bytes
from tiling import tile

import vpnforensics as vf

PACKAGE = Path(vf.__file__).parent
_LEAST = 1.0
"""Bytes a packet below which a module is not named."""
_DONE = "writing the result"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, help="folder for the captures, reused if they are there")
    parser.add_argument("--copies", type=int, default=4, help="of 2.6 M packets, of the larger case")
    parser.add_argument("--modules", action="store_true")
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(*map(Path, options.run))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        one, many = root / "one", root / f"tiled-{options.copies}"
        if not (one / "egress.pcap").exists():
            simulate(one, 500, 300.0, 0.045, 1)
        if options.modules:
            modules(one)
            return
        if not (many / "egress.pcap").exists():
            many.mkdir(parents=True)
            tile(one / "ingress.pcap", many / "ingress.pcap", options.copies, PERIOD_NS)
            tile(one / "egress.pcap", many / "egress.pcap", options.copies, PERIOD_NS * (1 + DRIFT))
        by_step(one, many, None)
        by_step(one, many, root)


def by_step(one: Path, many: Path, scratch: Path | None) -> None:
    """Peaks of both cases, and what a packet costs."""
    small, few = peaks(one, scratch)
    large, packets = peaks(many, scratch)
    where = "arrays in files" if scratch else "in memory"
    heading(f"{where}: MiB at most, of {few:,} and {packets:,} packets; bytes a packet more")
    for step, peak in large.items():
        more = (peak - small[step]) / (packets - few)
        figure(step, f"{small[step] / 2**20:6,.0f} {peak / 2**20:7,.0f} {more:6.0f}")


def peaks(folder: Path, scratch: Path | None) -> tuple[dict[str, int], int]:
    """Largest memory of each step that progress told, and how many packets there were."""
    words = [sys.executable, __file__, "--run", str(folder), *([str(scratch)] if scratch else [])]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    told: list[str] = []

    def listen() -> None:
        assert process.stdout is not None
        told.extend(line.strip() for line in iter(process.stdout.readline, ""))

    listener = Thread(target=listen)
    listener.start()
    found: dict[str, int] = {}
    while process.poll() is None:
        steps = [line for line in told if not line.isdecimal()]
        if steps:
            found[steps[-1]] = max(found.get(steps[-1], 0), anonymous_bytes(process.pid)[0])
        time.sleep(0.005)
    listener.join()
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(words)}")
    return found, int(told[-1])


def run(folder: Path, scratch: Path | None = None) -> None:
    """Correlate, and say each step as it begins; at the end how many packets there were."""
    last = ""

    def tell(step: str, share: float) -> None:
        nonlocal last
        if step != last:
            print(step, flush=True)
        last = step

    sides = folder / "ingress.pcap", folder / "egress.pcap"
    case = vf.correlate(*sides, engines="packets", scratch=scratch, progress=tell)
    tell(_DONE, 0.0)
    for _ in case.json_pieces():
        pass
    print(sum(side["packets"] for side in case.inputs), flush=True)


def modules(folder: Path) -> None:
    """Who asked for what memory holds when a step ends, where that is most."""
    largest, snapshot = 0, None

    def tell(step: str, share: float) -> None:
        nonlocal largest, snapshot
        now, _ = tracemalloc.get_traced_memory()
        if now > 1.02 * largest:  # a snapshot takes its time
            largest, snapshot = now, tracemalloc.take_snapshot()

    tracemalloc.start()
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap", engines="packets", progress=tell)
    packets = sum(side["packets"] for side in case.inputs)
    assert snapshot is not None
    heading(f"in memory: bytes a packet by the module that asked for them ({packets:,} packets)")
    for each in snapshot.statistics("filename"):
        path = Path(each.traceback[0].filename)
        if path.is_relative_to(PACKAGE) and each.size >= _LEAST * packets:
            figure(str(path.relative_to(PACKAGE)), f"{each.size / packets:.1f}")
    figure("all", f"{largest / packets:.0f}")


if __name__ == "__main__":
    main()
