"""How fast a capture becomes a packet table, beside peers on the same file in the same run.

pip install -r benchmarks/requirements.txt
python benchmarks/reading.py [--packets 1000000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from generate import write_tcp_capture
from peers import PEERS
from rich.console import Console
from rich.table import Table

from vpnforensics.packets.read import read_capture

_MEMORY_SCRIPT = """
import re, sys
from pathlib import Path
from vpnforensics.packets.read import read_capture
def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
read_capture(sys.argv[1])
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
before = kilobytes("VmRSS")
table = read_capture(sys.argv[2])
print((kilobytes("VmHWM") - before) * 1024 / len(table))
"""
REUSED = bytearray(1 << 20)
AIMS = {"dpkt": 40.0, "NFStream": 10.0, "fpcap": 1.0, "pcapy-ng": 1.0, "wa1kpcap": 1.0, "the file": 0.3}


def into_memory(path: Path) -> None:
    path.read_bytes()


def through_a_buffer(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.readinto(REUSED):
            pass


def seconds(run: Callable[[], object], repeats: int = 1) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packets", type=int, default=1_000_000, help="packets in the generated file")
    packets: int = parser.parse_args().packets
    console = Console(width=100)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder) / "large.pcap", Path(folder) / "small.pcap"
        write_tcp_capture(path, packets)
        write_tcp_capture(small, 1000)
        read_capture(small)  # kernels are compiled or loaded
        ours = seconds(lambda: read_capture(path), 5)
        table = Table(title=f"{packets:,} TCP packets with timestamps, {path.stat().st_size / 1e6:,.0f} MB")
        for heading in ("reader", "seconds", "Mpackets/s", "vpnforensics is", "aim"):
            table.add_column(heading, justify="left" if heading == "reader" else "right")

        def row(name: str, took: float) -> None:
            aim = next((f"{x:g}x" for key, x in AIMS.items() if key in name), "")
            table.add_row(name, f"{took:.2f}", f"{packets / took / 1e6:.3f}", f"{took / ours:.2f}x", aim)

        row("vpnforensics, all columns", ours)
        row("the file into memory", seconds(lambda: into_memory(path), 5))
        row("the file through one buffer", seconds(lambda: through_a_buffer(path), 5))
        for name, peer in PEERS.items():
            try:
                start = time.perf_counter()
                decoded = peer(path)
                took = time.perf_counter() - start
            except ImportError:
                table.add_row(name, "not installed", "", "", "")
                continue
            row(name if decoded == packets else f"{name} ({decoded:,} packets)", took)
        console.print(table)
        if load_before > 0.5:
            console.print(
                f"the machine was not idle (load {load_before:.1f}, {os.cpu_count()} cores): not exact"
            )
        memory = subprocess.run(
            [sys.executable, "-c", _MEMORY_SCRIPT, small, path], capture_output=True, text=True, check=True
        )
        console.print(f"peak memory beside the file: {float(memory.stdout):.0f} bytes a packet (aim: 150)")


if __name__ == "__main__":
    main()
