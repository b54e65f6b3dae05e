"""Stated errors beside observed ones, over many damaged cases with known truth.

Each recording is damaged in several ways, several times, and correlated twice: as it is, and with one
client's packets missing from the ingress capture, so that its flows have no true tunnel to be found in. Every
case is asked for one false link; which of its links fewer would have been allowed is told by their errors.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import vpnforensics as vf
from tests.truth import OFFSET_S, RECORDINGS, carriers, degrade, load, without_client
from vpnforensics.engines import plugged
from vpnforensics.evidence.attribution import surest
from vpnforensics.evidence.policy import Policy
from vpnforensics.options import Options
from vpnforensics.validation.binomial import poisson_tail
from vpnforensics.validation.metrics import cllr

DAMAGES = ((0.05, 0.03), (0.2, 0.01), (1.0, 0.05), (2.0, 0.01), (10.0, 0.01))
"""Standard deviation of the jitter in ms, and share of packets missing on either side."""
ALLOWED = (0.01, 0.1, 1.0)
EDGES = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Judged:
    """One case: the error of each link, whether it is wrong, and all pairs' likelihood ratios."""

    def __init__(self, case: vf.CaseResult, true: list[str | None]) -> None:
        links, scores = case.links, case.scores
        client = dict(zip(case.tunnels["id"], case.tunnels["client"], strict=True))
        known = np.array([t is not None for t in true])
        linked = known & links["tunnel"].notna().to_numpy()
        right = np.array([client.get(t) == c for t, c in zip(links["tunnel"], true, strict=True)])
        self.error = links["error"].astype(float).to_numpy()[linked]
        self.wrong = ~right[linked]
        flows = {flow: n for n, flow in enumerate(links["flow"])}
        tunnels = {tunnel: n for n, tunnel in enumerate(case.tunnels["id"])}
        llr = np.repeat(links["unlisted_llr"].astype(float).to_numpy()[:, None], len(tunnels), axis=1)
        row, column = scores["flow"].map(flows), scores["tunnel"].map(tunnels)
        llr[row, column] = scores["llr"].astype(float)
        carried = np.array([[client[t] == c for t in tunnels] for c in true])
        counted = known[:, None] & np.isfinite(llr)
        self.llr, self.carried = llr[counted], carried[counted]

    def at(self, allowed: float) -> tuple[int, int]:
        """Links and wrong links where so many false ones are allowed."""
        kept = surest(self.error, allowed)
        return int(kept.sum()), int(self.wrong[kept].sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folders", nargs="*", type=Path, help="recordings with truth.json (default: those shipped)"
    )
    parser.add_argument("--seeds", type=int, default=4, help="how often each damage is done")
    parser.add_argument(
        "--understated", type=float, help="times that small errors are stated (1: as the model has them)"
    )
    parser.add_argument("--without", help="leave out one engine, lookups say")
    options = parser.parse_args()
    if options.understated is not None:
        _state(options.understated)
    folders = options.folders or sorted(p for p in RECORDINGS.iterdir() if p.is_dir())
    levels = "".join(f"{f'links at {allowed:g}':>16}{'wrong':>7}" for allowed in ALLOWED)
    print(f"{'recording':24}{'ingress':>18}{'cases':>7}{levels}")
    cases: list[Judged] = []
    for folder in folders:
        for missing in (False, True):
            found = judge(folder, options.seeds, missing=missing, without=options.without)
            print_row(folder.name, "a client missing" if missing else "whole", found)
            cases += found
    print_row("all", "", cases)
    error, wrong = np.concatenate([c.error for c in cases]), np.concatenate([c.wrong for c in cases])
    print()
    print(f"{'stated error of a link':26}{'links':>10}{'stated':>10}{'observed':>10}{'P(>=)':>12}")
    for low, high in pairwise(EDGES):
        mine = (error >= low) & (error < high)
        stated, observed = float(error[mine].sum()), int(wrong[mine].sum())
        chance = poisson_tail(observed, stated)
        print(f"{f'[{low:g}, {high:g})':26}{mine.sum():>10,}{stated:>10.3g}{observed:>10}{chance:>12.2g}")
    h1, h2 = (np.concatenate([c.llr[c.carried == which] for c in cases]) for which in (True, False))
    print(
        f"\nCllr {cllr(h1, h2):.4f}: {len(h1):,} pairs under H1, {len(h2):,} under H2, unlisted ones included"
    )


def _state(times: float) -> None:
    """Another policy for all cases of this run."""

    def policy(self: Options) -> Policy:
        return replace(Policy(expected_false_links=self.expected_false_links), understated=times)

    Options.policy = property(policy)  # type: ignore[assignment,method-assign]


def judge(folder: Path, seeds: int, *, missing: bool, without: str | None) -> list[Judged]:
    """One recording, damaged in every way."""
    engines = [name for name in plugged.all_engines() if name != without]
    recording = load(folder)
    clients = sorted({flow["client"] for flow in recording.truth["flows"]})
    found = []
    for seed in range(1, seeds + 1):
        for jitter_ms, loss in DAMAGES:
            damaged = degrade(recording, jitter_s=jitter_ms / 1e3, loss=loss, offset_s=OFFSET_S, seed=seed)
            if missing:
                damaged = without_client(damaged, clients[seed % len(clients)])
            case = vf.correlate(
                damaged.ingress,
                damaged.egress,
                expected_false_links=max(ALLOWED),
                seed=seed,
                engines=engines,
            )
            found.append(Judged(case, carriers(recording, case, offset_s=OFFSET_S)))
    return found


def print_row(name: str, ingress: str, cases: list[Judged]) -> None:
    """Links and wrong ones at every level."""
    row = f"{name:24}{ingress:>18}{len(cases):>7,}"
    for allowed in ALLOWED:
        links, wrong = (sum(column) for column in zip(*[case.at(allowed) for case in cases], strict=True))
        row += f"{links:>16,}{wrong:>7}"
    print(row, flush=True)


if __name__ == "__main__":
    main()
