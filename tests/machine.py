"""What of the system's programs this machine has, and what it would be without them.

A test that needs some is marked ``needs(...)`` with names of what ``vpnf lab doctor`` lists. Every other test
sees a machine without them, so that the suite cannot come to need one unnoticed.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

from vpnforensics.groundtruth.lab.doctor import Finding, doctor

_RUN = ("linux", "root", "/dev/net/tun", "network")
"""What every run of real software in namespaces needs."""
_READERS = ("tshark", "chromium")
"""What needs none of that."""
_ESSENTIAL = ("bash", "sh", "cat", "cp", "head")
"""What any system has, and tests use."""


@cache
def _found() -> dict[str, Finding]:
    return {finding.what: finding for finding in doctor()}


def lacks(*whats: str) -> str:
    """What this machine lacks of them, and of what they run in, in words; nothing if all is here."""
    asked = dict.fromkeys(whats)
    if not whats or not asked.keys() <= set(_READERS):
        asked = dict.fromkeys((*_RUN, *whats))
    missing = [_found()[what] for what in asked if not _found()[what].well]
    return "; ".join(f"{finding.what}: {', '.join(finding.missing)}" for finding in missing)


def cannot_have(*whats: str) -> bool:
    """Whether all that is missing is nothing that could be installed: User-Mode Linux on some processors."""
    return all(_found()[what].impossible for what in whats if not _found()[what].well) and not lacks()


def bare_path(folder: Path) -> str:
    """A ``PATH`` with what any system has, and nothing that a package must bring."""
    folder.mkdir()
    for program in _ESSENTIAL:
        found = shutil.which(program)
        if found is not None:
            (folder / program).symlink_to(found)
    return str(folder)


def must_have_all() -> bool:
    """Whether a missing program is an error: root on a build machine could have installed it."""
    return os.environ.get("CI") == "true" and os.geteuid() == 0
