"""The point-to-point protocol, which PPTP and L2TP carry: pppd on both ends, on kernels that have it.

pppd keeps its secrets and what it knows of its kin in fixed places, so each end sees folders of its own
there. A client's address stands beside its secret.
"""

from __future__ import annotations

from pathlib import Path

from vpnforensics.groundtruth.lab.drivers.base import Client, Driver
from vpnforensics.groundtruth.lab.drivers.own_kernel import KERNEL_INNER

DEV = "ppp0"
_MTU = 1400
"""What Windows and Debian's options have."""


def write_secrets(driver: Driver) -> None:
    """What stands in ``/etc/ppp`` of every end."""
    place = driver.folder / "ppp"
    place.mkdir()
    lines = [f"{c.name} server lab-{c.name} {c.inner}" for c in driver.clients]
    secrets = place / "chap-secrets"
    secrets.write_text("\n".join(lines) + "\n")
    secrets.chmod(0o600)
    (place / "options").write_text("")


def in_own_places(driver: Driver, command: str) -> list[str]:
    """A shell command that becomes the program, among folders of its own."""
    mounts = (
        "mount --make-rprivate /",
        "mount -t tmpfs run /run",
        f"mount --bind {driver.folder}/ppp /etc/ppp",
    )
    return ["unshare", "-m", "sh", "-c", " && ".join((*mounts, f"exec {command}"))]


def options(driver: Driver, identity: str, *more: str, client: Client | None = None) -> Path:
    """The file of one end's options: who it is, and nothing that changes lengths (no compression)."""
    mtu = driver.mtu or _MTU
    lines = [
        f"name {identity}",
        f"mtu {mtu}",
        f"mru {mtu}",
        "noipv6",
        "nobsdcomp",
        "nodeflate",
        "novj",
        "noipdefault",
        "lcp-echo-interval 30",
        "debug",
        f"logfile {_log(driver, identity)}",
        *(("noauth", "remotename server") if client else ("auth", f"{KERNEL_INNER}:")),
        *more,
    ]
    path = driver.folder / f"ppp-options-{identity}"
    path.write_text("\n".join(lines) + "\n")
    return path


def wait_until_joined(driver: Driver, client: Client) -> str:
    """Wait until a client's pppd has brought its device up, and return its name."""
    log = _log(driver, client.name)
    driver.processes.wait_for(
        f"pppd of {client.name}",
        lambda: log.exists() and f"local  IP address {client.inner}" in log.read_text(errors="replace"),
    )
    return DEV


def _log(driver: Driver, identity: str) -> Path:
    return driver.folder / f"pppd-{identity}.log"
