"""How a recording came about: scenario, seed, versions of every program, counts, and the files' SHA-256."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vpnforensics._version import __version__
from vpnforensics.groundtruth.lab.network import congestion_control
from vpnforensics.groundtruth.lab.taps import TapCount
from vpnforensics.groundtruth.lab.truth_file import Coverage
from vpnforensics.groundtruth.scenario import Scenario

_PROGRAMS = ("tcpdump", "nginx", "curl", "ssh", "dnsmasq", "dig", "nft", "conntrack")
_VERSION_FLAGS = {
    "nginx": "-v",
    "ssh": "-V",
    "dig": "-v",
    "sshd": "-V",
    "ss-server": "-h",
    "ss-local": "-h",
    "nebula": "-version",
    "stunnel": "-version",
    "tinyproxy": "-v",
    "v2ray": "-version",
    "busybox": "--help",
}


def describe(
    scenario: Scenario,
    programs: Sequence[str],
    counts: Mapping[str, TapCount],
    links: Mapping[str, object],
    coverage: Coverage,
    written: Sequence[Path],
) -> dict[str, Any]:
    """The manifest of a recording.

    Parameters
    ----------
    scenario : Scenario
        What was asked for.
    programs : sequence of str
        The VPN's programs.
    counts : mapping of str to TapCount
        By capture point, before anything was degraded.
    links : mapping
        The emulators' counts.
    coverage : Coverage
        Of the truth.
    written : sequence of Path
        Files to take the SHA-256 of.
    """
    versions = {Path(p).name: _version(p) for p in (*programs, *_PROGRAMS)}
    return {
        "tool": f"vpnforensics {__version__}",
        "made_by": "lab",
        "scenario": scenario.as_dict(),
        "seed": scenario.seed,
        "programs": versions | {"linux": os.uname().release},
        "congestion_control": congestion_control(),
        "captured": {name: count.captured for name, count in counts.items()},
        "dropped": {name: count.dropped for name, count in counts.items()},
        "links": dict(links),
        "truth": coverage.as_dict(),
        "sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(written)},
    }


def _version(program: str) -> str:
    """What the program that would be run now says of its version."""
    found = shutil.which(program)
    return _first_line(found, Path(program).name) if found else "unknown"


@cache
def _first_line(path: str, name: str) -> str:
    """First line that a program says about its version; many say it in their own way."""
    try:
        done = subprocess.run(
            [path, _VERSION_FLAGS.get(name, "--version")],
            capture_output=True,
            timeout=10,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = [line.strip() for line in (done.stdout + done.stderr).decode(errors="replace").splitlines()]
    return next((line for line in lines if any(ch.isdigit() for ch in line)), "unknown")
