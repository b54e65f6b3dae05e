"""All engines together against ``packets`` alone: links and Cllr on every sample with known truth.

Cllr is over all flows and tunnels of the case; pairs that a result does not list stand at its lower bound,
one over the number of its links. 0 is perfect, 1 is worthless.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import vpnforensics as vf
from tests.truth import host, known_clients
from vpnforensics import samples
from vpnforensics.validation.metrics import cllr


@dataclass(frozen=True)
class Judged:
    """One sample with one choice of engines."""

    linked: int
    wrong: int
    cllr: float


def judge(sample: samples.Sample, case: vf.CaseResult) -> Judged:
    """Links and likelihood ratios of ``case`` against the truth."""
    clients: dict[tuple[str, str], set[str | None]] = {}
    for flow in sample.truth["flows"]:
        clients.setdefault((flow["src"], flow["dst"]), set()).update((flow["client"], host(flow["client"])))
    ends = dict(zip(case.flows["id"], zip(case.flows["src"], case.flows["dst"], strict=True), strict=True))
    client_of = known_clients(case)

    def true(flow: str, tunnel: str) -> bool:
        return not clients.get(ends[flow], set()).isdisjoint(client_of[tunnel])

    links = case.links[case.links["verdict"] == "linked"]
    wrong = sum(not true(f, t) for f, t in zip(links["flow"], links["tunnel"], strict=True))
    said = {(f, t): llr for f, t, llr in case.scores[["flow", "tunnel", "llr"]].itertuples(index=False)}
    floor = -np.log10(max(len(links), 1))
    by_truth: dict[bool, list[float]] = {True: [], False: []}
    for flow in ends:
        for tunnel in client_of:
            llr = said.get((flow, tunnel), np.nan)
            by_truth[true(flow, tunnel)].append(llr if llr == llr else floor)
    return Judged(len(links), wrong, cllr(np.array(by_truth[True]), np.array(by_truth[False])))


def compare(name: str) -> tuple[Judged, Judged, Counter[str]] | None:
    """``packets`` alone, all engines, and how many pairs each engine spoke of; ``None`` without a case."""
    sample = samples.load(name)
    try:
        alone = vf.correlate(sample.ingress, sample.egress, engines=("packets",))
        every = vf.correlate(sample.ingress, sample.egress)
    except vf.errors.CaseError:
        return None
    llr = every.scores.filter(regex="_llr$")
    spoken = Counter({name.removesuffix("_llr"): int(llr[name].notna().sum()) for name in llr})
    return judge(sample, alone), judge(sample, every), spoken


def main() -> None:
    print(f"{'sample':24}{'links, wrong: packets':>24}{'all':>12}{'Cllr: packets':>16}{'all':>9}  speaking")
    worse = 0
    for name in samples.names():
        found = compare(name)
        if found is None:
            print(f"{name:24}{'no tunnel with packets that can be compared':>36}")
            continue
        alone, every, spoken = found
        bad = every.linked < alone.linked or every.wrong > alone.wrong or every.cllr > alone.cllr + 1e-9
        worse += bad
        print(
            f"{name:24}{alone.linked:>18}, {alone.wrong:>4}{every.linked:>8}, {every.wrong:>2}"
            f"{alone.cllr:>16.4f}{every.cllr:>9.4f}  "
            + " ".join(f"{engine} {n}" for engine, n in spoken.items() if n and engine != "packets")
            + ("  WORSE" if bad else "")
        )
    sys.exit(worse > 0)


if __name__ == "__main__":
    main()
