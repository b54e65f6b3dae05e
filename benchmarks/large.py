"""A hundred million packets within four gibibytes: converted, correlated, held against a part in memory.

A case of 50 tunnels with some 12,600 flows and 2.5 million packets (both sides) is simulated, and tiled in
time and addresses (see tiling.py): 41 times over it has 101 million packets. Both are made into columns; the
whole is correlated within the budget, a part of it with and without. Memory is what the kernel says it was at
most, or looked at fifty times a second. It takes about half an hour of two cores, and 35 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from figures import figure, heading
from scale import DRIFT, PERIOD_NS, conclusions, packets_of, ran, read, stored, vpnf
from simulating import simulate
from tiling import APART, FIRST_DESTINATION, tile

from vpnforensics.groundtruth.simulate.truth import address_number, address_text

SIDES = ("ingress", "egress")
_NOTHING = "import vpnforensics.packets.read, pyarrow.parquet, pandas"
_IN_MEMORY_TIMES = 3.0
"""Time a packet that the budget may cost, over that of the part in memory."""


class Watched(NamedTuple):
    """A process, and the most that it had of each kind of memory."""

    cpu_s: float
    elapsed_s: float
    resident_bytes: int
    anonymous_bytes: int
    asked_bytes: int
    """What --memory limits (VmData)."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--copies", type=int, default=41, help="of 2.5 M packets; at most 100")
    parser.add_argument("--part", type=int, default=4, help="copies that are correlated in memory, too")
    parser.add_argument("--memory", default="4GiB")
    parser.add_argument("--keep", type=Path, help="folder for captures and columns, reused if they are there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        root.mkdir(exist_ok=True)
        part, whole = (made(root, copies) for copies in (options.part, options.copies))
        nothing_s = ran([vpnf()[0], "-c", _NOTHING]).cpu_s
        columns(whole, nothing_s)
        columns(part, nothing_s)
        within(root, part, whole, options.memory)


def made(root: Path, copies: int) -> Path:
    """The case so many times over."""
    one, many = root / "one", root / f"large-{copies}"
    if not (one / "egress.pcap").exists():
        subprocess.run([*simulate(50, os.cpu_count() or 1, 250, 0.167), "-o", str(one)], check=True)
    for side, period_ns in zip(SIDES, (PERIOD_NS, PERIOD_NS * (1 + DRIFT)), strict=True):
        if not (many / f"{side}.pcap").exists():
            many.mkdir(exist_ok=True)
            tile(one / f"{side}.pcap", many / f"{side}.pcap", copies, period_ns)
    return many


def columns(case: Path, nothing_s: float) -> None:
    """Both sides as columns, and read again."""
    heading(f"columns of {case.name} (packets a second of one core)")
    for side in SIDES:
        packets = packets_of(case / f"{side}.pcap")
        figure(f"{side}: packets", f"{packets:,}")
        if not (case / side / "capture.json").exists():
            wrote = ran(vpnf("convert", case / f"{side}.pcap", "-o", case / side, "-q"))
            rate = packets / (wrote.cpu_s - nothing_s) / 1e6
            figure(f"{side}: writing", f"{rate:.2f} M/s", ">= 1.5 M/s", rate >= 1.5)
            figure(f"{side}: memory while writing", f"{wrote.anonymous_bytes / 2**20:,.0f} MiB")
        each = sum(stored(case / side).values()) / packets
        figure(f"{side}: bytes a packet", f"{each:.1f}", "<= 25", each <= 25)
    if packets < 10_000_000:  # more would not fit into memory as they are
        rate = packets / (ran(read(case / "egress")).cpu_s - nothing_s) / 1e6
        figure("egress: reading", f"{rate:.2f} M/s", ">= 1 M/s", rate >= 1)


def within(root: Path, part: Path, whole: Path, memory: str) -> None:
    """The whole within a budget; the part with one and without."""
    heading(f"correlating (engine packets, JSON), --memory {memory}")
    sizes = {case: sum(packets_of(case / side) for side in SIDES) for case in (part, whole)}
    free = watched(part, part / "free.json")
    budget = ["--memory", memory, "--scratch", str(root)]
    bound = watched(part, part / "bound.json", *budget)
    same = conclusions(part / "free.json") == conclusions(part / "bound.json")
    each_s = free.cpu_s / sizes[part]
    figure("the part: packets", f"{sizes[part]:,}")
    figure("the part in memory: resident, time a packet", f"{_mib(free)}, {each_s * 1e6:.2f} us")
    figure("the part within the budget: the same result", "yes" if same else "no", "yes", same)
    ratio = bound.cpu_s / free.cpu_s
    figure("the part within the budget: time beside in memory", f"{ratio:.2f}")
    large = watched(whole, whole / "bound.json", *budget)
    figure("the whole: packets", f"{sizes[whole]:,}", ">= 100,000,000", sizes[whole] >= 10**8)
    tunnels, flows = (sum(1 for _ in rows(whole / "bound.json", name)) for name in ("tunnels", "flows"))
    figure("the whole: tunnels", f"{tunnels:,}", ">= 2,000", tunnels >= 2000)
    figure("the whole: flows", f"{flows:,}", ">= 500,000", flows >= 500_000)
    allowed = float(memory.removesuffix("GiB")) * 2**30
    figure("the whole: resident at most", _mib(large), f"<= {memory}", large.resident_bytes <= allowed)
    figure("  of that its own", f"{large.anonymous_bytes / 2**20:,.0f} MiB")
    figure("  and what it had asked for", f"{large.asked_bytes / 2**20:,.0f} MiB")
    figure(
        "the whole: seconds, by the clock and of processors", f"{large.elapsed_s:,.0f}, {large.cpu_s:,.0f}"
    )
    ratio = large.cpu_s / sizes[whole] / each_s
    aim = f"<= {_IN_MEMORY_TIMES:g}"
    figure(
        "the whole: time a packet beside the part in memory", f"{ratio:.2f}", aim, ratio <= _IN_MEMORY_TIMES
    )
    few, many = links(part / "free.json"), links(whole / "bound.json")
    for case, found in ((part, few), (whole, many)):
        wrong = sum(client != true for client, true in against_truth(root / "one" / "truth.json", found))
        linked = sum(client is not None for client in found.values())
        figure(f"{case.name}: flows linked, and wrongly", f"{linked:,}, {wrong:,}", "0 wrongly", not wrong)
    both = [(client, many.get(flow)) for flow, client in few.items() if client is not None]
    left = sum(client is None for _, client in both)
    other = sum(client not in (None, mine) for mine, client in both)
    figure("links of the part: of them undecided in the whole", f"{left:,} of {len(both):,}")
    figure("links of the part: to another tunnel in the whole", f"{other:,}", "0", not other)


def _mib(process: Watched) -> str:
    return f"{process.resident_bytes / 2**20:,.0f} MiB"


def watched(case: Path, result: Path, *options: str) -> Watched:
    """Correlate a case: its columns within a budget, its captures in memory."""
    sides = [case / (side if options else f"{side}.pcap") for side in SIDES]
    command = vpnf("correlate", *sides, "--engine", "packets", "-f", "json", "-q", *options, "-o", result)
    begin_s = time.monotonic()
    process = subprocess.Popen(command)
    most = {"VmHWM": 0, "RssAnon": 0, "VmData": 0}
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        for name, value in memory_of(process.pid).items():
            most[name] = max(most[name], value)
        time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    elapsed_s = time.monotonic() - begin_s
    return Watched(usage.ru_utime + usage.ru_stime, elapsed_s, *most.values())


def memory_of(pid: int) -> dict[str, int]:
    """What a process has resident, what of it only swap could hold, and what it asked for."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    told = (line.partition(":") for line in lines)
    wanted = {name: value for name, _, value in told if name in ("VmHWM", "RssAnon", "VmData")}
    return {name: int(value.split()[0]) << 10 for name, value in wanted.items()}


def links(result: Path) -> dict[tuple[str, ...], str | None]:
    """The client of each flow's tunnel, by the flow's endpoints and time; None where it is not linked."""
    client = {row["id"]: row["client"] for row in rows(result, "tunnels")}
    ends = {
        row["id"]: (row["proto"], row["src"], row["dst"], str(row["first_ns"]))
        for row in rows(result, "flows")
    }
    return {ends[row["flow"]]: client.get(row["tunnel"]) for row in rows(result, "links")}


def against_truth(path: Path, found: dict[tuple[str, ...], str | None]) -> Iterator[tuple[str, str]]:
    """The client that each linked flow was given, and the true one, which moved as far as its destination."""
    true = {(f["proto"], f["src"], f["dst"]): f["client"] for f in json.loads(path.read_text())["flows"]}
    for (proto, src, dst, _), client in found.items():
        if client is not None:
            apart = (address_number(dst.rpartition(":")[0]) - FIRST_DESTINATION) // APART * APART
            yield client, moved(true[proto, src, moved(dst, -apart)], apart)


def moved(end: str, apart: int) -> str:
    """An endpoint at another address."""
    address, _, port = end.rpartition(":")
    return address_text(address_number(address) + apart, int(port))


def rows(result: Path, table: str) -> Iterator[dict[str, Any]]:
    """The rows of a table of a result, one after the other: a large result is larger than memory."""
    inside, text = False, ""
    with result.open() as file:
        for line in file:
            if not inside:
                inside = line.startswith(f' "{table}": [')
            elif line.startswith(" ]"):
                return
            else:
                text += line
                if line.startswith("  }"):
                    yield json.loads(text.rstrip().rstrip(","))
                    text = ""


if __name__ == "__main__":
    main()
