"""What memory holds while a large case is correlated: by step, and by the module that asked for it.

The smaller case of scale.py. Counted is what Python and numpy allocate; what kernels allocate themselves is
not, so that the process has more (scale.py prints that). Steps are those that progress tells.
"""

from __future__ import annotations

import argparse
import tempfile
import tracemalloc
from pathlib import Path

from correlating import simulate
from figures import figure, heading

import vpnforensics as vf

PACKAGE = Path(vf.__file__).parent
_LEAST = 1.0
"""Bytes a packet below which a module is not named."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, help="folder for the captures, reused if they are there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)) / "one"
        if not (folder / "egress.pcap").exists():
            simulate(folder, 500, 300.0, 0.045, 1)
        measure(folder)


def measure(folder: Path) -> None:
    """Correlate, and print what there was."""
    peaks: dict[str, int] = {}
    largest, snapshot = 0, None
    last = ""

    def tell(step: str, share: float) -> None:
        nonlocal largest, snapshot, last
        now, peak = tracemalloc.get_traced_memory()
        peaks[last] = max(peaks.get(last, 0), peak)
        if now > 1.02 * largest:  # a snapshot takes its time
            largest, snapshot = now, tracemalloc.take_snapshot()
        last = step
        tracemalloc.reset_peak()

    sides = folder / "ingress.pcap", folder / "egress.pcap"
    tracemalloc.start()
    case = vf.correlate(*sides, engines="packets", progress=tell)
    tell("", 1.0)
    packets = sum(side["packets"] for side in case.to_dict()["inputs"])
    heading(f"bytes a packet at most, by step ({packets:,} packets of both sides)")
    for step, peak in peaks.items():
        if step:
            figure(step, f"{peak / packets:.0f}")
    assert snapshot is not None
    heading("bytes a packet where progress was told and most was held, by the module that asked for them")
    for each in snapshot.statistics("filename"):
        path = Path(each.traceback[0].filename)
        if path.is_relative_to(PACKAGE) and each.size >= _LEAST * packets:
            figure(str(path.relative_to(PACKAGE)), f"{each.size / packets:.1f}")
    figure("all", f"{largest / packets:.0f}")


if __name__ == "__main__":
    main()
