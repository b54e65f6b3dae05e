"""What stands around the package: the citation, the issue templates, the man pages, the image's recipe."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import vpnforensics as vf

ROOT = Path(__file__).parent.parent


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == vf.__version__
    assert citation["license"] == re.search(r'^license = "(.*)"', _project(), re.MULTILINE)[1]  # type: ignore[index]


def test_issue_templates_are_forms_that_ask_for_the_version() -> None:
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 4
    for form in (yaml.safe_load(path.read_text()) for path in forms if path.stem != "config"):
        assert {"name", "description", "body"} <= set(form)
        ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert len(set(ids)) == len(ids)


def test_the_image_is_made_of_what_it_copies_and_runs_as_nobody_special() -> None:
    recipe = (ROOT / "Dockerfile").read_text()
    copied = [w for line in re.findall(r"^COPY (?!--)(.*) \S+$", recipe, re.MULTILINE) for w in line.split()]
    let_in = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(copied) == sorted(let_in)
    assert all((ROOT / name).exists() for name in copied)
    extras = re.search(r"'\.\[(.*)\]'", recipe)[1].split(",")  # type: ignore[index]
    assert all(re.search(rf"^{extra} = \[", _project(), re.MULTILINE) for extra in extras)
    last = recipe.rindex("\nUSER ")
    assert recipe[last:].split()[1] == "1000"
    assert "warm-up" in recipe[:last]


def test_every_extra_is_said() -> None:
    given = re.search(r"\[project.optional-dependencies\]\n(.*?)\n\[", _project(), re.DOTALL)
    extras = re.findall(r"^(\w+) = \[", given[1], re.MULTILINE)  # type: ignore[index]
    page = (ROOT / "docs/install.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page.partition("## Extras")[2], re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(extras)


def test_each_command_has_a_man_page(tmp_path: Path) -> None:
    pytest.importorskip("click_man", reason="click-man writes the pages, and is not installed")
    command = [sys.executable, str(ROOT / "docs/generate/man.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    help_text = subprocess.run(
        [sys.executable, "-m", "vpnforensics", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    commands = re.findall(r"^  ([a-z-]+)  ", help_text.partition("Commands:")[2], re.MULTILINE)
    assert len(commands) > 15
    pages = {path.stem for path in tmp_path.iterdir()}
    assert {f"vpnf-{name}" for name in commands} | {"vpnf", "vpnf-lab-run"} <= pages
    assert "\\-\\-expected\\-false\\-links" in (tmp_path / "vpnf-correlate.1").read_text()


def test_the_shells_complete_commands() -> None:
    asked = {"_VPNF_COMPLETE": "bash_complete", "COMP_WORDS": "vpnf corr", "COMP_CWORD": "1"}
    program = "import sys; from vpnforensics.cli.main import main; sys.exit(main([]))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=asked, cwd=ROOT
    )
    assert done.stdout.split() == ["plain,correlate"]


def _project() -> str:
    return (ROOT / "pyproject.toml").read_text()
