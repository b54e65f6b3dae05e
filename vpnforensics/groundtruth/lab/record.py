"""Record a VPN server from both sides with a usual mix of clients, without writing a scenario.

Run as root: ``python -m vpnforensics.groundtruth.lab.record --vpn wireguard --clients 3 --seconds 75 --seed 1
-o DIR``. The first client browses, types and looks up names; the second downloads; the third is nearly idle.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab.drivers import DRIVERS
from vpnforensics.groundtruth.lab.run import run
from vpnforensics.groundtruth.lab.traffic import THROUGH_PROXY
from vpnforensics.groundtruth.scenario import Scenario, loads

_MIXES: tuple[tuple[str, ...], ...] = (
    ("browse", "browse", "ssh", "dns", "ping"),
    ("download", "browse", "dns"),
    ("idle", "dns", "ssh"),
    ("browse", "ssh", "upload", "dns"),
    ("idle", "ping"),
)


def usual(vpn: str, clients: int, seconds: float, seed: int, *, inner: bool = False) -> Scenario:
    """A scenario of mixed clients."""
    mixes = [_MIXES[i % len(_MIXES)] for i in range(clients)]
    if vpn in DRIVERS and DRIVERS[vpn].relay:
        mixes = [tuple(a for a in mix if a in THROUGH_PROXY) or ("browse",) for mix in mixes]
    document = {
        "name": f"{vpn}-usual",
        "duration_s": seconds,
        "vpn": {"kind": vpn},
        "clients": [{"traffic": list(mix)} for mix in mixes],
        "capture": {"inner": inner},
    }
    return loads(json.dumps(document), name="record", seed=seed)  # JSON is YAML


def main(argv: list[str] | None = None) -> int:
    """Command line of the recorder."""
    parser = argparse.ArgumentParser(prog="record", description="Record a VPN server from both sides.")
    parser.add_argument("--vpn", choices=sorted(DRIVERS), required=True)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inner", action="store_true", help="also keep the captures inside the tunnel")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(argv)
    try:
        scenario = usual(options.vpn, options.clients, options.seconds, options.seed, inner=options.inner)
        result = run(scenario, options.out)
    except ScenarioError as error:
        sys.stderr.write(f"record: {error}\n")
        return 2
    sys.stderr.write(f"{result.folder}: {result.captured} {result.coverage.as_dict()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
