"""What made a result: the tool, where and when it ran, and what it was told."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from vpnforensics._version import __version__

_CHECKOUT = Path(__file__).parents[2]
_PATIENCE_S = 5.0
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def tool_row(
    parameters: Mapping[str, Any], policy: Mapping[str, float], seed: int, argv: Sequence[str]
) -> dict[str, Any]:
    """The result contract's ``tool``."""
    return {
        "name": "vpnforensics",
        "version": __version__,
        "commit": commit(),
        "date": today(),
        "host": platform.node(),
        "argv": list(argv),
        "parameters": {
            **parameters,
            "python": ".".join(map(str, sys.version_info[:3])),
            "numpy": np.__version__,
        },
        "policy": dict(policy),
        "seed": seed,
    }


def made_by(tool: Mapping[str, Any]) -> str:
    """The result contract's ``tool`` in a line."""
    commit = f" (commit {tool['commit']})" if tool["commit"] else ""
    return f"{tool['name']} {tool['version']}{commit}, {tool['date']} on {tool['host']}, seed {tool['seed']}"


def today() -> str:
    """Now, or the time that ``SOURCE_DATE_EPOCH`` states, for results that are equal byte for byte."""
    stated = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(stated), UTC) if stated.isdecimal() else datetime.now(UTC)
    return now.strftime(_TIME)


@cache
def commit() -> str | None:
    """The commit of the program's source, with ``+changed`` if it was edited since; None where not known.

    From the checkout that the program runs in, or from what was noted when it was installed (PEP 610).
    """
    git = shutil.which("git")
    if git is not None and (_CHECKOUT / ".git").exists():
        words = ["describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+changed"]
        try:
            found = subprocess.run(  # noqa: S603 - a fixed command on our own folder
                [git, "-C", str(_CHECKOUT), *words],
                capture_output=True, text=True, timeout=_PATIENCE_S, check=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return None
        return found.stdout.strip() or None
    try:
        noted = json.loads(metadata.distribution("vpnforensics").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None
    known = noted.get("vcs_info", {}).get("commit_id")
    return str(known) if known else None
