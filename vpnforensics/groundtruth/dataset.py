"""A labelled set of capture sessions for others to work with: both sides, truth, manifest, licence, splits.

Run: ``python -m vpnforensics.groundtruth.dataset DIR [KIND ...] [--size SIZE] [--seed N] [--no-lab]``.
Every session is one run of one VPN with three kinds of clients. The simulator's are always made, and are the
same bytes for the same size and seed; as root the lab records the VPN programs that are installed, too. What
is split is sessions: flows of one share its server, its clients and its clocks.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vpnforensics._version import __version__
from vpnforensics.errors import ScenarioError, VpnForensicsError
from vpnforensics.groundtruth.scenario import loads

SCHEMA_VERSION = 1
SIMULATED = (
    "wireguard", "openvpn-udp", "strongswan", "ocserv-dtls", "nebula", "tinc", "openvpn-tcp", "ocserv-tls",
    "ssh-tun", "socks", "http-proxy", "shadowsocks", "trojan", "ssh-socks", "tor",
)  # fmt: skip
"""What the simulator plays of what the lab records."""
_CUT = (
    "wireguard", "openvpn-udp", "strongswan", "strongswan-kernel", "ocserv-dtls", "nebula", "tinc",
    "reftunnel",
)  # fmt: skip
"""Datagrams are cut to their headers; of all others whole segments are kept, since records lie inside."""
_CUT_BYTES = 128
_SPLITS = ("train", "validation", "test")
_SHARES = (0.6, 0.8)
"""Where, within the sessions of one VPN, validation and test begin."""
CLIENTS: tuple[dict[str, Any], ...] = (
    {"name": "desk", "stack": {"personality": "windows"}, "traffic": ["browse", "browse", "dns"]},
    {"name": "terminal", "stack": {"personality": "linux"}, "traffic": ["ssh", "dns", "ping"]},
    {"name": "phone", "stack": {"personality": "macos"}, "traffic": ["voip", "browse", "dns", "idle"]},
)
"""Three kinds: who browses, who types, who calls; each with its operating system's stack."""
_PROXIED = {"desk": ["browse", "browse"], "terminal": ["download", "idle"], "phone": ["browse", "longpoll"]}
"""What they do instead where only a proxy's connections can be made."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to make."""

    sessions: int
    """Of each VPN, by the simulator; the lab records a third of it, and at least one a split."""
    clients: int
    """Of each kind, in a session."""
    duration_s: int


SIZES = {"small": Size(3, 1, 20), "medium": Size(6, 2, 60), "large": Size(20, 3, 120)}


def make(
    folder: Path,
    size: Size,
    *,
    seed: int,
    kinds: Sequence[str] = SIMULATED,
    lab: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write a data set into a new or empty folder, and return its manifest.

    Parameters
    ----------
    folder : Path
    size : Size
    seed : int
        Of the set; each session's own follows from it, its VPN and its number.
    kinds : sequence of str
        VPNs to simulate.
    lab : sequence of str
        VPNs to record; needs root and their programs.
    tell : callable
        Called with the name of each session that is begun, and why one could not be recorded.

    Raises
    ------
    ScenarioError
        The folder is not empty, or the simulator does not know a kind.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ScenarioError(f"{folder}: is there already, and is no empty folder; name another one")
    rows = []
    for maker, kind, number, of in _planned(kinds, lab, size):
        split = _split(number, of)
        name = f"{maker}-{kind}-{number:02d}"
        tell(f"{split}/{name}")
        text = _scenario(name, kind, size, _seed(seed, maker, kind, number))
        try:
            rows.append({"name": name, "split": split, **_session(folder / split / name, maker, kind, text)})
        except VpnForensicsError as error:
            if maker != "lab":
                raise
            tell(f"{name} could not be recorded, and is left out: {error}")
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": f"vpnforensics-{size.sessions}x{3 * size.clients}x{size.duration_s}s-{seed}",
        "tool": f"vpnforensics {__version__}",
        "seed": seed,
        "license": "CC-BY-4.0",
        "sessions": rows,
    }
    for name, content in _papers(manifest):
        (folder / name).write_text(content, encoding="utf-8")
    return manifest


