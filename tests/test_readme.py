"""What the README tells a newcomer to run, runs; and its figures are of the present code's kind."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("vpnf ")
]


def test_the_first_two_commands_are_the_makefiles() -> None:
    first = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)[0].split("\n")[:2]
    assert first == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    for verb in re.findall(r"`make ([a-z-]+)`", README):
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), verb


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where case.json and report.html are: one command writes the case, and those after it read it."""
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("command", COMMANDS)
def test_shell_commands(command: str, place: Path) -> None:
    words = [str(place / w) if w in ("case.json", "report.html") else w for w in shlex.split(command)]
    program = [sys.executable, "-m", "vpnforensics", *words[1:]]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout or (place / "case.json").stat().st_size > 1000


def test_python_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    scope: dict[str, object] = {}
    exec(block.group(1), scope)
    assert len(scope["case"].links) > 100  # type: ignore[attr-defined]
