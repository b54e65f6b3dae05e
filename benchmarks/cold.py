"""What the first run costs, before any kernel is compiled, beside the same run after it.

python benchmarks/cold.py [--processors 2]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

SAMPLE = Path(__file__).parent.parent / "samples/wireguard"
SIDES = [str(SAMPLE / "ingress.pcap"), str(SAMPLE / "egress.pcap")]
RUNS = {
    "info": ["info", SIDES[0]],
    "correlate": ["correlate", *SIDES],
    "correlate after warm-up": ["correlate", *SIDES],
    "warm-up": ["warm-up"],
}
AIMS = [("info", 0, "cpu", 3.0), ("correlate", 0, "cpu", 30.0), ("correlate", 0, "wall", 15.0)]
AIMS += [("correlate", 1, "wall", 2.5)]


def run(arguments: list[str], cache: Path) -> dict[str, float]:
    """Seconds of processors and of the clock, and the peak of the largest process, helpers included."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "TMPDIR": str(cache)}
    environment.pop("NUMBA_CACHE_DIR", None)
    silence = os.open(os.devnull, os.O_WRONLY)
    command = [sys.executable, "-m", "vpnforensics", *arguments]
    begun = time.monotonic()
    pid = os.posix_spawn(
        sys.executable,
        command,
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, silence, 1), (os.POSIX_SPAWN_DUP2, silence, 2)],
    )
    _, status, usage = os.wait4(pid, 0)
    os.close(silence)
    if status:
        sys.exit(f"{' '.join(arguments)} failed")
    wall = time.monotonic() - begun
    return {"cpu": usage.ru_utime + usage.ru_stime, "wall": wall, "peak": usage.ru_maxrss / 1000}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--processors", type=int, default=2, help="that the runs may use")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.processors])
    found = {}
    for name, arguments in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            cache = Path(folder)
            if name == "correlate after warm-up":
                run(["warm-up"], cache)
            found[name] = [run(arguments, cache), run(arguments, cache)]
    print(f"first run and second run of a command, {options.processors} processors at most\n")
    print(f"{'':26}{'CPU s':>16}{'wall s':>16}{'peak MB':>16}   first / second")
    for name, (first, second) in found.items():
        pairs = "".join(f"{first[key]:>9.1f}{second[key]:>7.1f}" for key in ("cpu", "wall", "peak"))
        ratios = ", ".join(f"{key} {first[key] / second[key]:.1f}" for key in ("cpu", "wall", "peak"))
        print(f"{name:26}{pairs}   {ratios}")
    print()
    for name, which, key, aim in AIMS:
        label = f"{('first', 'second')[which]} {name}, {'CPU' if key == 'cpu' else 'wall'} s"
        print(f"{label:34}{found[name][which][key]:>8.1f}   aim {aim}")


if __name__ == "__main__":
    main()
