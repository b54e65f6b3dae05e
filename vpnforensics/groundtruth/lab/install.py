"""Install the programs that the lab and the tests need and this machine lacks (as root, on Debian or kin)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vpnforensics.groundtruth.lab.doctor import APT_INSTALL, Finding, apt_line, doctor, packages_of

_POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program whether a service may be started when its package is installed."""
_TIMEOUT_S, _LOCKED_S = 1800, 300
"""For one command, of which so long for another program to be done with packages."""
_LAST_LINES = 5


def install(say: Callable[[str], None]) -> str:
    """Install what is missing; say what was done, or why it was left.

    No service is started: the lab runs its own, in namespaces.

    Parameters
    ----------
    say : callable
        Takes a line for the user.

    Returns
    -------
    str
        What failed and why; empty if nothing did, and where nothing was tried, without root or ``apt-get``.
    """
    lacking = doctor()
    packages = packages_of(lacking)
    if not packages:
        say("nothing is missing that a package could bring")
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        why = "not root" if os.geteuid() != 0 else "no apt-get"
        say(f"system tools: SKIPPED ({why}); what needs them is skipped: {_names(lacking)}")
        say(f"as root on Debian or Ubuntu: {apt_line(lacking)}")
        return ""
    say(f"system tools: installing {' '.join(packages)}")
    with _no_services():
        _apt(["apt-get", "update", "-q"])  # old lists may do, or be all there is
        failed = _apt([*APT_INSTALL, *packages])
        if failed:  # a distribution may lack one of them; that shall not cost the others
            failed = "; ".join(dict.fromkeys(filter(None, (_apt([*APT_INSTALL, each]) for each in packages))))
    left = doctor()
    if packages_of(left):
        return f"not installed: {_names(left)} ({failed})"
    say("system tools: installed")
    return ""


def _names(findings: list[Finding]) -> str:
    return "; ".join(f"{f.what}: {', '.join(f.missing)}" for f in findings if f.packages)


def _apt(command: list[str]) -> str:
    """Run apt-get; the end of what it said if it failed, else nothing."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            [*command, "-o", f"DPkg::Lock::Timeout={_LOCKED_S}"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{' '.join(command)}: not done after {_TIMEOUT_S} s"
    said = done.stdout.decode(errors="replace").splitlines()
    return " ".join(said[-_LAST_LINES:] or ["failed"]) if done.returncode else ""


@contextmanager
def _no_services() -> Iterator[None]:
    """Let no package start its service; a rule that the machine has already stays."""
    try:
        with _POLICY.open("x") as file:
            file.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        yield
        return
    try:
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
