"""The suite passes on a machine that has Python and nothing else, and for a user who is not root."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOBODY = 65534
MARK = "mark.needs("


def suite(folder: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """A run of pytest in an environment with nothing in it."""
    environment = {
        "HOME": str(folder),
        "PATH": str(folder / "none"),
    }
    if options:  # someone else may not write where the suite does
        environment["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "hypothesis")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    command.append(f"--basetemp={folder / 'tmp'}")
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
        **options,
    )  # fmt: skip


def counts(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """What pytest counted: passed, failed, skipped, errors."""
    last = done.stdout.strip().splitlines()[-1]
    return {word.removesuffix("s"): int(number) for number, word in re.findall(r"(\d+) (\w+)", last)}


def test_all_that_needs_a_program_is_skipped_without_it(tmp_path: Path) -> None:
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text()]
    done = suite(tmp_path, "-m", "needs", *files)
    found = counts(done)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert found["skipped"] > 80
    assert not found.keys() & {"failed", "error", "passed"}, "a test that names a need did not need it"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else; this run is no root's")
def test_a_user_who_is_not_root_may_run_it(tmp_path: Path) -> None:
    someone = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    tmp_path.chmod(0o777)
    for folder in (tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)  # pytest's own, of its session
    try:
        able = subprocess.run(
            [sys.executable, "-c", "import pytest, vpnforensics"], cwd=ROOT, capture_output=True, text=True,
            check=False, env={}, **someone,
        )  # fmt: skip
    except PermissionError as error:
        pytest.skip(f"this Python is root's alone ({error.filename or sys.executable})")
    if able.returncode:
        pytest.skip(f"this environment is root's alone: {able.stderr.strip().splitlines()[-1]}")
    done = suite(tmp_path, "tests/groundtruth/lab", **someone)
    found = counts(done)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert found["skipped"] > 20
    assert found["passed"] > 20


def test_set_up_is_in_one_place() -> None:
    build = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"for verb in (.*); do", build) == ["demo check test"]
    assert "apt-get" not in build, "what the build installs, a user has to install as well"
    makefile = (ROOT / "Makefile").read_text()
    assert set(re.findall(r"apt-get install [^\n]*?(python3-venv|\$)", makefile)) == {"python3-venv"}
