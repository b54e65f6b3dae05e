"""Wrong links over many damaged cases with known truth, beside the number that they were allowed.

Each recording is damaged in several ways, several times, and correlated twice: as it is, and with one
client's packets missing from the ingress capture, so that its flows have no true tunnel to be found in.
"""

from __future__ import annotations

import argparse
import sys
from math import exp, factorial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import vpnforensics as vf
from tests.truth import OFFSET_S, RECORDINGS, Recording, degrade, load, tally, without_client
from vpnforensics.casework import EXPECTED_FALSE_LINKS

DAMAGES = ((0.05, 0.03), (0.2, 0.01), (1.0, 0.05), (2.0, 0.01))
"""Standard deviation of the jitter in ms, and share of packets missing on either side."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folders", nargs="*", type=Path, help="recordings with truth.json (default: those shipped)"
    )
    parser.add_argument("--seeds", type=int, default=4, help="how often each damage is done")
    options = parser.parse_args()
    folders = options.folders or sorted(p for p in RECORDINGS.iterdir() if p.is_dir())
    print(f"{'recording':24}{'ingress':>18}{'cases':>8}{'links':>10}{'wrong':>8}{'allowed':>10}")
    everything = [0, 0, 0]
    for folder in folders:
        recording = load(folder)
        for missing in (False, True):
            counts = counted(recording, options.seeds, missing=missing)
            print_row(folder.name, "a client missing" if missing else "whole", counts)
            everything = [a + b for a, b in zip(everything, counts, strict=True)]
    print_row("all", "", everything)
    cases, _, wrong = everything
    chance = poisson_tail(wrong, cases * EXPECTED_FALSE_LINKS)
    print(f"\nP(so many wrong or more | the stated rate) = {chance:.2g}")


def counted(recording: Recording, seeds: int, *, missing: bool) -> list[int]:
    """Cases, links and wrong links of one recording."""
    clients = sorted({flow["client"] for flow in recording.truth["flows"]})
    cases = links = wrong = 0
    for seed in range(1, seeds + 1):
        for jitter_ms, loss in DAMAGES:
            damaged = degrade(recording, jitter_s=jitter_ms / 1e3, loss=loss, offset_s=OFFSET_S, seed=seed)
            if missing:
                damaged = without_client(damaged, clients[seed % len(clients)])
            case = vf.correlate(damaged.ingress, damaged.egress, seed=seed)
            cases += 1
            links += int((case.links["verdict"] == "linked").sum())
            wrong += tally(damaged, case, offset_s=OFFSET_S).wrong
    return [cases, links, wrong]


def print_row(name: str, ingress: str, counts: list[int]) -> None:
    cases, links, wrong = counts
    print(
        f"{name:24}{ingress:>18}{cases:>8,}{links:>10,}{wrong:>8}{cases * EXPECTED_FALSE_LINKS:>10.2f}",
        flush=True,
    )


def poisson_tail(least: int, mean: float) -> float:
    """P(``least`` or more) at a Poisson mean."""
    return 1.0 - sum(exp(-mean) * mean**k / factorial(k) for k in range(least))


if __name__ == "__main__":
    main()