def _planned(kinds: Sequence[str], lab: Sequence[str], size: Size) -> Iterator[tuple[str, str, int, int]]:
    recorded = max(len(_SPLITS), size.sessions // 3)
    for maker, of_maker, count in (("simulated", kinds, size.sessions), ("lab", lab, recorded)):
        for kind in of_maker:
            for number in range(count):
                yield maker, kind, number, count


def _split(number: int, of: int) -> str:
    """Which split the session is in, of so many of one VPN; each has one at least, from three on."""
    validation = min(round(_SHARES[0] * of), of - 2)
    test = min(max(round(_SHARES[1] * of), validation + 1), of - 1)
    begin = (validation, test)
    return _SPLITS[sum(number >= each for each in begin)]


def _instead(name: str, kind: str) -> dict[str, Any]:
    """What a client does where there are only a relay's connections."""
    from vpnforensics.groundtruth.lab.drivers import DRIVERS

    return {"traffic": _PROXIED[name]} if kind in DRIVERS and DRIVERS[kind].relay else {}


def _seed(seed: int, *of: object) -> int:
    digest = hashlib.sha256(" ".join(map(str, (seed, *of))).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _scenario(name: str, kind: str, size: Size, seed: int) -> str:
    """One session as YAML: the clocks, loss and jitter of the taps are drawn."""
    rng = np.random.default_rng(seed)
    loss = float(rng.choice([0.0, 0.002, 0.01]))
    snaplen = _CUT_BYTES if kind in _CUT else 0
    offset_s, drift_ppm = round(float(rng.uniform(-3600, 3600)), 6), round(float(rng.uniform(-40, 40)), 3)
    scenario = {
        "name": name,
        "description": f"{size.clients} desks, terminals and phones behind {kind}; two clocks.",
        "duration_s": size.duration_s,
        "seed": seed,
        "vpn": {"kind": kind},
        "clients": [
            {**each, **_instead(each["name"], kind), "count": size.clients} for each in CLIENTS
        ],
        "capture": {
            "ingress": {"snaplen": snaplen, "loss": loss},
            "egress": {
                "snaplen": snaplen, "loss": loss, "clock_offset_s": offset_s, "clock_drift_ppm": drift_ppm,
                "jitter_ms": float(rng.choice([0.0, 0.2, 1.0])),
            },
        },
    }  # fmt: skip
    return yaml.safe_dump(scenario, sort_keys=False)


def _session(folder: Path, maker: str, kind: str, text: str) -> dict[str, Any]:
    """Make one session, and say what it is."""
    scenario = loads(text, name=folder.name)
    if maker == "lab":
        from vpnforensics.groundtruth.lab.run import run

        run(scenario, folder)
    else:
        from vpnforensics.groundtruth.simulate.from_scenario import simulate_scenario

        simulate_scenario(scenario, folder)
    (folder / "scenario.yaml").write_text(text, encoding="utf-8")
    truth = json.loads((folder / "truth.json").read_text())
    there = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        "maker": maker,
        "protocol": kind,
        "seed": scenario.seed,
        "tunnels": len(truth["tunnels"]),
        "flows": len(truth["flows"]),
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in there},
    }


def _papers(manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What stands beside the sessions."""
    rows = manifest["sessions"]
    yield "manifest.json", json.dumps(manifest, indent=1) + "\n"
    sheet = io.StringIO(newline="")
    columns = ("name", "split", "maker", "protocol", "seed", "tunnels", "flows")
    writer = csv.DictWriter(sheet, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    yield "splits.csv", sheet.getvalue()
    sums = [
        f"{digest}  {row['split']}/{row['name']}/{name}\n"
        for row in rows
        for name, digest in row["files"].items()
    ]
    yield "SHA256SUMS", "".join(sums)
    yield "LICENSE", _LICENSE
    counts = {split: sum(row["split"] == split for row in rows) for split in _SPLITS}
    yield (
        "README.md",
        (files(__package__) / "datasheet.md")
        .read_text(encoding="utf-8")
        .format(
            name=manifest["name"],
            tool=manifest["tool"],
            sessions=len(rows),
            flows=f"{sum(row['flows'] for row in rows):,}",
            recorded=sum(row["maker"] == "lab" for row in rows),
            kinds=", ".join(dict.fromkeys(row["protocol"] for row in rows)),
            splits=", ".join(f"{split} {count}" for split, count in counts.items()),
        ),
    )


_LICENSE = """Creative Commons Attribution 4.0 International (CC BY 4.0)

The captures, truths and scenarios in this folder may be shared and adapted for any purpose, if their makers
are named and changes are said: https://creativecommons.org/licenses/by/4.0/legalcode
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; what it says goes to standard error."""
    parser = argparse.ArgumentParser(prog="vpnforensics.groundtruth.dataset", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="VPNs; all by default")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-lab", action="store_true", help="record nothing, also as root")
    given = parser.parse_args(arguments)

    def say(text: str) -> None:
        sys.stderr.write(text + "\n")

    lab: list[str] = []
    if os.geteuid() == 0 and not given.no_lab:
        from vpnforensics.groundtruth.lab.doctor import doctor
        from vpnforensics.groundtruth.lab.drivers import DRIVERS

        missing = {found.what for found in doctor() if found.missing}
        lab = [kind for kind in DRIVERS if kind not in missing and (not given.kinds or kind in given.kinds)]
    kinds = [kind for kind in given.kinds or SIMULATED if kind in SIMULATED or kind not in lab]
    try:
        size = SIZES[given.size]
        made = make(given.folder, size, seed=given.seed, kinds=kinds, lab=lab, tell=say)
    except VpnForensicsError as error:
        say(f"dataset: error: {error}")
        return 2
    say(f"{given.folder}: {len(made['sessions'])} sessions, {made['name']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
