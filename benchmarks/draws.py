"""How many links hang on what was drawn: the same cases decided again with other seeds (``--seed``).

The damage is that of `benchmarks/truth.py`: two clocks, 1 % of the packets lost on either side, normal jitter
at egress.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import vpnforensics as vf
from tests.truth import OFFSET_S, RECORDINGS, degrade, load

JITTERS_MS = (0.2, 2.0, 10.0)
SEEDS = range(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folders", nargs="*", type=Path, help="recordings with truth.json (default: those shipped)"
    )
    options = parser.parse_args()
    folders = options.folders or sorted(p for p in RECORDINGS.iterdir() if p.is_dir())
    print(f"{'recording':22}{'jitter ms':>10}{'links, by seed':>{7 * len(SEEDS)}}{'most - fewest':>16}")
    for folder in folders:
        recording = load(folder)
        for jitter_ms in JITTERS_MS:
            damaged = degrade(recording, jitter_s=jitter_ms / 1e3, offset_s=OFFSET_S)
            cases = [vf.correlate(damaged.ingress, damaged.egress, seed=seed) for seed in SEEDS]
            links = [int(case.links["tunnel"].notna().sum()) for case in cases]
            apart = (max(links) - min(links)) / max(max(links), 1)
            print(
                f"{folder.name:22}{jitter_ms:10g}{''.join(f'{n:7}' for n in links)}{apart:16.2%}", flush=True
            )


if __name__ == "__main__":
    main()
