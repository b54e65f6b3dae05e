"""A newcomer's first minutes by the clock: from `git clone` to the fourth notebook, as the tutorial tells.

python benchmarks/newcomer.py [--from URL]

Clone, environment and caches are its own, and deleted at the end; packages come from the index pip is set to.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ("01-first-case", "02-clocks", "03-ip-id", "04-one-link-by-hand")
AIM_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--from", dest="source", default=str(ROOT), metavar="URL", help="what is cloned")
    options = parser.parse_args()
    whole_s = busy_s = 0.0
    print(f"{'clock s':>7} {'CPU s':>7}")
    with tempfile.TemporaryDirectory(prefix="vpnf-newcomer-") as name:
        folder = Path(name)
        here = folder / "vpnforensics"
        for title, command in steps(options.source, folder):
            took_s, cpu_s = run(command, here if here.exists() else folder, folder)
            whole_s, busy_s = whole_s + took_s, busy_s + cpu_s
            print(f"{took_s:7.1f} {cpu_s:7.1f}  {title}", flush=True)
    processors, load = os.cpu_count(), os.getloadavg()[1]
    print(f"{whole_s:7.1f} {busy_s:7.1f}  in all; {processors} processors, load {load:.1f}")
    if whole_s > AIM_S:
        sys.exit(f"longer than {AIM_S:g} s")


def steps(source: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """What is done, in words, and the command."""
    yield "git clone", ["git", "clone", "-q", source, str(folder / "vpnforensics")]
    yield "make demo", ["make", "-s", "demo"]
    for language, text in blocks():
        title = "the tutorial: " + text.split("\n", 1)[0]
        yield title, ["bash", "-e", "-c", text] if language == "sh" else ["python", "-c", text]
    yield "make notebooks, up to its server", ["make", "-s", ".venv/notebooks.stamp"]
    for each in NOTEBOOKS:
        yield f"notebook {each}", ["python", "-m", "jupyter", "execute", f"notebooks/{each}.ipynb"]


def blocks() -> list[tuple[str, str]]:
    """What the tutorial has its reader type."""
    return re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)


def run(command: list[str], where: Path, folder: Path) -> tuple[float, float]:
    """Seconds by the clock, and of processors; what it says is shown where it fails."""
    environment = {
        **os.environ,
        "PATH": f"{folder / 'vpnforensics' / '.venv' / 'bin'}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TMPDIR": str(folder),
    }
    for of_another in ("NUMBA_CACHE_DIR", "VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL"):
        environment.pop(of_another, None)
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)[:200]}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, cpu_s


if __name__ == "__main__":
    main()
