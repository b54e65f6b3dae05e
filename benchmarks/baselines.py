"""What other methods do on the pairs that the validation is made on: writes docs/baselines.md.

python benchmarks/baselines.py               trains the networks, then all sessions, as they are and damaged
python benchmarks/baselines.py --quick       only the samples, without networks; nothing is written
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.validation import DOCS, DRIFT_PPM, SIMULATED, make, mix
from tests.readable import write_readable
from tests.truth import OFFSET_S, RECORDINGS
from vpnforensics import samples
from vpnforensics.cli.train_baselines import PROTOCOLS, simulated
from vpnforensics.options import Options
from vpnforensics.validation.baselines.networks.training import (
    DAMAGES,
    STEPS,
    Trained,
    refuse_trained_on,
    timed,
    train,
)
from vpnforensics.validation.baselines.networks.weights import load
from vpnforensics.validation.baselines.table import all_timed
from vpnforensics.validation.baselines.tables import baseline_tables
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.markdown import table_text
from vpnforensics.validation.report import gather, report
from vpnforensics.validation.sessions import Session, open_sessions
from vpnforensics.validation.trials import Plan, every

DAMAGED = Damage(2.0, 0.01, OFFSET_S, DRIFT_PPM)
READABLE = "sim-readable-30"
"""Its ingress side is what is inside the tunnels: for methods that compare header fields."""
HEAD = """# Baselines

Made by `make baselines`; what stands here is overwritten by the next run.

What other methods make of the comparisons that `vpnf validate` judges. `vpnf validate DIR... --baselines`
does the same on your captures. None of these methods is part of a verdict.

- **spearman (RAPTOR)**, **pearson**, **cosine**: bytes of flow and tunnel in 512 bins over the flow's
  time, correlated; by ranks as RAPTOR does (Sun et al. 2015).
- **count containment**: the share of the flow's packets for which the tunnel has one in the same bin.
- **fields (CapMaster-like)**: TCP header fields compared connection by connection with the weights that the
  [CapMaster](https://github.com/rickypin/capmaster) tool states. It speaks only where both sides can be read:
  of one session here.
- **deepcorr (style)**: a small network after DeepCorr (Nasr et al. 2018): both sequences of gaps and sizes
  convolved together. **deepcoffea (style)**: small embeddings after DeepCoFFEA (Oh et al. 2022): windows of
  either side as points, the mean of their cosines. Both are trained by `vpnf train-baselines -o FILE`, the
  same every time, on simulated sessions with seeds of their own, as they are and with jitter and loss; and
  both are far smaller than their models, which were trained on real Tor traffic.

All are given the tunnels, directions and clocks that vpnforensics found: taken alone, they would have to find
those first. All but counting were made for two ends of one connection; that a tunnel carries many flows at a
time is what they are not made for. How they are written here is ours, not their authors': a better one may
exist. Nothing in them was chosen on the sessions judged here.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the samples; prints the tables")
    parser.add_argument(
        "--networks", type=Path, metavar="FILE", help="trained before, by vpnf train-baselines"
    )
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    options, baselines = Options(seed=chosen.seed), all_timed()
    if not chosen.quick:
        networks = load(chosen.networks) if chosen.networks else trained(chosen.seed)
        baselines |= timed(networks)
    with tempfile.TemporaryDirectory() as folder:
        folders = [samples.FOLDER]
        if not chosen.quick:
            make(Path(folder))
            write_readable(Path(folder) / READABLE, mix(30, "wireguard", 109), 109)
            folders += [RECORDINGS, Path(folder)]
        sessions = open_sessions(folders)
        if not chosen.quick:
            refuse_trained_on(networks, sessions)
        began = time.perf_counter()
        material = gather(
            plan(sessions), options,
            lambda step, share: print(f"{share:4.0%} {step}", flush=True), baselines,
        )  # fmt: skip
        case_s = time.perf_counter() - began - sum(each.took_s for each in baselines.values())
        document = report(material, options, ["python", "benchmarks/baselines.py"], baselines, case_s)
    text = page(document)
    if chosen.quick:
        print(text)
        return
    (DOCS / "baselines.md").write_text(text, encoding="utf-8")


def trained(seed: int) -> list[Trained]:
    """As `vpnf train-baselines` does."""
    with tempfile.TemporaryDirectory() as folder:
        sessions = open_sessions(simulated(Path(folder), len(PROTOCOLS), seed))
        return train(every(sessions, DAMAGES), STEPS, seed, lambda step, share: print(step, flush=True))


def plan(sessions: list[Session]) -> Plan:
    """Each session as it is, and once more with jitter, loss and another clock; a large one once."""
    large = {name for name, each in SIMULATED.items() if not each.damaged}
    return [
        pair for s in sessions for pair in every([s], [Damage()] if s.name in large else [Damage(), DAMAGED])
    ]


def page(document: Mapping[str, Any]) -> str:
    tool, counts = document["tool"], document["counts"]
    parts = [
        HEAD,
        f"vpnforensics {tool['version']}, commit {str(tool['commit'])[:12]}, {tool['date']}, seed"
        f" {tool['seed']}; {counts['sessions']} capture sessions (samples, recordings, simulated ones,"
        f" as they are and with jitter of 2 ms standard deviation, 1 % loss and another clock),"
        f" {counts['cases']} cases, {counts['true']:,} true and {counts['false']:,} false comparisons.",
    ]
    for table in baseline_tables(document):
        parts += [f"\n## {table.caption}\n", table.note + "\n", table_text(table)]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
