from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from vpnforensics.groundtruth.lab.state import RUNS, RunState


def leftovers() -> set[str]:
    """Everything a run could leave on the machine."""
    found = {f"namespace {p.name}" for p in Path("/run/netns").glob("vf*")}
    found |= {f"run {p.name}" for p in RUNS.glob("*")}
    found |= {f"etc {p.name}" for p in Path("/etc/netns").glob("vf*")}
    found |= {f"socket {p.name}" for p in Path("/var/run/wireguard").glob("vt*")}
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    found |= {f"link {line.split(':')[1].strip()}" for line in links.splitlines()}
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found |= {f"mount {line.split()[1]}" for line in mounts if "/vf" in line or "vpnforensics" in line}
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    found |= {f"nft {line}" for line in tables.splitlines()}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if b"vpnforensics-lab" in command or b"netns\0exec\0vf" in command:
                found.add(f"process {process.name} {command!r}")
    foreign = [run for run in map(RunState, others()) if run.running()]
    return {item for item in found if not any(run.run_id in item for run in foreign)}


def others() -> set[str]:
    """Runs of other processes: someone else's recording at the same time is no leftover."""
    mine = f'"pid": {os.getpid()},'
    return {p.parent.name for p in RUNS.glob("*/state.jsonl") if mine not in p.read_text().partition("\n")[0]}


@pytest.fixture
def nothing_left():
    """The test leaves the machine as it found it."""
    before = leftovers()
    yield
    assert leftovers() - before == set()
