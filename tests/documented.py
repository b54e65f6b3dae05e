"""Packages that a document shows in code blocks, made and installed, so that what is shown is what works."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def installed_from(page: str, folder: Path) -> Path:
    """The folder that holds what the page's package installs: its files are named before their blocks.

    `pyproject.toml` and each module are blocks under a line that names the file in backticks.
    """
    pytest.importorskip("hatchling", reason="hatchling builds the package, and is not installed")
    source = folder / "source"
    for name, text in re.findall(
        r"`([\w./]+\.(?:toml|py))`[^`]*?\n```\w+\n(.*?)```", (DOCS / page).read_text(), re.DOTALL
    ):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"
