from __future__ import annotations

import subprocess
import sys

import pytest

from vpnforensics.groundtruth.lab import state as state_module
from vpnforensics.groundtruth.lab.state import RunState, clean, process_start

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture(autouse=True)
def own_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(state_module, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


def dead(state: RunState) -> RunState:
    """Make the run look like one whose runner was killed."""
    path = state.folder / "state.jsonl"
    path.write_text(path.read_text().replace('"start": ', '"start": 1'))
    return state


def test_undo_removes_what_is_on_file_and_nothing_else(tmp_path, own_runs):
    state = RunState.create()
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "file").write_text("x")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "other").write_text("someone else's")
    state.note("path", path=str(tmp_path / "made"))
    state.note("path", path=str(tmp_path / "never-made"))
    state.note("empty-folder", path=str(tmp_path / "shared"))
    assert state.undo() == [f"path {tmp_path}/made"]
    assert (tmp_path / "shared" / "other").exists()
    assert not own_runs.exists()


def test_a_folder_that_another_run_needs_stays(tmp_path):
    (tmp_path / "shared").mkdir()
    first, second = RunState.create(), RunState.create()
    for run in (first, second):
        run.note("empty-folder", path=str(tmp_path / "shared"))
    assert first.undo() == []
    assert (tmp_path / "shared").exists()
    assert second.undo() == [f"path {tmp_path}/shared"]


def test_clean_leaves_live_runs_alone():
    live, gone = RunState.create(), dead(RunState.create())
    clean()
    assert live.folder.exists()
    assert not gone.folder.exists()
    clean(force=True)
    assert not live.folder.exists()


def test_a_process_is_ended_by_pid_and_start_time():
    mine = subprocess.Popen(SLEEP)
    namesake = subprocess.Popen(SLEEP)
    state = RunState.create()
    state.note("process", name="a", pid=mine.pid, start=process_start(mine.pid))
    state.note("process", name="b", pid=namesake.pid, start=(process_start(namesake.pid) or 0) - 1)
    removed = state.undo()
    assert removed == [f"process {mine.pid}"]
    assert mine.wait(5) == -9
    assert namesake.poll() is None
    namesake.kill()
    namesake.wait()


def test_a_state_file_cut_by_a_crash_is_still_used(tmp_path):
    state = RunState.create()
    (tmp_path / "made").write_text("x")
    state.note("path", path=str(tmp_path / "made"))
    with (state.folder / "state.jsonl").open("a") as file:
        file.write('{"kind": "pa')
    state.undo()
    assert not (tmp_path / "made").exists()
