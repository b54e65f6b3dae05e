"""A case that grows: columns on disk, memory with and without a budget, and first looks at a part of it.

A case of 500 tunnels and 20,000 flows is simulated once, and tiled in time and addresses (see tiling.py).
Every step runs in a process of its own; rates are packets a second of processor time, to be read beside one
another, for they move with the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from correlating import simulate
from figures import figure, heading
from tiling import tile

from vpnforensics import samples

DRIFT, PERIOD_NS = 20e-6, 301e9
_HEAD = "head"
_READ = "import sys; import vpnforensics as vf; vf.read_capture(sys.argv[1])"


class Ran(NamedTuple):
    """One process, from its start to its end."""

    cpu_s: float
    anonymous_bytes: int
    """Largest memory that only swap could hold."""
    resident_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--copies", type=int, default=4, help="of 2.6 M packets; at most 100")
    parser.add_argument("--tunnels", type=int, default=500)
    parser.add_argument("--keep", type=Path, help="folder for the captures, reused if they are there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        one, many = root / "one", root / f"tiled-{options.copies}"
        if not (one / "egress.pcap").exists():
            simulate(one, options.tunnels, 300.0, 0.045, 1)
        if not (many / "egress.pcap").exists():
            many.mkdir(parents=True)
            tile(one / "ingress.pcap", many / "ingress.pcap", options.copies, PERIOD_NS)
            tile(one / "egress.pcap", many / "egress.pcap", options.copies, PERIOD_NS * (1 + DRIFT))
        with tempfile.TemporaryDirectory(dir=root) as work:
            columns(many, Path(work))
            growing(one, many, Path(work))
            first_look(many, Path(work))


def columns(many: Path, work: Path) -> None:
    """Captures to columns and back."""
    heading("columns on disk (egress: 90 % TCP; packets a second of one core)")
    packets = packets_of(many / "egress.pcap")
    nothing = ran([sys.executable, "-c", "import vpnforensics.packets.read, pyarrow.parquet, pandas"])
    decoding = ran(read(many / "egress.pcap"))
    writing = ran(vpnf("convert", many / "egress.pcap", "-o", work / "egress"))
    vpnf_run("convert", many / "ingress.pcap", "-o", work / "ingress")
    reading = ran(read(work / "egress"))
    for what, step, aim in (
        ("decoding the capture", decoding, 0.0),
        ("writing columns", writing, 1.5),
        ("reading them", reading, 1.0),
    ):
        rate = packets / (step.cpu_s - nothing.cpu_s) / 1e6
        figure(what, f"{rate:.2f} M/s", f">= {aim:g} M/s" if aim else "", rate >= aim)
    sizes = stored(work / "egress")
    each = sum(sizes.values()) / packets
    figure("bytes a packet", f"{each:.1f}", "<= 25", each <= 25)
    figure("  of these the first 32 bytes of payload", f"{sizes[_HEAD] / packets:.1f}")
    figure("    which are not zero", f"{not_zero(work / 'egress') / packets:.1f}")
    figure("  the file", f"{(many / 'egress.pcap').stat().st_size / packets:.1f}")
    recorded = samples.load("wireguard").egress
    vpnf_run("convert", recorded, "-o", work / "recorded", "-q")
    packets = packets_of(recorded)
    figure("a recording's first 32 bytes of payload", f"{stored(work / 'recorded')[_HEAD] / packets:.1f}")
    figure("  which are not zero", f"{not_zero(work / 'recorded') / packets:.1f}")


def growing(one: Path, many: Path, work: Path) -> None:
    """Memory and time of cases of both sizes, and of the large one within a budget."""
    heading("correlating (engine packets; both sides together)")
    small, large = (packets_of(d / "ingress.pcap") + packets_of(d / "egress.pcap") for d in (one, many))
    nothing = ran(vpnf("engines"))
    alone = ["--engine", "packets", "-f", "json", "-q"]
    first = ran(vpnf("correlate", one / "ingress.pcap", one / "egress.pcap", *alone, "-o", work / "one.json"))
    whole = ran(
        vpnf("correlate", many / "ingress.pcap", many / "egress.pcap", *alone, "-o", work / "many.json")
    )
    budget = ["--memory", f"{3 * whole.resident_bytes >> 21}MiB", "--scratch", work]
    bound = ran(
        vpnf("correlate", work / "ingress", work / "egress", *alone, "-o", work / "bound.json", *budget)
    )
    figure("packets", f"{small:,} and {large:,}")
    figure("budget: 1.5 times what the large case had resident", budget[1])
    for what, step, n in (
        ("small", first, small),
        ("large", whole, large),
        ("large, --memory", bound, large),
    ):
        each = (step.anonymous_bytes - nothing.anonymous_bytes) / n
        figure(f"{what}: memory", f"{step.anonymous_bytes / 2**20:,.0f} MiB, {each:.0f} bytes a packet")
        figure(f"{what}: resident, with pages of files", f"{step.resident_bytes / 2**20:,.0f} MiB")
    ratio = whole.cpu_s / large / (first.cpu_s / small)
    figure("time a packet, large / small", f"{ratio:.2f}")
    ratio = bound.cpu_s / whole.cpu_s
    figure("time, --memory from columns / in memory from captures", f"{ratio:.2f}", "<= 3", ratio <= 3)
    same = conclusions(work / "many.json") == conclusions(work / "bound.json")
    figure("the same result", "yes" if same else "no", "yes", same)


def first_look(many: Path, work: Path) -> None:
    """A part of the case, of the columns, beside the whole."""
    heading("a first look, from columns (reading and correlating; beside the whole in memory)")
    alone = ["--engine", "packets", "-f", "json", "-q", "-o", os.devnull]
    sides = [work / "ingress", work / "egress"]
    whole = ran(vpnf("correlate", *sides, *alone))
    begin_ns = json.loads((work / "ingress" / "capture.json").read_text())["source"]["first_ns"]
    minute = f"after {begin_ns} and before {begin_ns + 60 * 10**9}"
    later = f"after {begin_ns} and before {begin_ns + 80 * 10**9}"
    for what, select in (
        ("one of twenty tunnels", ["--select-in", "sample 1/20"]),
        ("a minute", ["--select-in", minute, "--select-out", later]),
    ):
        part = ran(vpnf("correlate", *sides, *select, *alone))
        figure(
            what,
            f"{part.cpu_s / whole.cpu_s:.2f} of the time,"
            f" {part.anonymous_bytes / whole.anonymous_bytes:.2f} of the memory",
        )


def conclusions(path: Path) -> dict[str, object]:
    case = json.loads(path.read_text())
    return {key: value for key, value in case.items() if key != "tool"}


def packets_of(path: Path) -> int:
    told = subprocess.run(vpnf("info", path, "-f", "json"), check=True, capture_output=True, text=True).stdout
    return int(json.loads(told)[0]["packets"])


def stored(folder: Path) -> dict[str, int]:
    """Stored bytes of each column."""
    import pyarrow.parquet as pq

    sizes: dict[str, int] = {}
    for path in (folder / "packets").iterdir():
        metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for number in range(row_group.num_columns):
                column = row_group.column(number)
                name = column.path_in_schema
                sizes[name] = sizes.get(name, 0) + column.total_compressed_size
    return sizes


def not_zero(folder: Path) -> int:
    """Bytes of the first 32 of payloads that are not zero: encrypted, as good as all of them are."""
    import pyarrow.parquet as pq

    batches = (
        batch
        for path in (folder / "packets").iterdir()
        for batch in pq.ParquetFile(path).iter_batches(columns=[_HEAD])
    )
    return sum(
        sum(len(head) - head.count(0) for head in batch.column(_HEAD).to_pylist()) for batch in batches
    )


def vpnf(*words: object) -> list[str]:
    return [sys.executable, "-m", "vpnforensics", *map(str, words)]


def read(path: Path) -> list[str]:
    return [sys.executable, "-c", _READ, str(path)]


def vpnf_run(*words: object) -> None:
    subprocess.run(vpnf(*words), check=True)


def anonymous_bytes(pid: int) -> tuple[int, int]:
    """What memory of a process only swap could hold, and all that is resident; 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    told = {name: value for name, _, value in (line.partition(":") for line in lines)}
    if "RssAnon" not in told:
        return 0, 0
    return int(told["RssAnon"].split()[0]) << 10, int(told["VmRSS"].split()[0]) << 10


def ran(command: list[str]) -> Ran:
    """Run a process, and look at its memory fifty times a second."""
    anonymous, resident = 0, 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        now = anonymous_bytes(process.pid)
        anonymous, resident = max(anonymous, now[0]), max(resident, now[1])
        time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return Ran(usage.ru_utime + usage.ru_stime, anonymous, resident)


if __name__ == "__main__":
    main()
