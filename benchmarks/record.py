"""Record judges: five busy clients for a minute, one folder for each kind of VPN and seed (root).

python benchmarks/record.py FOLDER --seeds 1 2 3 [--kinds wireguard openvpn-udp strongswan]

For `benchmarks/truth.py FOLDER/*` and `benchmarks/error_rate.py FOLDER/*`. What has once been looked at is no
judge any more: take other seeds. What is there already stays.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vpnforensics.groundtruth import scenario
from vpnforensics.groundtruth.lab.run import run

SCENARIO = Path(__file__).parent / "busy.yaml"
KINDS = ("openvpn-udp", "strongswan", "wireguard")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    options = parser.parse_args()
    text = SCENARIO.read_text()
    for seed in options.seeds:
        for kind in options.kinds:
            folder = options.folder / f"{kind}-{seed}"
            if not (folder / "truth.json").exists():
                run(scenario.loads(text.replace("kind: wireguard", f"kind: {kind}"), seed=seed), folder)
            print(folder, flush=True)


if __name__ == "__main__":
    main()
