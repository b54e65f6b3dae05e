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
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from contextlib import suppress
from hashlib import sha256
from itertools import count
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from threading import Thread
from typing import NamedTuple

from correlating import simulate
from figures import figure, heading
from scale import DRIFT, PERIOD_NS, anonymous_bytes
from tiling import tile

import vpnforensics as vf

PACKAGE = Path(vf.__file__).parent
_LEAST = 1.0
"""Bytes a packet below which a module is not named."""


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
        small, large = ran(one, None), ran(many, None)
        by_step(small, large, "in memory")
        bound = ran(one, root), ran(many, root)
        by_step(*bound, "in files")
        figure("time, in files / in memory", f"{bound[1].cpu_s / large.cpu_s:.2f}")
        same = [each.result for each in bound] == [small.result, large.result]
        figure("the same results", "yes" if same else "no", "yes", same)


class Ran(NamedTuple):
    """A case correlated in a process of its own."""

    peaks: dict[str, int]
    """Largest memory of each step that progress told."""
    files_bytes: int
    """Largest size of the files without names."""
    packets: int
    cpu_s: float
    result: str
    """Digest of its JSON."""


def by_step(small: Ran, large: Ran, where: str) -> None:
    """Peaks of both cases, and what a packet costs."""
    packets = large.packets - small.packets
    heading(f"{where}: MiB at most of {small.packets:,} and {large.packets:,} packets; bytes a packet more")
    for step, peak in large.peaks.items():
        few = small.peaks[step]
        figure(step, f"{few / 2**20:6,.0f} {peak / 2**20:7,.0f} {(peak - few) / packets:6.0f}")
    if large.files_bytes:
        figure("the files, bytes a packet", f"{large.files_bytes / large.packets:.0f}")


def ran(folder: Path, scratch: Path | None) -> Ran:
    """Correlate a case, and look at the process."""
    words = [sys.executable, __file__, "--run", str(folder), *([str(scratch)] if scratch else [])]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    told: list[str] = []

    def listen() -> None:
        assert process.stdout is not None
        told.extend(line.strip() for line in iter(process.stdout.readline, ""))

    listener = Thread(target=listen)
    listener.start()
    peaks: dict[str, int] = {}
    files = 0
    for looked in count():
        if process.poll() is not None:
            break
        if told and told[-1][:1] != "{":
            peaks[told[-1]] = max(peaks.get(told[-1], 0), anonymous_bytes(process.pid)[0])
        if looked % 50 == 0:
            files = max(files, nameless_bytes(process.pid))
        time.sleep(0.005)
    listener.join()
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(words)}")
    return Ran(peaks, files, **json.loads(told[-1]))


def nameless_bytes(pid: int) -> int:
    """Size of the files that a process has mapped and that have no names."""
    with suppress(FileNotFoundError, ProcessLookupError):
        mappings = (line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
        ends = (words[0].split("-") for words in mappings if words[-1] == "(deleted)")
        return sum(int(end, 16) - int(begin, 16) for begin, end in ends)
    return 0


def run(folder: Path, scratch: Path | None = None) -> None:
    """Correlate, and say each step as it begins; at the end what came of it."""
    last = ""

    def tell(step: str, share: float) -> None:
        nonlocal last
        if step != last:
            print(step, flush=True)
        last = step

    sides = folder / "ingress.pcap", folder / "egress.pcap"
    case = vf.correlate(*sides, engines="packets", scratch=scratch, progress=tell)
    tell("writing the result", 0.0)
    digest = sha256()
    for piece in case.json_pieces():
        if not piece.startswith(' "tool"'):  # which has the date
            digest.update(piece.encode())
    usage = getrusage(RUSAGE_SELF)
    packets = sum(side["packets"] for side in case.inputs)
    found = {"packets": packets, "cpu_s": usage.ru_utime + usage.ru_stime, "result": digest.hexdigest()}
    print(json.dumps(found), flush=True)


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
