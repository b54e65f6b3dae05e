"""What a run has made on this machine, written down before it is made.

Every namespace, file and process of a run is named in one append-only file under
``/var/tmp/vpnforensics-lab/RUN/``. Whatever ends the run (success, an error, Ctrl-C, SIGKILL),
:func:`clean` can read the file and undo it. Nothing is ever searched by program name:
processes are found by the run's own namespaces or by the pid *and* start time on file.

The place survives a restart of the machine, which takes the namespaces but leaves the files.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import netns

RUNS = Path("/var/tmp/vpnforensics-lab")  # noqa: S108 - a fixed place is the point: `clean` must find it
NETNS = Path("/run/netns")


def process_start(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (field 22 of its stat), or None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


@dataclass(frozen=True, slots=True)
class RunState:
    """The list of what one run has made, on disk.

    Parameters
    ----------
    run_id : str
        Six hexadecimal digits; every namespace and interface name of the run starts from it.
    """

    run_id: str

    @classmethod
    def create(cls) -> RunState:
        """Open the state of a new run, owned by this process."""
        state = cls(secrets.token_hex(3))
        state.folder.mkdir(parents=True)
        state.note("runner", pid=os.getpid(), start=process_start(os.getpid()))
        return state

    @property
    def folder(self) -> Path:
        """Work folder of the run: keys, configurations, logs."""
        return RUNS / self.run_id

    def note(self, kind: str, **what: object) -> None:
        """Write down one thing, before it is made."""
        with (self.folder / "state.jsonl").open("a") as file:
            file.write(json.dumps({"kind": kind, **what}) + "\n")

    def records(self) -> list[dict[str, object]]:
        """All that is on file; a line cut by a crash is skipped."""
        found: list[dict[str, object]] = []
        path = self.folder / "state.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            found.append(record)
        return found

    def running(self) -> bool:
        """Whether the process that made this run still lives."""
        return any(
            r["kind"] == "runner"
            and r["start"] is not None
            and process_start(int(str(r["pid"]))) == r["start"]
            for r in self.records()
        )

    def used_elsewhere(self, path: Path) -> bool:
        """Whether another live run has a folder on file as one to remove once it is empty."""
        others = (RunState(folder.name) for folder in RUNS.iterdir() if folder.name != self.run_id)
        return any(str(path) in _shared(run.records()) and run.running() for run in others)

    def undo(self) -> list[str]:
        """Remove everything on file, processes first, and say what was removed."""
        records = self.records()
        namespaces = [str(r["name"]) for r in records if r["kind"] == "netns"]
        removed = [f"process {pid}" for pid in _end_processes(namespaces, records)]
        present = [name for name in namespaces if (NETNS / name).exists()]
        for name in present:
            netns.remove(name)
        removed += [f"namespace {name}" for name in present]
        for record in records:
            if record["kind"] == "path":
                path = Path(str(record["path"]))
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                elif path.exists() or path.is_symlink():
                    path.unlink()
                else:
                    continue
                removed.append(f"path {path}")
        for path in map(Path, reversed(_shared(records))):
            if not self.used_elsewhere(path) and _remove_if_empty(path):
                removed.append(f"path {path}")
        shutil.rmtree(self.folder, ignore_errors=True)
        _remove_if_empty(RUNS)
        return removed


def clean(*, force: bool = False) -> list[str]:
    """Undo every run whose runner is dead (with `force`, also live ones).

    Returns
    -------
    list of str
        What was removed, one line each.
    """
    removed: list[str] = []
    for folder in sorted(RUNS.iterdir()) if RUNS.exists() else []:
        state = RunState(folder.name)
        if force or not state.running():
            removed += state.undo()
    return removed


def _end_processes(namespaces: list[str], records: list[dict[str, object]]) -> list[int]:
    """Kill what lives in the namespaces, and the recorded processes; return their pids once they are gone."""
    inodes = {(NETNS / name).stat().st_ino for name in namespaces if (NETNS / name).exists()}
    recorded = {int(str(r["pid"])): r["start"] for r in records if r["kind"] == "process"}
    killed: set[int] = set()
    for _ in range(100):
        everyone = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        victims = [pid for pid in everyone if _belongs(pid, inodes, recorded)]
        if not victims:
            break
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(victims)
        time.sleep(0.02)
    return sorted(killed)


def _belongs(pid: int, inodes: set[int], recorded: dict[int, object]) -> bool:
    """Whether a live process is one of the run: in one of its namespaces, or on file and no namesake."""
    start = process_start(pid)
    if start is None or pid == os.getpid():
        return False
    if recorded.get(pid) == start:
        return True
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino in inodes
    except OSError:
        return False


def _shared(records: list[dict[str, object]]) -> list[str]:
    """Folders with fixed places, which runs at the same time share."""
    return [str(r["path"]) for r in records if r["kind"] == "empty-folder"]


def _remove_if_empty(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True
