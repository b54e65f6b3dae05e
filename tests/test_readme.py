"""What the README, the tutorial and the page of uses tell a newcomer to run, runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documented import DOCS

ROOT = DOCS.parent
PAGES = ("README.md", "docs/tutorial.md", "docs/working-with-a-case.md")
TEXT = {name: (ROOT / name).read_text() for name in PAGES}
README = TEXT["README.md"]
WORDS = 850
"""One screen and a half of text: the README is for deciding whether to go on."""


def commands(text: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("vpnf ")]


COMMANDS = list(dict.fromkeys(line for text in TEXT.values() for line in commands(text)))


def test_the_first_two_commands_are_the_makefiles() -> None:
    first = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)[0].split("\n")[:2]
    assert first == ["make demo", "make test"]


def test_every_verb_that_a_document_names_is_the_makefiles() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")):
        for verb in re.findall(r"`make ([a-z-]+)`", path.read_text()):
            assert re.search(rf"^{verb}:", makefile, re.MULTILINE), (path, verb)


def test_the_readme_stays_short_and_its_links_lead_somewhere() -> None:
    assert len(README.split()) <= WORDS
    for target in re.findall(r"\]\(([^)#\s]+)", README):
        assert (ROOT / target).exists(), target


def test_what_the_readme_shows_of_the_demo_is_what_it_prints() -> None:
    shown = re.findall(r"```text\n(.*?)```", README, re.DOTALL)[0].splitlines()
    sides = [f"samples/wireguard/{side}.pcap" for side in ("ingress", "egress")]
    program = [sys.executable, "-m", "vpnforensics", "correlate", *sides, "--top", "20"]
    wide = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(
        program, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True, env=wide
    )
    printed = done.stdout.splitlines()
    assert [line for line in shown if line.strip() and line not in printed] == []


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


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_python_lines(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    block = re.search(r"```python\n(.*?)```", TEXT[page], re.DOTALL)
    assert block is not None
    scope: dict[str, object] = {}
    exec(block.group(1), scope)
    assert len(scope["case"].links) > 100  # type: ignore[attr-defined]
