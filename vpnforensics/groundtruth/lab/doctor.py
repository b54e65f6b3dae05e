"""What the lab and the tests need and this machine lacks: the one list of programs and their packages."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab import stacks, uml
from vpnforensics.groundtruth.lab.drivers import DRIVERS
from vpnforensics.groundtruth.lab.network import MAX_WEB_SERVERS
from vpnforensics.groundtruth.lab.traffic import THROUGH_PROXY
from vpnforensics.groundtruth.scenario import ClientSpec, Countermeasures, Scenario

APT_INSTALL = ("apt-get", "install", "-y", "--no-install-recommends")
_MAX_CLIENTS = 100
_BASE = {
    "ip": "iproute2",
    "ss": "iproute2",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "sysctl": "procps",
    "ethtool": "ethtool",
    "nft": "nftables",
    "conntrack": "conntrack",
    "tcpdump": "tcpdump",
    "nginx": "nginx-light",
    "dnsmasq": "dnsmasq-base",
    "dig": "bind9-dnsutils",
    "curl": "curl",
    "ping": "iputils-ping",
    "iperf3": "iperf3",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "openssl": "openssl",
}
"""Programs that every run needs, and the Debian packages that bring them."""
_OF_TESTS = {"tshark": "tshark", "chromium": "chromium"}
"""What only the tests need: the reader that this one is compared with, and a browser for the report."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Parameters
    ----------
    what : str
        ``root``, ``/dev/net/tun``, ``network`` (the programs every run needs), ``uml``, ``tshark`` and
        ``chromium`` (for the tests) or a driver's kind.
    missing : tuple of str
        Programs or conditions that are missing.
    packages : tuple of str
        Debian packages that bring them.
    """

    what: str
    missing: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        """Nothing is missing."""
        return not self.missing

    @property
    def impossible(self) -> bool:
        """What is missing is no program: nothing that is installed brings it."""
        return bool(self.missing) and not self.packages


def doctor() -> list[Finding]:
    """Check everything, drivers one by one."""
    findings = [
        Finding("linux", () if platform.system() == "Linux" else ("a Linux kernel",)),
        Finding("root", () if os.geteuid() == 0 else ("root rights",)),
        Finding("/dev/net/tun", () if Path("/dev/net/tun").exists() else ("the tun device",)),
        _programs("network", _BASE),
        found if (found := _programs("uml", uml.PROGRAMS)).missing else Finding("uml", uml.unsupported()),
        *(_programs(program, {program: package}) for program, package in _OF_TESTS.items()),
    ]
    for kind, driver in DRIVERS.items():
        missing = tuple(p for p in driver.programs if not _installed(p))
        missing += uml.missing_modules(driver.kernel_modules)
        if missing or "linux.uml" not in driver.programs:
            findings.append(Finding(kind, missing, driver.packages if missing else ()))
        else:
            findings.append(Finding(kind, uml.unsupported()))
    return findings


def _programs(what: str, packages: Mapping[str, str]) -> Finding:
    missing = {program: package for program, package in packages.items() if not _installed(program)}
    return Finding(what, tuple(missing), tuple(dict.fromkeys(missing.values())))


def packages_of(findings: Iterable[Finding]) -> list[str]:
    """Debian packages that bring what is missing, each once."""
    return sorted({package for finding in findings for package in finding.packages})


def apt_line(findings: Iterable[Finding]) -> str | None:
    """The command that installs what is missing, or None."""
    packages = packages_of(findings)
    return f"{' '.join(APT_INSTALL)} {' '.join(packages)}" if packages else None


def refuse_impossible(scenario: Scenario) -> None:
    """Check a scenario against this machine and the lab, before anything is made.

    Raises
    ------
    ScenarioError
        The first thing that stands in the way, and what helps.
    """
    kind = scenario.vpn.kind
    if kind not in DRIVERS:
        raise ScenarioError(
            f"vpn.kind: the lab has no driver for {kind}; it has {', '.join(sorted(DRIVERS))}"
        )
    findings = [f for f in doctor() if f.what in ("linux", "root", "/dev/net/tun", "network", kind)]
    for finding in findings:
        if not finding.well:
            line = apt_line([finding])
            advice = f"; install: {line}" if line else ""
            raise ScenarioError(f"{finding.what}: missing {', '.join(finding.missing)}{advice}")
    if scenario.vpn.countermeasures != Countermeasures() and not kind.startswith("reftunnel"):
        raise ScenarioError(
            f"vpn.countermeasures: {kind} has none; the reference tunnel and the simulator do"
        )
    if (scenario.vpn.outer_ip, scenario.vpn.inner_ip) != (4, 4):
        raise ScenarioError("vpn.outer_ip, vpn.inner_ip: the lab has IPv4 alone; simulate IPv6")
    if scenario.vpn.port and DRIVERS[kind].transport in ("esp", "gre"):
        bare = DRIVERS[kind].transport.upper()
        raise ScenarioError(f"vpn.port: {kind} sends bare {bare}, which has no ports")
    if len(scenario.clients) > _MAX_CLIENTS:
        raise ScenarioError(
            f"clients: {len(scenario.clients)} is more than the lab's {_MAX_CLIENTS}; simulate"
        )
    if scenario.internet.web_servers > MAX_WEB_SERVERS:
        raise ScenarioError(f"internet.web_servers: the lab has addresses for {MAX_WEB_SERVERS}")
    for client in scenario.clients:
        if client.flows is not None:
            raise ScenarioError(
                f"{client.name}: `flows` is for the simulator; the lab's traffic runs by the clock"
            )
        if client.host == "uml":
            _refuse_uml(client)
        for device in client.devices:
            stacks.refuse_impossible(device.stack, client.host, device.name)
            passed_on = (*THROUGH_PROXY, *(["dns"] if DRIVERS[kind].relays_lookups else []))
            deaf = [a for a in device.traffic if a not in passed_on]
            if DRIVERS[kind].relay and (deaf or client.routed):
                reason = f"{deaf[0]} cannot use a proxy" if deaf else "a relay has no devices behind it"
                raise ScenarioError(f"{device.name}: {reason}")


def _refuse_uml(client: ClientSpec) -> None:
    found = _programs("uml", uml.PROGRAMS)
    if not found.well:
        raise ScenarioError(
            f"{client.name}: host `uml` needs {', '.join(found.missing)}; install: {apt_line([found])}"
        )
    if client.routed:
        raise ScenarioError(f"{client.name}: a `uml` host has no devices behind it here")
    if client.stack.ip_id != "per_flow":
        raise ScenarioError(f"{client.name}: a `uml` host cannot change its IP IDs ({client.stack.ip_id})")
    if abs(client.stack.clock_ppm) > uml.MAX_PPM:
        raise ScenarioError(f"{client.name}: clock_ppm: a kernel corrects at most {uml.MAX_PPM} ppm")


def _installed(program: str) -> bool:
    """Whether a run would find it, which starts programs by ``PATH`` and nothing else."""
    return shutil.which(program) is not None
