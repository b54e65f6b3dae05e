"""Record judges, one folder for each kind of VPN and seed (root).

python benchmarks/record.py FOLDER --seeds 1 2 3 [--kinds wireguard openvpn-udp strongswan]

Five busy clients for a minute, for `benchmarks/truth.py FOLDER/*` and `benchmarks/error_rate.py FOLDER/*`;
of relays eight for half of one, for `benchmarks/stream_aims.py FOLDER/*`. What has once been looked at is no
judge any more: take other seeds. What is there already stays.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.stream_aims import AIMS
from vpnforensics.groundtruth import scenario
from vpnforensics.groundtruth.lab.drivers import DRIVERS
from vpnforensics.groundtruth.lab.run import run

SCENARIO, OF_RELAYS = (Path(__file__).parent / name for name in ("busy.yaml", "relays.yaml"))
KINDS = ("openvpn-udp", "strongswan", "wireguard")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    options = parser.parse_args()
    for seed in options.seeds:
        for kind in options.kinds:
            folder = options.folder / f"{kind}-{seed}"
            if not (folder / "truth.json").exists():
                text = (OF_RELAYS if kind in AIMS or DRIVERS[kind].relay else SCENARIO).read_text()
                run(scenario.loads(re.sub(r"kind: \w+", f"kind: {kind}", text), seed=seed), folder)
            print(folder, flush=True)


if __name__ == "__main__":
    main()
